"""What of a load is stored already, in a small file: so a load that was killed goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from dvidcore.errors import BadRequest


class Progress:
    """The numbers of the boxes that are stored: a line of JSON that says of which load, then a number a line.

    A number is written once its box is on the disk. So a crash can lose the last numbers, whose boxes are then stored
    again, but never claims what is not there.
    """

    def __init__(self, path: Path, load: dict[str, Any]) -> None:
        """Opens the file, or makes it. Raises ``BadRequest`` where it is that of another load."""
        self.path = path
        self.done: set[int] = set()
        heading = json.dumps(load, sort_keys=True)
        text = path.read_text("utf-8") if path.exists() else ""
        lines = text.split("\n")
        if len(lines) > 1:
            if lines[0] != heading:
                raise BadRequest(
                    f"{path} is the state of another load, or the images have changed; remove it to start from the beginning"
                )
            # What a crash cut off has no end of line.
            self.done = {int(line) for line in lines[1:-1] if line.isdecimal()}
        whole = "\n".join([heading, *map(str, sorted(self.done))]) + "\n"
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(whole, "utf-8")
        fresh.replace(path)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self.done:
            self.path.unlink(missing_ok=True)

    def add(self, number: int) -> None:
        """Notes a box as stored."""
        self.done.add(number)
        self._file.write(f"{number}\n")
        self._file.flush()

    def finish(self) -> None:
        """Removes the file: the load is done."""
        self._file.close()
        self.path.unlink(missing_ok=True)
