"""The DAG of a repo: nodes, branches, ancestry, and the text forms that name a version.

Pure logic: nothing here reads or writes a store. A repo holds one ``DAG``; only ``dvidcore.repos`` changes it, under its
lock, and by replacing lists rather than changing them, so that readers need no lock.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from dvidcore.errors import BadRequest
from dvidcore.storage.versioned import Ancestry

MASTER = "master"
"""How requests name the branch that is ``""`` in the DAG."""
LONGEST_NAME = 1000
"""Bytes of the name of a data instance, a branch or a tag, in UTF-8."""

_UUID = re.compile(r"[0-9a-f]{32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# An ancestry takes memory in proportion to its depth, so only those in use are kept.
_ANCESTRIES = 128


def now() -> str:
    """The present as an RFC 3339 time, ``2026-11-22T23:27:26.123456Z``."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def stamp(text: str) -> str:
    """A log line: the present to the second, two spaces, the text."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}  {text}"


def new_uuid() -> str:
    """A random UUID: 32 lower-case hex digits."""
    return uuid4().hex


def checked_uuid(text: str, what: str = "uuid") -> str:
    """A UUID that a request asks for, in lower case. Raises ``BadRequest`` unless it is 32 hex digits."""
    low = text.lower()
    if not _UUID.fullmatch(low):
        raise BadRequest(f'{what}: "{text[:60]}" is not a UUID, which has 32 hexadecimal digits')
    return low


def check_part_of_url(name: str, what: str) -> None:
    """Raises ``BadRequest`` for a name that clients or proxies would not let through as a part of a URL's path."""
    if name in (".", ".."):
        raise BadRequest(f'{what}: "{name}" has a meaning of its own in URLs')
    if (size := len(name.encode())) > LONGEST_NAME:
        raise BadRequest(f"{what}: the name has {size} bytes, at most {LONGEST_NAME} are allowed")


def checked_tag(text: str) -> str:
    """The text of a new tag. Raises ``BadRequest`` where no URL could name it, or where it looks like a UUID."""
    if not text.strip():
        raise BadRequest("tag: the name is missing")
    check_part_of_url(text, "tag")
    if "/" in text or ":" in text or _CONTROL.search(text):
        raise BadRequest(f'tag: "{text[:60]}" must not contain "/", ":" or control characters')
    if _UUID.fullmatch(text.replace("-", "").lower()):
        raise BadRequest(f'tag: "{text[:60]}" looks like a UUID')
    return text


def checked_branch(name: str, what: str = "branch") -> str:
    """The name of a new branch. Raises ``BadRequest`` for master's names and for what no version spec could name."""
    if not name.strip():
        raise BadRequest(f"{what}: the name is missing")
    check_part_of_url(name, what)
    if name == MASTER:
        raise BadRequest(f'{what}: "{MASTER}" is the name of the branch that every repo has')
    if any(c in name for c in "/:~") or _CONTROL.search(name):
        raise BadRequest(f'{what}: "{name[:60]}" must not contain "/", ":", "~" or control characters')
    return name


def parse_spec(text: str) -> tuple[str, str | None, int]:
    """(prefix, branch, steps) of a version spec ``PREFIX[:branch[~N]]``.

    ``branch`` is ``None`` where none is given (``PREFIX`` and ``PREFIX:``), ``""`` for ``master``, which need not be
    written before ``~N`` nor behind a colon without a prefix; ``steps`` is 0 without ``~N``. Raises ``BadRequest`` for
    what is no spec; whether prefix and branch exist is not checked.
    """
    prefix, colon, branch = text.partition(":")
    if not branch:
        return prefix, "" if colon and not prefix else None, 0
    if ":" in branch:
        raise BadRequest(f'version "{text[:80]}": only one ":" is allowed')
    branch, tilde, count = branch.partition("~")
    if "~" in count:
        raise BadRequest(f'version "{text[:80]}": only one "~" is allowed')
    if tilde and not (count.isascii() and count.isdigit() and len(count) < 10):
        raise BadRequest(f'version "{text[:80]}": "{count[:20]}" behind "~" is not a number of steps')
    return prefix, "" if branch == MASTER else branch, int(count) if tilde else 0


@dataclass(slots=True, eq=False)
class Node:
    """One version. ``id`` is its VersionID; ``parents`` are in the order of the merge, ``children`` of creation."""

    id: int
    uuid: str
    branch: str = ""
    note: str = ""
    log: list[str] = field(default_factory=list)
    locked: bool = False
    parents: list[int] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    created: str = field(default_factory=now)
    updated: str = ""

    def __post_init__(self) -> None:
        self.updated = self.updated or self.created


def branch_title(branch: str) -> str:
    """A branch's name for people."""
    return branch or MASTER


class DAG:
    """The versions of one repo.

    Every branch is one chain: of two of its nodes one is an ancestor of the other, and as VersionIDs grow from parent to
    child, the leaf of a branch is its node of the greatest id.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        """From at least one node; exactly one has no parents. The nodes' ``children`` are filled in from the parents.

        Raises ``ValueError`` where nodes are missing, double, or not below one root.
        """
        self.nodes: dict[int, Node] = {}
        self.by_uuid: dict[str, Node] = {}
        self._leaves: dict[str, Node] = {}
        self._ancestries: dict[int, Ancestry] = {}
        self._lock = threading.Lock()
        ordered = sorted(nodes, key=lambda node: node.id)
        if not ordered or ordered[0].parents:
            raise ValueError("a DAG needs a root")
        self.root = ordered[0]
        children: dict[int, list[int]] = {node.id: [] for node in ordered}
        for node in ordered:
            self._insert(node)
            for parent in dict.fromkeys(node.parents):
                children[parent].append(node.id)
        for node in ordered:
            node.children = children[node.id]

    def add(self, node: Node) -> None:
        """Adds a node whose parents are there and have smaller ids; they get it as their last child."""
        self.nodes, self.by_uuid, self._leaves = dict(self.nodes), dict(self.by_uuid), dict(self._leaves)
        self._insert(node)
        for parent in dict.fromkeys(node.parents):
            above = self.nodes[parent]
            above.children = [*above.children, node.id]

    def _insert(self, node: Node) -> None:
        if node.id in self.nodes or node.uuid in self.by_uuid:
            raise ValueError(f"version {node.id}, {node.uuid}, is there already")
        if not node.parents and node is not self.root:
            raise ValueError(f"version {node.id} would be a second root")
        for parent in node.parents:
            if parent not in self.nodes or parent >= node.id:
                raise ValueError(f"version {node.id} comes before its parent {parent}")
        self.nodes[node.id] = node
        self.by_uuid[node.uuid] = node
        leaf = self._leaves.get(node.branch)
        if leaf is None or leaf.id < node.id:
            self._leaves[node.branch] = node

    # -- ancestry -----------------------------------------------------------------------------------------------

    def ancestry(self, version_id: int) -> Ancestry:
        """The order in which a version's ancestors hide each other; kept for the versions in use.

        A new node never changes the ancestry of the others. Raises ``KeyError`` for an unknown version.
        """
        found = self._ancestries.get(version_id)
        if found is None:
            nodes = self.nodes
            above = {version_id} | self._above(nodes[version_id])
            found = Ancestry.from_parents(version_id, {v: nodes[v].parents for v in above})
            with self._lock:
                while len(self._ancestries) >= _ANCESTRIES:
                    del self._ancestries[next(iter(self._ancestries))]
                self._ancestries[version_id] = found
        return found

    def _above(self, node: Node) -> set[int]:
        above: set[int] = set()
        waiting = list(node.parents)
        while waiting:
            version = waiting.pop()
            if version not in above:
                above.add(version)
                waiting.extend(self.nodes[version].parents)
        return above

    def is_ancestor(self, a: int, b: int) -> bool:
        """Whether version ``a`` lies above version ``b``. A version is not its own ancestor."""
        return a < b and a in self.ancestry(b).rank

    def path(self, start: Node, end: Node) -> list[Node]:
        """The nodes between an ancestor and a descendant, both included, the ancestor first.

        With merges in between: all that lie below the one and above the other, in order of creation. Raises
        ``BadRequest`` where ``start`` is neither ``end`` nor an ancestor of it.
        """
        if start is end:
            return [start]
        if not self.is_ancestor(start.id, end.id):
            raise BadRequest(f"version {start.uuid} is not an ancestor of version {end.uuid}")
        below = {start.id}
        for version in self.ancestry(end.id).ids:
            if not below.isdisjoint(self.nodes[version].parents):
                below.add(version)
        return [self.nodes[version] for version in sorted(below)]

    # -- branches -----------------------------------------------------------------------------------------------

    @property
    def branches(self) -> list[str]:
        """The names of all branches, ``""`` for master."""
        return list(self._leaves)

    def leaf(self, branch: str) -> Node:
        """The newest node of a branch, the one without a child on it. Raises ``BadRequest`` for an unknown branch."""
        node = self._leaves.get("" if branch == MASTER else branch)
        if node is None:
            raise BadRequest(f'there is no branch "{branch[:80]}" in repo {self.root.uuid}')
        return node

    def branch_versions(self, branch: str) -> list[str]:
        """UUIDs from a branch's leaf to the root, ancestors on other branches included; ``[]`` for an unknown branch.

        At a merge all parents but the last are single entries, then it goes on up through the last.
        """
        if ("" if branch == MASTER else branch) not in self._leaves:
            return []
        return [node.uuid for node in self._upwards(self.leaf(branch))]

    def step_up(self, branch: str, n: int) -> Node:
        """The node ``n`` steps above a branch's leaf along ``branch_versions``. Raises ``BadRequest`` beyond the root."""
        line = self._upwards(self.leaf(branch))
        if not 0 <= n < len(line):
            raise BadRequest(
                f'"~{n}" is out of range: branch "{branch_title(branch)}" has {len(line) - 1} steps to go up'
            )
        return line[n]

    def _upwards(self, node: Node) -> list[Node]:
        line = [node]
        while node.parents:
            line.extend(self.nodes[parent] for parent in node.parents)
            node = line[-1]
        return line

    def check_new_branch(self, name: str) -> None:
        """Raises ``BadRequest`` where the repo has a branch of this name, whose names are used once."""
        if name in self._leaves:
            raise BadRequest(f'there is a branch "{branch_title(name)[:80]}" in repo {self.root.uuid} already')

    def check_next(self, parent: Node) -> None:
        """Raises ``BadRequest`` unless a new child of ``parent`` may continue its branch as one chain."""
        leaf = self._leaves[parent.branch]
        if leaf is not parent:
            title = branch_title(parent.branch)
            raise BadRequest(f'branch "{title}" goes on after version {parent.uuid} already, to version {leaf.uuid}')

    def merge_branch(self, parents: Sequence[Node]) -> str | None:
        """The branch of a node that merges ``parents``, so that every branch stays one chain.

        Master if its leaf is one of the parents or of their ancestors; else the first parent's branch of which that is
        true; ``None`` where it is true of none, and the node needs a branch of its own.
        """
        above = {parent.id for parent in parents}
        for parent in parents:
            above |= self.ancestry(parent.id).rank.keys()
        for branch in dict.fromkeys(["", *(parent.branch for parent in parents)]):
            leaf = self._leaves.get(branch)
            if leaf is not None and leaf.id in above:
                return branch
        return None
