"""The running server as the endpoints see it: its database, who may do what, and what it has been doing."""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dvidcore.api.blocklist import BlockList
from dvidcore.api.memory import Trimmer
from dvidcore.config import Config
from dvidcore.datatypes.registry import Instances
from dvidcore.errors import Unavailable
from dvidcore.repos import Database

VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""Verbs that are counted by name: a client may send any word."""
KNOWN_USERS = 10_000
"""Users whose latencies are kept; the one who has been known for longest goes first."""
TOKEN_VARIABLE = "DVID_ADMIN_TOKEN"


class Server:
    """What all requests share. Made once, before the first request, and safe to use from many threads."""

    def __init__(self, config: Config, database: Database, admin_token: str | None = None) -> None:
        self.config = config
        self.database = database
        self.instances = Instances(database)
        self.throttle = Throttle(os.cpu_count() or 1)
        self.load = Load(config.server.threads)
        self.latencies = Latencies()
        self.block_list = BlockList(config.server.block_list_file)
        self.trimmer = Trimmer(None)
        """Gives memory back after large requests, where the server was started with that."""
        self.started = datetime.now(UTC)
        self.stopping = False
        """Set when the server is told to stop: new requests are refused."""
        self.read_only = config.server.mode == "readonly"
        self.full_write = config.server.mode == "fullwrite"
        token = os.environ.get(TOKEN_VARIABLE, "") if admin_token is None else admin_token
        self._token = token.encode()

    @property
    def needs_token(self) -> bool:
        """Whether an admin token is configured; only then does creating a repo need it."""
        return bool(self._token)

    def is_admin(self, query: Mapping[str, str]) -> bool:
        """Whether a request's ``admintoken`` is the configured one."""
        given = query.get("admintoken")
        return bool(given and self._token) and hmac.compare_digest(str(given).encode(), self._token)


class Throttle:
    """The slots for heavy requests that say ``throttle=on``: one that finds none free is answered 503 at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Takes a slot or raises Unavailable."""
        with self._lock:
            if self._used >= self.limit:
                raise Unavailable(f"all {self.limit} slots for throttled requests are taken; try again later")
            self._used += 1

    def give(self) -> None:
        """Gives a slot back."""
        with self._lock:
            self._used -= 1


class Load:
    """Counts of requests and bytes since the start; ``/api/load`` shows them per second, ``/metrics`` as they are."""

    BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
    """Upper bounds of the classes of request times, in seconds."""

    def __init__(self, handlers: int) -> None:
        self.handlers = handlers
        self.active = 0
        self.requests: dict[tuple[str, int], int] = {}
        """Finished requests by verb and status."""
        self.bytes_in = self.bytes_out = 0
        self.seconds = 0.0
        self.classes = [0] * (len(self.BUCKETS) + 1)
        self._lock = threading.Lock()
        self._last = (time.monotonic(), self._totals())
        self._rates = dict.fromkeys(self._last[1], 0)

    def begin(self) -> None:
        """A request has come."""
        with self._lock:
            self.active += 1

    def end(self, verb: str, status: int, bytes_in: int, bytes_out: int, seconds: float) -> None:
        """It has been answered."""
        place = 0
        for bound in self.BUCKETS:
            if seconds <= bound:
                break
            place += 1
        key = (verb if verb in VERBS else "other", status)
        with self._lock:
            self.active -= 1
            self.requests[key] = self.requests.get(key, 0) + 1
            self.bytes_in += bytes_in
            self.bytes_out += bytes_out
            self.seconds += seconds
            self.classes[place] += 1

    def _totals(self) -> dict[str, int]:
        gets = sum(n for (verb, _), n in list(self.requests.items()) if verb in ("GET", "HEAD"))
        puts = sum(n for (verb, _), n in list(self.requests.items()) if verb in ("POST", "PUT"))
        read, written = _file_bytes()
        return {
            "file bytes read": read,
            "file bytes written": written,
            "key bytes read": 0,
            "key bytes written": 0,
            "value bytes read": self.bytes_out,
            "value bytes written": self.bytes_in,
            "GET requests": gets,
            "PUT requests": puts,
        }

    def per_second(self) -> dict[str, int]:
        """The rates since the last time that somebody asked, at least a second ago, and what is going on now."""
        with self._lock:
            now, (before, old) = time.monotonic(), self._last
            if now - before >= 1.0:
                totals = self._totals()
                self._rates = {key: round((value - old[key]) / (now - before)) for key, value in totals.items()}
                self._last = (now, totals)
            return {
                **self._rates,
                "handlers active": min(100, 100 * self.active // self.handlers),
                "goroutines": threading.active_count(),
                "active CGo writes": 0,
                "pending log messages": 0,
            }


def _file_bytes() -> tuple[int, int]:
    """Bytes that this process has read from and written to disks, where the system tells."""
    try:
        fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(fields["read_bytes"]), int(fields["write_bytes"])
    except (OSError, KeyError, ValueError):
        return 0, 0


class Latencies:
    """How long the requests of a user took on the endpoints that clients ping."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def add(self, user: str, seconds: float) -> None:
        """Notes one request, in whole milliseconds."""
        ms = round(seconds * 1000)
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        with self._lock:
            old = self._users.get(user)
            if old is None and len(self._users) >= KNOWN_USERS:
                del self._users[next(iter(self._users))]
            self._users[user] = {
                "User": user,
                "LastPing": now,
                "LastLatency": ms,
                "MinLatency": ms if old is None else min(ms, old["MinLatency"]),
                "MaxLatency": ms if old is None else max(ms, old["MaxLatency"]),
            }

    def all(self) -> dict[str, dict[str, Any]]:
        """Every known user's."""
        with self._lock:
            return dict(self._users)

    def of(self, user: str) -> dict[str, Any]:
        """One user's, with empty values where he is unknown."""
        unknown = {"User": "", "LastPing": "", "LastLatency": 0, "MinLatency": 0, "MaxLatency": 0}
        return self._users.get(user, unknown)
