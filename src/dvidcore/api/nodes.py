"""The endpoints of a version: ``/api/node/{uuid}/note`` and so on."""

from __future__ import annotations

from dvidcore.api.request import Request, optional_text, text_of, texts_of
from dvidcore.api.state import Server
from dvidcore.datatypes.call import JSON
from dvidcore.datatypes.endpoints import endpoint


class NodeEndpoints:
    """Notes, logs, commits and children of a version."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.database = server.database

    def _may_change(self, request: Request) -> bool:
        return request.admin or self.server.full_write

    @endpoint("GET", "node/{uuid:text}/note", answers=JSON)
    def get_note(self, request: Request, uuid: str) -> dict[str, str]:
        """The version's note."""
        return {"note": self.database.resolve(uuid)[1].note}

    @endpoint("POST", "node/{uuid:text}/note")
    def post_note(self, request: Request, uuid: str) -> None:
        """Replaces the version's note: ``{"note": text}``."""
        repo, node = self.database.resolve(uuid)
        note = text_of(request.body.json_object(), "note", None)
        self.database.set_note(repo, node, note, admin=self._may_change(request))

    @endpoint("GET", "node/{uuid:text}/log", answers=JSON)
    def get_log(self, request: Request, uuid: str) -> dict[str, list[str]]:
        """The version's log: ``{"log": [line, …]}``, each line with its time."""
        return {"log": self.database.resolve(uuid)[1].log}

    @endpoint("POST", "node/{uuid:text}/log")
    def post_log(self, request: Request, uuid: str) -> None:
        """Appends lines to the version's log: ``{"log": [line, …]}``."""
        repo, node = self.database.resolve(uuid)
        lines = texts_of(request.body.json_object(), "log")
        self.database.append_log(repo, node, lines, admin=self._may_change(request))

    @endpoint("GET", "node/{uuid:text}/status", answers=JSON)
    @endpoint("GET", "node/{uuid:text}/commit", answers=JSON)
    def get_status(self, request: Request, uuid: str) -> dict[str, bool]:
        """Whether the version is committed: ``{"Locked": true}``."""
        return {"Locked": self.database.resolve(uuid)[1].locked}

    @endpoint("POST", "node/{uuid:text}/commit", answers=JSON)
    def post_commit(self, request: Request, uuid: str) -> dict[str, str]:
        """Commits (locks) the version: ``{"note": text, "log": [line, …]}``, both optional, the body is not.

        A note that is not empty replaces the version's; log lines are appended. A commit is final.
        """
        repo, node = self.database.resolve(uuid)
        config = request.config(required=True)
        lines = texts_of(config, "log") if config.get("log") is not None else []
        self.database.commit(repo, node, note=optional_text(config, "note"), log=lines)
        return {"committed": node.uuid}

    @endpoint("POST", "node/{uuid:text}/newversion", answers=JSON)
    def post_newversion(self, request: Request, uuid: str) -> dict[str, str]:
        """A child on the same branch: ``{"note": text, "uuid": wanted UUID}``, both optional; answers ``{"child"}``."""
        repo, node = self.database.resolve(uuid)
        config = request.config()
        child = self.database.new_version(
            repo, node, note=optional_text(config, "note"), uuid=optional_text(config, "uuid") or None
        )
        return {"child": child.uuid}

    @endpoint("POST", "node/{uuid:text}/branch", answers=JSON)
    def post_branch(self, request: Request, uuid: str) -> dict[str, str]:
        """A child on a new branch: ``{"branch": name, "note": text, "uuid": wanted UUID}``; answers ``{"child"}``."""
        repo, node = self.database.resolve(uuid)
        config = request.config(required=True)
        child = self.database.branch(
            repo,
            node,
            text_of(config, "branch"),
            note=optional_text(config, "note"),
            uuid=optional_text(config, "uuid") or None,
        )
        return {"child": child.uuid}

    @endpoint("POST", "node/{uuid:text}/tag", answers=JSON)
    def post_tag(self, request: Request, uuid: str) -> dict[str, str]:
        """A committed child that is named by a text: ``{"tag": text, "note": text}``; answers ``{"child": tag}``."""
        repo, node = self.database.resolve(uuid)
        config = request.config(required=True)
        child = self.database.tag(repo, node, text_of(config, "tag"), note=optional_text(config, "note"))
        return {"child": child.uuid}
