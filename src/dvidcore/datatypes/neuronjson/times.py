"""Times as annotations have them: RFC 3339 texts in any zone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def latest(texts: Sequence[str]) -> str:
    """The latest of one time or more; what is no time is earlier than all."""
    # Nearly all are in UTC and to the second, and then the order of the texts is that of the times.
    plain = sorted(filter(_UTC.fullmatch, texts), reverse=True)
    others = [text for text in texts if not _UTC.fullmatch(text)]
    first = next((text for text in plain if _order(text)[0] > _NEVER), None)  # the 31st of February is no time
    return max([*others, *(plain if first is None else [first])], key=_order)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _order(text: str) -> tuple[datetime, str]:
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).astimezone(UTC), text
    except (ValueError, OverflowError):
        return _NEVER, text
