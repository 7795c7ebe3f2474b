"""Instances that the configuration asks for: one for each scale of a ``[store.NAME]`` that has an ``instance``.

They are made when there is a repo for them and the volume can be read, however long after the start that is. Until then
a thread looks now and then; where nothing is left to make, there is none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dvidcore.config import GridConfig
from dvidcore.datatypes.registry import Instances
from dvidcore.datatypes.remote.locations import permitted
from dvidcore.datatypes.remote.volumes import volumes
from dvidcore.errors import BadRequest, DvidError
from dvidcore.repos import Repo

log = logging.getLogger("dvidcore.remote")

_LOOK, _LONGEST = 0.5, 60.0
"""Seconds between two looks for a repo, and the most between two tries to read a volume."""
_TYPES = {("float32", 1): "float32blk", ("uint8", 4): "rgba8blk"}
_TYPES |= {(f"uint{bits}", 1): f"uint{bits}blk" for bits in (8, 16, 32, 64)}


@contextmanager
def making(instances: Instances) -> Iterator[None]:
    """Makes the instances of the configuration meanwhile."""
    grids = [grid for grid in instances.database.options.remote.grids if grid.instance]
    stop = threading.Event()
    thread = threading.Thread(target=_work, args=(instances, grids, stop), name="grid-instances", daemon=True)
    if grids:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if grids:
            thread.join()


def _work(instances: Instances, grids: list[GridConfig], stop: threading.Event) -> None:
    said: set[str] = set()
    pause = _LOOK
    while grids and not stop.wait(pause):
        for grid in list(grids):
            try:
                repo = _repo(instances, grid)
                if repo is None:
                    continue
                make(instances, repo, grid)
                grids.remove(grid)
            except DvidError as error:
                pause = min(2 * pause, _LONGEST)
                if str(error) not in said:
                    said.add(str(error))
                    log.warning("[store.%s] instance: %s; trying again", grid.name, error)


def _repo(instances: Instances, grid: GridConfig) -> Repo | None:
    """The repo that gets the instances of a volume; None while there is none. BadRequest where it is not clear which."""
    repos = instances.database.repos
    if grid.uuid:
        return next((repo for root, repo in repos.items() if root.startswith(grid.uuid)), None)
    if len(repos) > 1:
        raise BadRequest(f"there are {len(repos)} repos; uuid must name the one to use")
    return next(iter(repos.values()), None)


def make(instances: Instances, repo: Repo, grid: GridConfig) -> None:
    """Makes those instances of a volume that the repo does not have: ``name``, ``name_1``, … for scales 0, 1, ….

    Raises what keeps the volume from being read, and BadRequest where its voxels are of no image type.
    """
    options = instances.database.options.remote
    location, _ = permitted(grid.url, options, "ref")
    layout = volumes(options).find(location, "precomputed", "")
    first = layout.scales[0]
    kept = {"Path": first.path, "Index": first.index, "Axes": first.axes}
    scale = volumes(options).scale(location, "precomputed", kept)
    channels = scale.channels[0] if scale.channels else 1
    typename = _TYPES.get((scale.dtype.name, channels))
    if typename is None:
        raise BadRequest(f"no image type has {channels} channels of {scale.dtype.name}")
    for k in range(len(layout.scales)):
        name = f"{grid.instance}_{k}" if k else grid.instance
        if name in repo.instances:
            continue
        config = {"typename": typename, "dataname": name, "GridStore": grid.name, "ScaleLevel": str(k)}
        if typename == "uint8blk":
            config["Compression"] = "jpeg"
        instances.create(repo, repo.dag.root, config, admin=True)
