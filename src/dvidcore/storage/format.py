"""The version of the format of what is stored, so that no dvidcore ever works on a store that it doesn't understand."""

from __future__ import annotations

from dvidcore import errors
from dvidcore.storage.engine import Batch, Engine
from dvidcore.storage.keys import META

FORMAT_KEY = META + b"format"
FORMAT = b"dvidcore 1"

_EVERYTHING = b"\xff" * 1024  # above every key: their first byte is their class


def check_format(engine: Engine) -> None:
    """Marks an empty store as of this format, and accepts one that is.

    Raises ``StoreError`` for a store of another format, or with rows but without a mark: nothing is changed in it.
    """
    found = engine.get(FORMAT_KEY)
    if found is None:
        if next(engine.scan(b"", _EVERYTHING, keys_only=True), None) is not None:
            raise errors.StoreError(f"store {engine.description()} holds data that dvidcore did not write")
        batch = Batch()
        batch.put(FORMAT_KEY, FORMAT)
        try:
            engine.write(batch, guard={FORMAT_KEY: None})
        except errors.GuardFailed:  # another process was first
            found = engine.get(FORMAT_KEY)
        else:
            found = FORMAT
    if found != FORMAT:
        text = (found or b"").decode(errors="replace")
        raise errors.StoreError(
            f"store {engine.description()} has the format {text!r}; this dvidcore reads and writes {FORMAT.decode()!r}"
        )
