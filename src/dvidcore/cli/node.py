"""``dvidcore node``: maintenance of one label instance, on a store that no server holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvidcore.cli.stores import opened

if TYPE_CHECKING:
    from dvidcore.datatypes.call import Buffer, Call
    from dvidcore.datatypes.labels.engine import LabelEngine


@dataclass
class Where:
    """The instance that a command is about."""

    store: Path
    version: str
    name: str

    @contextmanager
    def opened(self) -> Iterator[tuple[LabelEngine, Call]]:
        """The instance and a call at the version; what is wrong with them ends the command."""
        from dvidcore.datatypes.call import Call
        from dvidcore.datatypes.labels.engine import LabelEngine
        from dvidcore.datatypes.registry import Instances
        from dvidcore.errors import BadRequest

        with opened(self.store) as database:
            repo, node = database.resolve(self.version)
            data = Instances(database).named(repo, self.name)
            if not isinstance(data, LabelEngine):
                raise BadRequest(f'"{self.name}" is of type {data.typename}, which has no labels')
            call = Call(data.engine, node, database.ancestry_for(repo, node, data.record), app="dvidcore")
            try:
                yield data, call
            finally:
                call.close()


@click.group()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("version")
@click.argument("data")
@click.pass_context
def node(context: click.Context, store: Path, version: str, data: str) -> None:
    """Maintain the label instance DATA at VERSION (a UUID, UUID:branch) of a STORE.

    STORE is the folder of a store, or the TOML file of a server; no server may be running over it.
    """
    context.obj = Where(store, version, data)


@node.command()
@click.argument("what", type=click.Choice(["svcount", "mappings", "indices"]))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def dump(where: Where, what: str, file: Path) -> None:
    """Append lines of numbers to FILE.

    svcount: supervoxel, z, y, x, voxels; mappings: supervoxel, body (those that differ); indices: body, supervoxel, z, y,
    x, voxels. Coordinates are those of blocks.
    """
    from dvidcore.datatypes.labels import maintenance

    dumps: dict[str, Callable[[LabelEngine, Call], Iterator[Buffer]]] = {
        "svcount": maintenance.dump_counts,
        "mappings": maintenance.dump_mappings,
        "indices": maintenance.dump_indices,
    }
    with where.opened() as (data, call), file.open("ab") as out:
        for lines in dumps[what](data, call):
            out.write(lines)


@node.command("set-nextlabel")
@click.argument("label", type=click.IntRange(1, 2**64 - 2))
@click.argument("ceiling", type=click.IntRange(0, 2**64 - 1), required=False)
@click.pass_obj
def set_nextlabel(where: Where, label: int, ceiling: int | None) -> None:
    """Give out new labels from LABEL + 1 on, up to CEILING (0: without one; left out: as it is)."""
    from dvidcore.datatypes.labels.writing import allocation

    with where.opened() as (data, call):
        allocation.set_nextlabel(data, call, label, ceiling)
        click.echo(f"new labels come after {label}")


@node.command("repair-maxlabel")
@click.option("--commit", is_flag=True, help="Write what was found; without, it is only shown.")
@click.pass_obj
def repair_maxlabel(where: Where, commit: bool) -> None:
    """Recompute the largest labels, of all versions and of the repo, from indices and mappings.

    This may lower them, so that labels which were given out and never used are given out again.
    """
    from dvidcore.datatypes.labels import maintenance

    with where.opened() as (data, call):
        stored, found = maintenance.stored_maxima(data, call.snapshot), maintenance.true_maxima(data, call.snapshot)
        for version in sorted({*stored.versions, *found.versions}):
            uuid = data.repo.dag.nodes[version].uuid if version in data.repo.dag.nodes else f"version {version}"
            click.echo(f"{uuid} {_shown(stored.versions.get(version))} -> {_shown(found.versions.get(version))}")
        click.echo(f"repo {stored.repo} -> {found.repo}")
        if commit:
            maintenance.repair_maxima(data)
        elif stored != found:
            click.echo("nothing was changed; --commit writes it")


def _shown(label: int | None) -> str:
    return "its ancestors'" if label is None else str(label)
