"""``dvidcore load``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvidcore.errors import DvidError

if TYPE_CHECKING:
    from rich.console import Console

    from dvidcore.geometry import ZYX
    from dvidcore.loading import Job, Target
    from dvidcore.loading.parallel import Workers

_INTERRUPTED = 130


class Point(click.ParamType):  # type: ignore[type-arg]
    """``X,Y,Z`` as ZYX."""

    name = "X,Y,Z"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from dvidcore.errors import BadRequest
        from dvidcore.geometry import parse_point

        if not isinstance(value, str):
            return value
        try:
            return parse_point(value, "point", ",")
        except BadRequest as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SOURCE...")
@click.option("--to", "target", required=True, help="Folder of a store, or URL of a server (http://host:port).")
@click.option("--instance", "name", required=True, help="The image or label instance.")
@click.option("--version", default=":master", show_default=True, help="The version, as in URLs: a UUID, UUID:branch.")
@click.option("--create", "typename", metavar="TYPE", help="Make the instance (and a first repo) where there is none.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the instance that is made.")
@click.option("--offset", type=Point(), default="0,0,0", show_default=True, help="Where the first voxel comes to.")
@click.option(
    "--from", "start", type=Point(), default="0,0,0", show_default=True, help="The first voxel of the source."
)
@click.option("--size", type=Point(), help="How many voxels; all by default.")
@click.option("--dataset", default="", help="The array in an HDF5 or zarr file.")
@click.option("--axes", default="zyx", show_default=True, help="The order of an array's axes.")
@click.option("--workers", type=click.IntRange(1), help="Boxes at a time; the number of processors by default.")
@click.option("--box", "megabytes", type=click.IntRange(1, 1024), default=8, show_default=True, help="MB of a box.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="The file that keeps the progress.")
@click.option("--user", default="", help="The name that changes are logged under.")
def load(*, sources: tuple[Path, ...], workers: int | None, **options: Any) -> None:
    """Load a volume into an image or label instance.

    SOURCE is a folder of images, images (PNG, JPEG, TIFF with one or more pages, a section each), or an array: .npy,
    HDF5, zarr. Images are taken in the natural order of their names.

    A volume may lie anywhere: voxels around it keep their values. A load that is killed goes on where it was when the
    same command is given again; a small file in the current folder knows what is stored, and is removed at the end.
    """
    from rich.console import Console

    from dvidcore.loading.parallel import Workers
    from dvidcore.pool import processors

    console = Console(stderr=True)
    try:
        with Workers(workers or processors()) as shared:
            _run(sources, shared, console, **options)
    except (DvidError, OSError) as error:
        console.print(f"dvidcore: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where it was")
        sys.exit(_INTERRUPTED)


def _run(
    sources: tuple[Path, ...],
    workers: Workers,
    console: Console,
    *,
    target: str,
    name: str,
    version: str,
    typename: str | None,
    settings: tuple[str, ...],
    offset: ZYX,
    start: ZYX,
    size: ZYX | None,
    dataset: str,
    axes: str,
    megabytes: int,
    state: Path | None,
    user: str,
) -> None:
    from dvidcore.loading import Job, open_source

    with ExitStack() as opened:
        made = _settings(settings) if typename else {}
        place = _target(opened, target, version=version, name=name, typename=typename, settings=made, user=user)
        with console.status("looking at the source"):
            source = open_source(sources, dataset=dataset, axes=axes, labels=place.labels, workers=workers)
            opened.callback(source.close)
        job = Job(source, place, offset, start, size, megabytes << 20)
        _load(job, state or job.state_file(Path.cwd()), workers, console)


def _target(
    opened: ExitStack,
    target: str,
    *,
    version: str,
    name: str,
    typename: str | None,
    settings: dict[str, Any],
    user: str,
) -> Target:
    """The instance, in the store of a folder or at a server; made, where that is wanted, if there is none."""
    import dvidcore
    from dvidcore.loading import LocalTarget, Server, ServerTarget

    if "://" in target:
        if typename:
            Server(target).ensure_instance(version, name, typename, settings)
        return ServerTarget(target, version, name, user)
    if not typename and not Path(target).is_dir():
        raise DvidError(f"there is no store in {target}; --create TYPE makes one")
    store = opened.enter_context(dvidcore.open(target, user=user))
    if typename and not store.repos:
        store.new_repo()
    node = store.node(version)
    if typename and name not in node:
        node.create(name, typename, **settings)
    return LocalTarget(node, name)


def _settings(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise click.UsageError(f'--set: "{key}" is not NAME=VALUE')
    return {key: value for key, _, value in pairs}


def _load(job: Job, state: Path, workers: Workers, console: Console) -> None:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    from dvidcore.loading.progress import Progress
    from dvidcore.loading.run import load as run

    boxes = [box for layer in job.plan.layers() for box in layer]
    voxel = job.target.dtype.itemsize * job.target.channels
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TransferSpeedColumn())
    with Progress(state, job.describe()) as progress:
        if progress.done:
            console.print(f"goes on: {len(progress.done)} of {len(boxes)} boxes are stored", highlight=False)
        with Bar(*columns, TimeRemainingColumn(), console=console) as bar:
            total = sum(box.voxels for box in boxes) * voxel
            stored = sum(box.voxels for box in boxes if box.number in progress.done) * voxel
            task = bar.add_task(job.target.name, total=total, completed=stored)
            run(job, progress, workers, lambda box: bar.advance(task, box.voxels * voxel))
        progress.finish()
    x, y, z = job.plan.size.xyz()
    console.print(f"loaded {x} x {y} x {z} voxels into {job.target.name} at {job.plan.low.xyz()}", highlight=False)
