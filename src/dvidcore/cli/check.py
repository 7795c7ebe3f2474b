"""``dvidcore check``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

DISAGREES, CANNOT_OPEN = 1, 2


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Write what can be recomputed: indices, totals, counters, extents.")
@click.option(
    "--strict", is_flag=True, help="Also what clients may have meant is an error, as coarser scales of theirs."
)
@click.option("--instance", default="", metavar="NAME", help="Only the instances of this name.")
def check(*, store: Path, repair: bool, strict: bool, instance: str) -> None:
    """Tell where what is stored disagrees with itself.

    STORE is the folder of a store, or the TOML file of a server; no server may be running over it. Every disagreement
    is a line: where, what is stored, what it should be. Lines that begin with "note:" are not errors.

    --repair recomputes what follows from voxels and mappings, which it never changes, at the versions where it is
    wrong, committed ones too.

    Exit code: 0 all is well (or was repaired), 1 something disagrees, 2 the store cannot be opened.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from dvidcore.checking import Finding, open_store
    from dvidcore.checking import check as run
    from dvidcore.config import ConfigError
    from dvidcore.errors import BadRequest, DvidError

    console = Console(stderr=True)
    try:
        database = open_store(store).database
    except (DvidError, ConfigError, OSError) as error:
        console.print(f"dvidcore: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(CANNOT_OPEN)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"))
    bars = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # else what goes to a file would come to the terminal
    )
    with database, bars as bar:
        task = bar.add_task("", total=None)
        shown = ""

        def progress(what: str, rows: int) -> None:
            nonlocal shown
            if what != shown:
                bar.reset(task, description=what, total=None)
                shown = what
            bar.advance(task, rows)

        def report(finding: Finding) -> None:
            click.echo(str(finding))

        names = {name for repo in database.repos.values() for name in repo.instances}
        try:
            if instance and instance not in names:
                raise BadRequest(f'there is no instance "{instance}", only {", ".join(sorted(names)) or "none at all"}')
            outcome = run(database, report, progress=progress, strict=strict, repair=repair, instance=instance)
        except DvidError as error:
            console.print(f"dvidcore: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            sys.exit(CANNOT_OPEN if isinstance(error, BadRequest) else DISAGREES)
    if outcome.serious:
        text = f"{outcome.serious} disagreements"
        text += f", {outcome.left} of them left" if repair else ""
    else:
        text = "all agrees"
    click.echo(text + (f", {outcome.notes} notes" if outcome.notes else ""))
    if not outcome.clean:
        sys.exit(DISAGREES)
