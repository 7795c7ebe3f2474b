"""``dvidcore demo``: a server with a small volume and its segmentation to try things on.

The first start loads a sample (``dvidcore.samples``) through the public HTTP API, as any client would: a repo named
"demo" with the instances "grayscale" (uint8blk) and "segmentation" (labelmap, agglomerated by merges). Its description
says that it is being loaded until it is; a start that finds it so has been interrupted, removes it and begins again.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import product
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dvidcore.api.serve import main as serve
from dvidcore.api.state import TOKEN_VARIABLE
from dvidcore.config import Config
from dvidcore.errors import DvidError
from dvidcore.opening import open_database
from dvidcore.samples import Sample, sample

ALIAS = "demo"
LOADING = "Being loaded; a start that was interrupted is made good by the next."
GRAYSCALE, SEGMENTATION = "grayscale", "segmentation"
START = 30.0
"""Seconds that the server is given to answer."""
_BOX = 128
"""Side of the boxes that voxels are posted in."""


class Client:
    """The few requests that the demo makes, over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            data: bytes = answer.read()
        return data

    def post(self, path: str, body: bytes | dict[str, Any] | list[Any]) -> bytes:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method="POST")
        with urllib.request.urlopen(request, timeout=600) as answer:
            found: bytes = answer.read()
        return found

    def demo_repo(self) -> str | None:
        """The root UUID of the loaded demo repo."""
        repos = json.loads(self.get("/api/repos/info"))
        loaded = (root for root, repo in repos.items() if repo["Alias"] == ALIAS and repo["Description"] != LOADING)
        return next(loaded, None)


def run(config: Config, console: Console | None = None) -> int:
    """Serves the demo until a signal says to stop; loads it first where that has not been done. The exit code."""
    console = console or Console()
    try:
        remove_unfinished(config)
    except DvidError as error:
        console.print(f"dvidcore: {error}", style="red")
        return 1
    # By its note the loader knows that it talks to this server, and not to another at the same address.
    config = config.with_server(note=f"demo {secrets.token_hex(8)}")
    failures: list[BaseException] = []

    def load_and_show() -> None:
        try:
            client = Client("http://{}:{}".format(*config.server.address))
            if _wait_for(client, config.server.note):
                show(client, load(client, console), console)
        except Exception as error:
            failures.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=load_and_show, name="demo", daemon=True).start()
    code = serve(config)
    for failure in failures:
        told = failure.read().decode(errors="replace") if isinstance(failure, urllib.error.HTTPError) else failure
        console.print(f"dvidcore: the demo could not be loaded: {told}", style="red")
    return 1 if failures else code


def remove_unfinished(config: Config) -> None:
    """Removes what an interrupted start has left. Raises ``StoreError`` where the store cannot be opened."""
    with open_database(config) as database:
        for repo in list(database.repos.values()):
            if repo.alias == ALIAS and repo.description == LOADING:
                database.delete_repo(repo)
        database.wait_for_deletions()


def _wait_for(client: Client, note: str) -> bool:
    """Waits until the server with this note answers; False where it does not."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        try:
            if client.get("/api/server/note").decode() == note:
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def load(client: Client, console: Console, volume: Sample | None = None) -> str:
    """Loads the sample unless it is there; answers the UUID of the version that has it."""
    root = client.demo_repo()
    if root is not None:
        return root
    with console.status("preparing the sample"):
        volume = volume or sample()
    token = os.environ.get(TOKEN_VARIABLE)  # where there is one, only its holders make repos
    query = f"?{urllib.parse.urlencode({'admintoken': token})}" if token else ""
    repo = json.loads(client.post(f"/api/repos{query}", {"alias": ALIAS, "description": LOADING}))
    root = str(repo["root"])
    resolution = ",".join(f"{side:g}" for side in volume.voxel_size)
    shared = {"BlockSize": "64,64,64", "VoxelSize": resolution}
    for typename, name, more in (
        ("uint8blk", GRAYSCALE, {}),
        ("labelmap", SEGMENTATION, {"MaxDownresLevel": "2"}),
    ):
        client.post(f"/api/repo/{root}/instance", {"typename": typename, "dataname": name, **shared, **more})

    columns = (TextColumn("{task.description:14}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        boxes = list(_boxes(volume.gray.shape))
        merges = [(body, others) for body, members in volume.bodies.items() if (others := _without(members, body))]
        tasks = [
            progress.add_task(name, total=total)
            for name, total in ((GRAYSCALE, len(boxes)), (SEGMENTATION, len(boxes)), ("merges", len(merges)))
        ]
        for name, voxels, task in ((GRAYSCALE, volume.gray, tasks[0]), (SEGMENTATION, volume.supervoxels, tasks[1])):
            for box in boxes:
                part = voxels[box]
                size = "_".join(map(str, reversed(part.shape)))
                offset = "_".join(str(side.start) for side in reversed(box))
                client.post(f"/api/node/{root}/{name}/raw/0_1_2/{size}/{offset}", part.tobytes())
                progress.advance(task)
        for body, others in merges:
            client.post(f"/api/node/{root}/{SEGMENTATION}/merge", [body, *others])
            progress.advance(tasks[2])
    client.post(f"/api/repo/{root}/info", {"description": volume.title})
    return root


def _without(members: list[int], body: int) -> list[int]:
    return [supervoxel for supervoxel in members if supervoxel != body]


def _boxes(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    for start in product(*(range(0, side, _BOX) for side in shape)):
        yield tuple(slice(at, min(at + _BOX, side)) for at, side in zip(start, shape, strict=True))


def urls(client: Client, root: str) -> list[tuple[str, str]]:
    """(what it shows, URL) of a tour of the demo."""
    gray, labels = (f"{client.url}/api/node/{root[:12]}/{name}" for name in (GRAYSCALE, SEGMENTATION))
    extended = json.loads(client.get(f"/api/node/{root}/{GRAYSCALE}/info"))["Extended"]
    width, height, depth = (high + 1 for high in extended["MaxPoint"])
    middle = f"{width // 2}_{height // 2}_{depth // 2}"
    body = json.loads(client.get(f"/api/node/{root}/{SEGMENTATION}/label/{middle}"))["Label"]
    return [
        ("all endpoints", f"{client.url}/api/help"),
        ("the repo and its instances", f"{client.url}/api/repo/{root[:12]}/info"),
        ("the grayscale's properties", f"{gray}/info"),
        ("a section, as PNG", f"{gray}/raw/xy/{width}_{height}/0_0_{depth // 2}"),
        ("across the sections, as JPEG", f"{gray}/raw/xz/{width}_{depth}/0_{height // 2}_0/jpg:90"),
        ("64 x 64 x 64 voxels, ZYX", f"{gray}/raw/0_1_2/64_64_64/64_64_64"),
        ("the section's bodies in colours", f"{labels}/pseudocolor/xy/{width}_{height}/0_0_{depth // 2}"),
        ("the body in the middle", f"{labels}/label/{middle}"),
        ("its voxels as runs", f"{labels}/sparsevol/{body}"),
        ("its size", f"{labels}/size/{body}"),
    ]


def show(client: Client, root: str, console: Console) -> None:
    """Prints the tour."""
    repo = json.loads(client.get(f"/api/repo/{root}/info"))
    console.print(f"\n[bold]{repo['Description']}[/bold], version {root}\n")
    for what, url in urls(client, root):
        console.print(f"  {what:32} {url}", soft_wrap=True, highlight=False)
    console.print("\nStop with Ctrl-C; the next start serves the same data.\n")
