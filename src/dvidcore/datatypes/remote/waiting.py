"""Waiting for other services: how long, how many requests at the same time, and what their failures are called.

A request that waits holds one of the server's threads. So that a service that hangs cannot hold them all, only some
requests may wait at a time, fewer for the same service. Who finds no place waits as long as places still become free,
and is refused once nothing has moved for some seconds.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dvidcore.errors import BadGateway, GatewayTimeout, Unavailable

PATIENCE = 3.0
"""Seconds without any progress after which a request that finds no place is refused."""
LONGEST = 400
"""Characters of a service's reason that are shown."""
# What tensorstore puts behind a reason: specifications, whole pages of errors, places in its source.
_ANNOTATION = re.compile(r" \[(tensorstore_spec|source locations|http_response_body|domain|spec)=.*\Z", re.DOTALL)


class Places:
    """Who may wait for another service: ``total`` requests at a time, two thirds of them for the same one."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.each = max(1, total * 2 // 3)
        self._taken: Counter[str] = Counter()
        self._moved = time.monotonic()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, service: str) -> Iterator[None]:
        """Holds a place. Raises Unavailable where none becomes free."""
        with self._changed:
            while not self._free(service):
                left = self._moved + PATIENCE - time.monotonic()
                if left <= 0:
                    raise Unavailable(f"too many requests wait for {service}; try again later")
                self._changed.wait(left)
            self._taken[service] += 1
            self._moved = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._taken[service] -= 1
                if not self._taken[service]:
                    del self._taken[service]
                self._moved = time.monotonic()
                self._changed.notify_all()

    def _free(self, service: str) -> bool:
        return self._taken.total() < self.total and self._taken[service] < self.each


def answer_of(start: Callable[[], Any], service: str, places: Places, timeout: float) -> Any:
    """The result of the tensorstore future that ``start`` makes.

    Raises GatewayTimeout after ``timeout`` seconds, BadGateway with the reason where the service fails, Unavailable
    where too many wait already.
    """
    with places.taken(service):
        future = start()
        try:
            return future.result(timeout=timeout)
        except TimeoutError:
            future.cancel()
            raise GatewayTimeout(f"{service} did not answer within {timeout:g} seconds") from None
        except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
            raise BadGateway(f"{service}: {reason(error)}") from None


class Together:
    """Several futures as one: their results in order, under one time-out."""

    def __init__(self, futures: Sequence[Any]) -> None:
        self._futures = futures

    def result(self, timeout: float) -> list[Any]:
        end = time.monotonic() + timeout
        return [future.result(timeout=max(0.0, end - time.monotonic())) for future in self._futures]

    def cancel(self) -> None:
        for future in self._futures:
            future.cancel()


def reason(error: BaseException) -> str:
    """What a service says is wrong, as one short line."""
    text = " ".join(_ANNOTATION.sub("", str(error)).split()) or type(error).__name__
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
