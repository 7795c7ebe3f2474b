"""Times as annotations have them: RFC 3339 texts in any zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

_UTC_LENGTH = len("2026-11-22T23:40:01Z")


def latest(texts: Sequence[str]) -> str:
    """The latest of one time or more; what is no time is earlier than all."""
    # Nearly all are in UTC and to the second, and then the order of the texts is that of the times.
    plain = max((text for text in texts if len(text) == _UTC_LENGTH and text[-1] == "Z"), default=None)
    others = [text for text in texts if len(text) != _UTC_LENGTH or text[-1] != "Z"]
    return max([*others, *([] if plain is None else [plain])], key=_order)


def _order(text: str) -> tuple[datetime, str]:
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).astimezone(UTC), text
    except (ValueError, OverflowError):
        return datetime.min.replace(tzinfo=UTC), text
