"""The endpoints that are about the server as a whole: ``/api/server/…``, load, help, heartbeat."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from typing import Any

from dvidcore._version import __version__
from dvidcore.api.request import Request, text_of
from dvidcore.api.state import Server
from dvidcore.datatypes.arguments import text
from dvidcore.datatypes.call import JSON, OCTETS, TEXT
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.registry import datatype, type_names
from dvidcore.errors import BadRequest
from dvidcore.storage.keys import instance_range

DVID_VERSION = "v1.0.0"
"""The DVID whose API this is; clients parse it and choose by it what they send."""
DATASTORE_VERSION = "0.11.0"

_USER = text("u", "", "the user, whose request times are kept")


class ServerEndpoints:
    """What a server says about itself and lets its administrator change."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @endpoint("GET", "help", answers="text/html")
    def get_help(self, request: Request) -> str:
        """General help: all endpoints, with links to those of the data types."""
        from dvidcore.api.help import general_help

        return general_help()

    @endpoint("GET", "help/{type:text}", answers=TEXT)
    def get_type_help(self, request: Request, type: str) -> str:
        """The endpoints and settings of a data type."""
        from dvidcore.datatypes.help import type_help

        return type_help(datatype(type))

    @endpoint("GET", "openapi.json", answers=JSON)
    def get_openapi(self, request: Request) -> dict[str, Any]:
        """This API as an OpenAPI 3.1 document."""
        from dvidcore.api.openapi import document

        return document()

    @endpoint("GET", "server/info", answers=JSON)
    def get_info(self, request: Request) -> dict[str, str]:
        """Versions, addresses, storage and uptime of the server; all values are strings."""
        server, config = self.server, self.server.config
        cores = str(os.cpu_count() or 1)
        found = {
            "Cores": cores,
            "Maximum Cores": cores,
            "DVID Version": DVID_VERSION,
            "dvidcore Version": __version__,
            "Datastore Version": DATASTORE_VERSION,
            "Storage backend": "; ".join(engine.description() for engine in server.database.stores.values()),
            "Server time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "Server uptime": _duration((datetime.now(UTC) - server.started).total_seconds()),
            "RPC Address": config.server.rpc_address,
            "Host": f"{config.server.host or socket.gethostname()}:{config.server.address[1]}",
            "Note": config.server.note,
            "TOML location": str(config.file or ""),
            "Max Open Files": str(_max_open_files()),
        }
        if server.read_only:
            found["Mode"] = "read only"
        elif server.full_write:
            found["Mode"] = "allow writes on committed nodes"
        return found

    @endpoint("GET", "server/note", answers=TEXT)
    def get_note(self, request: Request) -> str:
        """The note in the server's configuration."""
        return self.server.config.server.note

    @endpoint("GET", "server/config", answers=TEXT)
    def get_config(self, request: Request) -> str:
        """The server's TOML file as it is; for administrators."""
        request.require_admin()
        return self.server.config.text

    @endpoint("GET", "server/types", answers=JSON)
    def get_types(self, request: Request) -> dict[str, str]:
        """The data types in use, each with its URL."""
        used = {record.typename for repo in self.server.database.repos.values() for record in repo.instances.values()}
        return {name: datatype(name).url for name in sorted(used)}

    @endpoint("GET", "server/compiled-types", answers=JSON)
    def get_compiled_types(self, request: Request) -> dict[str, str]:
        """All data types of this server, each with its URL."""
        return {name: datatype(name).url for name in type_names()}

    @endpoint("GET", "server/groupcache", answers=JSON)
    def get_groupcache(self, request: Request) -> dict[str, Any]:
        """The statistics of DVID's group cache, which dvidcore has not: zeros."""
        words = ("Gets", "CacheHits", "PeerLoads", "PeerErrors", "Loads", "LoadsDeduped", "LocalLoads", "LocalLoadErrs")
        cache = dict.fromkeys(("Bytes", "Items", "Gets", "Hits", "Evictions"), 0)
        return {**dict.fromkeys((*words, "ServerRequests"), 0), "MainCache": cache, "HotCache": cache}

    @endpoint("GET", "server/blobstore/{reference:text}", answers=OCTETS)
    def get_blob(self, request: Request, reference: str) -> bytes:
        """A blob of the store of HTTP logs; this server has none."""
        raise BadRequest("no store for HTTP logs is configured, so it has no blobs; see an instance's blobstore")

    @endpoint("GET", "server/token", answers=TEXT)
    def get_token(self, request: Request) -> str:
        """A token for the user who asks; this server has no authentication."""
        raise BadRequest("authentication is not configured, so there are no tokens")

    @endpoint("GET", "load", answers=JSON)
    def get_load(self, request: Request) -> dict[str, int]:
        """Requests and bytes per second, busy handlers in percent, threads.

        Rates are means since the last time that somebody asked, at least one second ago.
        """
        return self.server.load.per_second()

    @endpoint("GET", "heartbeat", query=[_USER], answers=TEXT)
    def get_heartbeat(self, request: Request, u: str) -> str:
        """``OK``; with a user the time of the request is kept."""
        return "OK"

    @endpoint("GET", "user-latencies", query=[_USER], answers=JSON)
    def get_latencies(self, request: Request, u: str) -> dict[str, Any]:
        """How long load, heartbeat and user-latencies requests with ``u`` took, in milliseconds, by user or for one."""
        return self.server.latencies.of(u) if u else self.server.latencies.all()

    @endpoint("GET", "storage", answers=JSON)
    def get_storage(self, request: Request) -> dict[str, dict[str, Any]]:
        """About how many bytes each instance takes, by store and instance id; for administrators."""
        request.require_admin()
        database = self.server.database
        found: dict[str, dict[str, Any]] = {name: {} for name in database.stores}
        for repo in database.repos.values():
            for record in repo.instances.values():
                found[record.store][str(record.id)] = {
                    "Name": record.name,
                    "DataType": record.typename,
                    "DataUUID": record.data_uuid,
                    "RootUUID": repo.root,
                    "Bytes": database.engine_of(record).size(*instance_range(record.id)),
                }
        return found

    @endpoint("POST", "server/settings", answers=TEXT)
    def post_settings(self, request: Request) -> str:
        """Changes settings, ``{"throttle": "2", "gc": "500"}``; for administrators.

        ``throttle`` is the number of throttled requests that may run at the same time, at the start that of the
        processors. ``gc`` is accepted and has no effect. What is not given stays.
        """
        request.require_admin()
        config = request.config()
        said = []
        if "throttle" in config:
            word = text_of(config, "throttle")
            if not (word.isascii() and word.isdecimal() and len(word) < 6):
                raise BadRequest(f'throttle: "{word[:40]}" is not a number of requests')
            self.server.throttle.limit = int(word)
            said.append(f"Maximum throttled requests set to {int(word)}")
        if "gc" in config:
            said.append("gc has no effect in dvidcore")
        return "\n".join(said) + "\n"

    @endpoint("POST", "server/reload-auth")
    def post_reload_auth(self, request: Request) -> None:
        """Reads the authorization file again, of which this server has none; for administrators."""
        request.require_admin()

    @endpoint("POST", "server/reload-blocklist")
    def post_reload_block_list(self, request: Request) -> None:
        """Reads the block list again; for administrators."""
        request.require_admin()
        self.server.block_list.reload()

    @endpoint("POST", "server/reload-metadata")
    def post_reload_metadata(self, request: Request) -> None:
        """Reads the metadata of the repos again, where another process has changed them in the store."""
        self.server.database.refresh()


def _duration(seconds: float) -> str:
    """Seconds as Go writes a duration, ``1h2m3.5s``; a client shows it up to the first dot."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.3f}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _max_open_files() -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
