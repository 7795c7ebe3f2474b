"""The endpoints of repos: ``/api/repos`` and ``/api/repo/{uuid}/…``."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from dvidcore.api.request import Request, optional_text, text_of, texts_of
from dvidcore.api.state import Server
from dvidcore.datatypes.arguments import flag, text
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.errors import BadRequest
from dvidcore.repos import Repo
from dvidcore.versions import Node

_IMSURE = flag("imsure", "must be true")
_PASSCODE = text("passcode", None, "the repo's passcode, where it has one")


class RepoEndpoints:
    """Repos: their making, their properties, merges, and the making and deletion of data instances."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.database = server.database

    @endpoint("POST", "repos", answers=JSON)
    def post_repos(self, request: Request) -> dict[str, str]:
        """A new repo: ``{"alias", "description", "passcode", "root"}``, all optional, answers ``{"root": UUID}``.

        ``root`` is a wanted UUID; the passcode is asked for by later deletions. Where an admin token is configured,
        only administrators may create repos.
        """
        if self.server.read_only:
            raise BadRequest("the server is read-only: it cannot have new repos")
        if self.server.needs_token:
            request.require_admin()
        config = request.config()
        repo = self.database.new_repo(
            alias=text_of(config, "alias"),
            description=text_of(config, "description"),
            passcode=text_of(config, "passcode") or None,
            root=text_of(config, "root") or None,
        )
        return {"root": repo.root}

    @endpoint("GET", "repos/info", answers=JSON)
    def get_repos_info(self, request: Request) -> Reply:
        """All repos by the UUID of their root.

        The answer has an ETag: with ``If-None-Match`` it is 304 while nothing has changed.
        """
        found = {root: repo_info(self.server, repo) for root, repo in self.database.repos.items()}
        data = orjson.dumps(found)
        tag = f'"{blake2b(data, digest_size=16).hexdigest()}"'
        headers = {"ETag": tag}
        known = request.environ.get("HTTP_IF_NONE_MATCH", "")
        if known == "*" or tag in (word.strip().removeprefix("W/") for word in known.split(",")):
            return Reply(status=304, headers=headers, content_type=JSON)
        return Reply(data, JSON, headers)

    @endpoint("HEAD", "repo/{uuid:text}")
    def head_repo(self, request: Request, uuid: str) -> None:
        """200 where a repo of this version exists."""
        self.database.resolve(uuid)

    @endpoint("GET", "repo/{uuid:text}/info", answers=JSON)
    def get_info(self, request: Request, uuid: str) -> dict[str, Any]:
        """A repo's properties, versions and data instances. Any version names its repo."""
        return repo_info(self.server, self.database.repo_of(uuid))

    @endpoint("POST", "repo/{uuid:text}/info")
    def post_info(self, request: Request, uuid: str) -> None:
        """Changes ``alias`` and ``description``; what is not given stays."""
        repo = self.database.repo_of(uuid)
        config = request.config()
        changes = {key: text_of(config, key) for key in ("alias", "description") if key in config}
        if changes:
            self.database.update_repo(repo, **changes)

    @endpoint("GET", "repo/{uuid:text}/log", answers=JSON)
    def get_log(self, request: Request, uuid: str) -> dict[str, list[str]]:
        """The repo's log: ``{"log": [line, …]}``, each line with its time."""
        return {"log": self.database.repo_of(uuid).log}

    @endpoint("POST", "repo/{uuid:text}/log")
    def post_log(self, request: Request, uuid: str) -> None:
        """Appends lines to the repo's log: ``{"log": [line, …]}``."""
        repo = self.database.repo_of(uuid)
        self.database.append_repo_log(repo, texts_of(request.body.json_object(), "log"))

    @endpoint("GET", "repo/{uuid:text}/branch-versions/{branch:rest}", answers=JSON)
    def get_branch_versions(self, request: Request, uuid: str, branch: str) -> list[str]:
        """The UUIDs of a branch from its leaf up to the root; ``master`` is the unnamed branch. ``[]`` if unknown."""
        return self.database.repo_of(uuid).dag.branch_versions(branch)

    @endpoint("POST", "repo/{uuid:text}/instance", answers=JSON)
    def post_instance(self, request: Request, uuid: str) -> dict[str, str]:
        """A new data instance: ``{"typename", "dataname", …settings}``, keys in any case, values strings.

        Settings of all types: ``versioned`` (true), ``Compression`` (lz4), ``Checksum`` (none), ``Tags``
        (``"k=v,k2=v2"``); each type adds its own, see its help.
        """
        repo, node = self.database.resolve(uuid)
        admin = request.admin or self.server.full_write
        made = self.server.instances.create(repo, node, request.body.json_object(), admin=admin)
        return {"result": f"Added {made.record.name} [{made.typename}] to node {node.uuid}"}

    @endpoint("POST", "repo/{uuid:text}/merge", answers=JSON)
    def post_merge(self, request: Request, uuid: str) -> dict[str, str]:
        """Merges committed versions: ``{"mergeType": "conflict-free", "parents": [uuid, …], "note"}``.

        Answers ``{"child": UUID}``, an open version that sees what its parents see. A value that several parents
        changed is a conflict: reading it is an error until it is written again.
        """
        repo = self.database.repo_of(uuid)
        config = request.config(required=True)
        kind = text_of(config, "mergetype")
        if kind != "conflict-free":
            raise BadRequest(f'mergeType: "{kind[:40]}" is not "conflict-free", the only one there is')
        parents = self._nodes(repo, texts_of(config, "parents"))
        return {"child": self.server.instances.merge(repo, parents, note=optional_text(config, "note")).uuid}

    @endpoint("POST", "repo/{uuid:text}/resolve", answers=JSON)
    def post_resolve(self, request: Request, uuid: str) -> dict[str, str]:
        """Merges committed versions, the first of them wins: ``{"data": [name, …], "parents": [uuid, …], "note"}``.

        What loses is deleted in children of the parents, which are then merged; of labels the merged version itself
        gets the blocks and mappings that win, with the index and the coarser scales that go with them. Answers
        ``{"child": UUID}``.
        """
        repo = self.database.repo_of(uuid)
        config = request.config(required=True)
        names = texts_of(config, "data")
        parents = self._nodes(repo, texts_of(config, "parents"))
        return {"child": self.server.instances.resolve(repo, names, parents, note=optional_text(config, "note")).uuid}

    @endpoint("DELETE", "repo/{uuid:text}", query=[_IMSURE, _PASSCODE])
    def delete_repo(self, request: Request, uuid: str, imsure: bool, passcode: str | None) -> None:
        """Deletes a repo with all its data; for administrators. It is gone at once, its data in the background."""
        _confirm(request, imsure)
        self.database.delete_repo(self.database.repo_of(uuid), passcode)

    @endpoint("DELETE", "repo/{uuid:text}/{name:text}", query=[_IMSURE, _PASSCODE])
    def delete_instance(self, request: Request, uuid: str, name: str, imsure: bool, passcode: str | None) -> None:
        """Deletes a data instance; for administrators. It is gone at once, its data in the background."""
        _confirm(request, imsure)
        self.database.delete_instance(self.database.repo_of(uuid), name, passcode)

    def _nodes(self, repo: Repo, specs: list[str]) -> list[Node]:
        nodes = []
        for spec in specs:
            owner, node = self.database.resolve(spec)
            if owner is not repo:
                raise BadRequest(f'parents: "{spec[:60]}" is a version of another repo')
            nodes.append(node)
        return nodes


def _confirm(request: Request, imsure: bool) -> None:
    request.require_admin()
    if not imsure:
        raise BadRequest("a deletion must be confirmed with imsure=true")


def repo_info(server: Server, repo: Repo) -> dict[str, Any]:
    """The JSON of a repo; versioned properties of its instances are those at master's leaf."""
    leaf = repo.dag.leaf("")
    instances = {}
    for name, record in list(repo.instances.items()):
        instance = server.instances.of(repo, record)
        call = Call(instance.engine, leaf, server.database.ancestry_for(repo, leaf, record))
        try:
            instances[name] = instance.info(call.view)
        finally:
            call.close()
    return {
        "Root": repo.root,
        "Alias": repo.alias,
        "Description": repo.description,
        "Log": repo.log,
        "Properties": repo.properties,
        "DataInstances": instances,
        "DAG": {"Root": repo.root, "Nodes": {node.uuid: node_info(node) for node in list(repo.dag.nodes.values())}},
        "MutationID": repo.mutation_id,
        "SavedMutationID": repo.saved_mutation_id,
        "Created": repo.created,
        "Updated": repo.updated,
    }


def node_info(node: Node) -> dict[str, Any]:
    """The JSON of a version."""
    return {
        "Branch": node.branch,
        "Note": node.note,
        "Log": node.log,
        "UUID": node.uuid,
        "VersionID": node.id,
        "Locked": node.locked,
        "Parents": node.parents,
        "Children": node.children,
        "Created": node.created,
        "Updated": node.updated,
    }
