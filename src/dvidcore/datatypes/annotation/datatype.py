"""The datatype annotation: its endpoints. What they do is in the other modules of this package."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dvidcore.datatypes import following
from dvidcore.datatypes.annotation import bodies, checking, reading, reload, settling, writing
from dvidcore.datatypes.annotation.edit import Edit
from dvidcore.datatypes.annotation.rows import Rows, unpack_size
from dvidcore.datatypes.arguments import choice, flag, text
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.following import Change, Guard, LabelChange
from dvidcore.datatypes.reloading import Reloads
from dvidcore.datatypes.roi import region
from dvidcore.errors import BadRequest
from dvidcore.geometry import ZYX
from dvidcore.storage.engine import Batch, Snapshot
from dvidcore.storage.keys import prefix_range
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import Database, InstanceRecord, Repo

LONGEST_TAG = 4096
"""Bytes of a tag in UTF-8."""
_ROOM = 64  # of a TAG row's key, beside the tag

_SIZED = ("labelmap", "labelarray", "labelblk", "labelvol")
_LOGGED = text("kafkalog", "on", "off: no record of it is logged")
_RELATIONSHIPS = choice(
    "relationships",
    "",
    "true: with Rels; verbose: with Rels, each with the partner's Kind, Tags and Prop",
    ("", "false", "true", "verbose"),
)


class Annotation(DataType):
    """Points with a kind, tags, properties and relationships; found by place, by tag, and by the body they lie on.

    For example ``GET /api/node/3f8c/synapses/label/231?relationships=true`` answers the synapses on body 231.
    """

    typename = "annotation"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/annotation"
    follows: ClassVar[frozenset[str] | None] = frozenset(_SIZED)
    lock_rank = 1
    derives = True

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.rows = Rows(record.id)
        self.lock = threading.Lock()
        self.reloads = Reloads(self, self.rows.reload, lambda call, stop: reload.work(self, call, stop))
        self.longest_tag = min(LONGEST_TAG, getattr(self.engine, "max_key_bytes", 1 << 20) - _ROOM)
        """Bytes that a tag may have in UTF-8."""
        self._size: ZYX | None = None

    def begin(self) -> None:
        self.reloads.resume()

    def block_size(self, snapshot: Snapshot) -> ZYX:
        """The voxels of a block (z, y, x): as the first write fixed it; before, that of the labels."""
        if self._size is None:
            stored = snapshot.get(self.rows.size)
            if stored is None:
                return self._chosen_size()
            self._size = unpack_size(stored)
        return self._size

    def _chosen_size(self) -> ZYX:
        sources = sorted(
            (s.record for s in self.sources() if s.typename in _SIZED), key=lambda r: r.typename == "labelvol"
        )
        for record in sources:
            x, y, z = record.settings["BlockSize"]
            return ZYX(z, y, x)
        return ZYX(64, 64, 64)

    def has_elements(self, view: View) -> bool:
        return next(view.keys(*prefix_range(self.rows.block)), None) is not None

    def extended(self, view: View) -> dict[str, Any]:
        """While a reload is under way, and after one that failed: ``{"Reload": {"State": …}}``."""
        state = self.reloads.state(view.snapshot, view.ancestry.version)
        return {} if state is None else {"Reload": state}

    def row_name(self, prefix_key: bytes) -> str:
        return self.rows.name(prefix_key)

    # -- following labels ----------------------------------------------------------------------------------------------

    def follow(self, call: Call, change: Change, batch: Batch) -> Guard:
        if not isinstance(change, LabelChange):
            return {}
        edit = Edit(self, call.view, batch)
        bodies.follow(edit, change)
        return writing.finish(self, call, edit, batch, action=change.action, mutation=change.mutation, always=True)

    def follow_later(self, source: DataType, version: int, intents: Sequence[Mapping[str, Any]]) -> None:
        node = self.repo.dag.nodes[version]
        call = Call(self.engine, node, self.database.ancestry_for(self.repo, node, self.record))
        try:
            # Another process may be about to write what it found in the labels from before, so the generation is raised.
            writing.change(
                self,
                call,
                lambda edit, call, batch: bodies.catch_up(self, edit, call, intents),
                "follow",
                later=True,
                always=True,
            )
        finally:
            call.close()

    def check(self, exam: Examination) -> None:
        checking.check(self, exam)

    def settle(self, call: Call, order: Mapping[int, int] | None) -> None:
        settling.settle(self, call, order)

    # -- by place ------------------------------------------------------------------------------------------------------

    @endpoint("GET", "elements/{size:size}/{offset:point}", answers=JSON)
    def get_elements(self, call: Call, size: ZYX, offset: ZYX) -> Reply:
        """All elements in a box of voxels, with relationships, a JSON list."""
        return reading.elements_in(self, call.view, offset, size)

    @endpoint("POST", "elements", query=[_LOGGED])
    def post_elements(self, call: Call, kafkalog: str) -> None:
        """Stores elements, a JSON list, each in place of one at its position; all of them or, if one is bad, none.

        An element is ``{"Pos": [x, y, z], "Kind": "PostSyn", "Tags": ["a"], "Prop": {"conf": "0.9"}, "Rels": [{"Rel":
        "PostSynTo", "To": [x, y, z]}]}``; Tags, Prop and Rels may be left out. Kinds are Unknown, PostSyn, PreSyn, Gap
        and Note. Of a position that is named twice the later element counts. Elements that relationships point to are
        not changed: post both ends.
        """
        writing.post_elements(self, call, kafkalog != "off")

    @endpoint("GET", "blocks/{size:size}/{offset:point}", answers=JSON)
    def get_blocks(self, call: Call, size: ZYX, offset: ZYX) -> Reply:
        """All elements of every block that a box of voxels touches: ``{"10,381,28": […], …}``, block coordinates."""
        return reading.as_blocks(reading.box_rows(self, call.view, offset, size))

    @endpoint("POST", "blocks", query=[_LOGGED])
    def post_blocks(self, call: Call, kafkalog: str) -> None:
        """Replaces blocks, given as GET blocks answers them; tags and bodies follow at the next reload.

        Each element must lie in its block. For bulk loads.
        """
        writing.post_blocks(self, call, kafkalog != "off")

    @endpoint("GET", "all-elements", answers=JSON)
    def get_all_elements(self, call: Call) -> Reply:
        """All elements by block, as GET blocks answers them."""
        return reading.as_blocks(reading.all_rows(self, call.view))

    @endpoint("DELETE", "element/{position:point}", query=[_LOGGED])
    def delete_element(self, call: Call, position: ZYX, kafkalog: str) -> None:
        """Removes an element, its entries by tag and body, and relationships to it.

        Those are looked for in its block, and in the blocks of the positions that it is itself related to. Others, of
        elements elsewhere, stay.
        """
        writing.delete_element(self, call, position, kafkalog != "off")

    @endpoint("POST", "move/{start:point}/{end:point}", query=[_LOGGED])
    def post_move(self, call: Call, start: ZYX, end: ZYX, kafkalog: str) -> None:
        """Moves an element to a position where there is none; tags, bodies and relationships to it follow.

        Relationships are looked for as in DELETE element.
        """
        writing.move_element(self, call, start, end, kafkalog != "off")

    @endpoint("GET", "roi/{roi:text}", answers=JSON)
    def get_roi(self, call: Call, roi: str) -> Reply:
        """All elements in the blocks of an ROI of this version, or of another: ``roi/name,uuid``.

        The ROI must have blocks of the same size as this instance.
        """
        found = self._region(call, roi)
        size = self.block_size(call.snapshot)
        if found.block != size:
            raise BadRequest(
                f'roi: "{roi[:60]}" has blocks of {found.block.xyz()} voxels, this instance of {size.xyz()}; '
                "they must be the same"
            )
        return reading.elements_of_region(self, call.view, found)

    def _region(self, call: Call, text: str) -> region.Region:
        name, comma, spec = text.partition(",")
        if "," in spec or (comma and not spec):
            raise BadRequest(f'roi: "{text[:60]}" must be a name, or a name and a version: name,uuid')
        if not comma:
            return region.named(self, call, name)
        repo, node = self.database.resolve(spec)
        if repo is not self.repo:
            raise BadRequest(f"roi: version {node.uuid} is not in repo {self.repo.root}")
        there = Call(self.engine, node, call.ancestry)
        try:
            return region.named(self, there, name)
        finally:
            there.close()

    @endpoint("GET", "scan", query=[flag("byCoord", "no effect"), flag("keysOnly", "no effect")], answers=JSON)
    def get_scan(self, call: Call, **_: Any) -> dict[str, int]:
        """The number of stored blocks: ``{"num kv pairs": 73, "num empty blocks": 0}``."""
        return reading.count_blocks(self, call.view)

    # -- by tag and by body --------------------------------------------------------------------------------------------

    @endpoint("GET", "tag/{tag:rest}", query=[_RELATIONSHIPS], answers=JSON)
    def get_tag(self, call: Call, tag: str, relationships: str) -> Reply:
        """The elements with a tag, which may have slashes in it; without relationships unless asked for."""
        if not tag:
            raise BadRequest("tag is empty")
        wanted = relationships if relationships != "false" else ""
        return reading.indexed(self, call.view, self.rows.of_tag(tag), wanted)

    @endpoint("GET", "label/{label:label}", query=[_RELATIONSHIPS], answers=JSON)
    def get_label(self, call: Call, label: int, relationships: str) -> Reply:
        """The elements on a body, without relationships unless asked for.

        None where the instance is not synced with labels. Elements that were stored before the sync come to their
        bodies with a reload.
        """
        self.catch_up(call)
        wanted = relationships if relationships != "false" else ""
        return reading.indexed(self, call.view, self.rows.of_body(label), wanted)

    def catch_up(self, call: Call) -> None:
        """Follows what changed in labels of another store; call it before the call's snapshot is read."""
        if any(source.engine is not self.engine for source in self.sources()):
            following.catch_up(self)
            call.renew()

    @endpoint("POST", "labels")
    def post_labels(self, call: Call) -> None:
        """Replaces the entries of bodies as they are: ``{"23": "[{…}, {…}]"}``, each value JSON text of elements.

        Blocks and tags stay as they are; label 0 is left out.
        """
        writing.post_labels(self, call)

    @endpoint(
        "POST",
        "reload",
        query=[
            flag("check", "no effect: only entries that are wrong are written in any case"),
            text("inmemory", "true", "no effect: memory is bounded in any case"),
        ],
    )
    def post_reload(self, call: Call, **_: Any) -> None:
        """Makes tags and bodies right where they do not follow from the blocks, in the background.

        While it works, changes of elements are refused and ``info`` shows ``Reload``. Readers see old or right entries.
        """
        reload.start(self, call)
