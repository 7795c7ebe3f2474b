"""The datatype labelsz: its settings and endpoints."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from dvidcore.datatypes import following
from dvidcore.datatypes.annotation import bodies
from dvidcore.datatypes.annotation.datatype import Annotation
from dvidcore.datatypes.annotation.reading import answer
from dvidcore.datatypes.annotation.rows import pack_u64, unpack_u64
from dvidcore.datatypes.arguments import integer
from dvidcore.datatypes.base import DataType, Setting
from dvidcore.datatypes.call import JSON, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.following import Change, Counted, ElementChange, Guard
from dvidcore.datatypes.labelsz import checking, counts, recount
from dvidcore.datatypes.labelsz.counts import INDEX_TYPES, Key, Rows, index_type
from dvidcore.datatypes.reloading import Reloads
from dvidcore.datatypes.roi import region
from dvidcore.datatypes.roi.region import Region
from dvidcore.datatypes.roi.spans import Spans
from dvidcore.errors import BadRequest, GuardFailed
from dvidcore.geometry import UINT64_MAX, ZYX, parse_int
from dvidcore.repos import blobs
from dvidcore.storage.engine import Batch, Engine
from dvidcore.storage.keys import TYPE_KEY_OFFSET
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import Database, InstanceRecord, Repo

LISTED = 10_000
"""Labels that ``threshold`` answers unless asked for another number."""
UINT32_MAX = 2**32 - 1


def _static_roi(value: str, name: str) -> str:
    if value.count(",") != 1 or not all(value.split(",")):
        raise BadRequest(f'{name}: "{value[:60]}" must be the name of an ROI and a version: name,uuid')
    return value


class LabelSizes(DataType):
    """Labels ranked by the number of annotation elements of a kind that lie on them.

    For example ``GET /api/node/3f8c/sizes/top/10/PreSyn`` answers the ten labels with the most presynaptic elements.
    """

    typename = "labelsz"
    typeversion = "0.1"
    url = "github.com/janelia-flyem/dvid/datatype/labelsz"
    follows: ClassVar[frozenset[str] | None] = frozenset({"annotation"})
    derives = True
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("ROI", "StaticROI", "", _static_roi, "name,uuid: only elements inside of that ROI, as it is there now"),
    )

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.rows = Rows(record.id)
        self.lock = threading.Lock()
        self.reloads = Reloads(self, self.rows.reload, lambda call, stop: recount.work(self, call, stop))

    def begin(self) -> None:
        self.reloads.resume()

    @classmethod
    def completed_settings(cls, database: Database, settings: dict[str, Any], compression: str) -> dict[str, Any]:
        """Keeps the spans of the ROI, so that what counts never changes."""
        text = settings["StaticROI"]
        if not text:
            return settings
        name, _, spec = text.partition(",")
        repo, node = database.resolve(spec)
        record = repo.instances.get(name)
        if record is None or record.typename != "roi":
            raise BadRequest(f'ROI: there is no roi instance "{name[:60]}" in repo {repo.root}')
        with database.engine_of(record).snapshot() as snapshot:
            found = region.read(View(snapshot, database.ancestry_for(repo, node, record)), record)
        reference = blobs.put_blob(_blob_engine(database), found.spans.pack())
        return {**settings, "Spans": reference, "SpansBlock": list(found.block)}

    @cached_property
    def region(self) -> Region | None:
        """Where elements count; None where all do."""
        settings = self.record.settings
        if not settings["StaticROI"]:
            return None
        spans = Spans.unpack(blobs.get_blob(_blob_engine(self.database), settings["Spans"]))
        return Region(spans, ZYX(*settings["SpansBlock"]))

    def extended(self, view: View) -> dict[str, Any]:
        """The ROI; while a reload is under way, and after one that failed, ``{"Reload": {"State": …}}`` too."""
        state = self.reloads.state(view.snapshot, view.ancestry.version)
        shown = {"StaticROI": self.record.settings["StaticROI"]}
        return shown if state is None else {**shown, "Reload": state}

    def row_name(self, prefix_key: bytes) -> str:
        names = {code: name for name, code in INDEX_TYPES.items()}
        kind, label = counts.key_of(prefix_key)
        return f"the number of {names.get(prefix_key[TYPE_KEY_OFFSET], kind)} of label {label}"

    # -- following elements --------------------------------------------------------------------------------------------

    def annotation(self) -> Annotation | None:
        """The instance whose elements are counted."""
        return next((source for source in self.sources() if isinstance(source, Annotation)), None)

    def follow(self, call: Call, change: Change, batch: Batch) -> Guard:
        if not isinstance(change, ElementChange):
            return {}
        deltas: Counter[Key] = Counter()
        for elements, times in ((change.removed, -1), (change.added, 1)):
            self._tally(deltas, elements, times)
        counts.add(self, call.view, batch, deltas)
        return self._guard(call.view, batch)

    def _tally(self, deltas: Counter[Key], elements: Counted, times: int) -> None:
        labels, kinds = elements.bodies, elements.kinds
        if self.region is not None and len(labels):
            inside = self.region.contains(elements.positions)
            labels, kinds = labels[inside], kinds[inside]
        for (label, kind), number in Counter(zip(labels.tolist(), kinds.tolist(), strict=True)).items():
            recount.tally(deltas, label, (kind,), times * number)

    def follow_later(self, source: DataType, version: int, intents: Sequence[Mapping[str, Any]]) -> None:
        node = self.repo.dag.nodes[version]
        call = Call(self.engine, node, self.database.ancestry_for(self.repo, node, self.record))
        try:
            recount.labels(self, call, following.merged_intents(intents))
        finally:
            call.close()

    def check(self, exam: Examination) -> None:
        checking.check(self, exam)

    def settle(self, call: Call, order: Mapping[int, int] | None) -> None:
        recount.settle(self, call)

    def _guard(self, view: View, batch: Batch) -> Guard:
        """Raises the generation in a batch, and answers what guards it."""
        stored = view.snapshot.get(self.rows.generation)
        batch.put(self.rows.generation, pack_u64(unpack_u64(stored) + 1))
        return {self.rows.generation: None if stored is None else bytes(stored)}

    def change(self, call: Call, fill: Callable[[View, Batch], None], *, always: bool = False) -> None:
        """Writes what ``fill`` puts into a batch, given the newest view; again where elements changed meanwhile.

        ``always`` raises the generation even where nothing is to be changed.
        """
        with self.lock, ExitStack() as waiting:
            attempts = 0
            while True:
                if attempts == 2:  # elements change faster than this can count: they wait
                    self._hold(waiting)
                attempts += 1
                view, batch = call.renew(), Batch()
                fill(view, batch)
                if not len(batch) and not always:
                    return
                guard = self._guard(view, batch)
                try:
                    self.engine.write(batch, sync=self.database.options.sync, guard=guard)
                except GuardFailed:
                    continue
                return

    def _hold(self, stack: ExitStack) -> None:
        """Has writers of elements, and of the labels under them, wait in this process."""
        annotation = self.annotation()
        if annotation is not None:
            stack.enter_context(annotation.lock)
            bodies.hold(annotation, stack)

    def _catch_up(self, call: Call) -> None:
        """Follows what changed in other stores; before the call's snapshot is read."""
        annotation = self.annotation()
        if annotation is None:
            return
        annotation.catch_up(call)
        if annotation.engine is not self.engine:
            following.catch_up(self)
        call.renew()

    # -- endpoints -----------------------------------------------------------------------------------------------------

    @endpoint("GET", "count/{label:uint64}/{type:text}", answers=JSON)
    def get_count(self, call: Call, label: int, type: str) -> dict[str, int]:
        """The number of elements of an index type on a label: ``{"Label": 21847, "PreSyn": 81}``.

        Index types are PostSyn, PreSyn, Gap and Note; AllSyn is the sum of the first three. Voxels are not counted.
        """
        kind = index_type(type)
        self._catch_up(call)
        (count,) = counts.counts(self, call.view, [(kind, label)])
        return {"Label": label, type: count}

    @endpoint("GET", "counts/{type:text}", answers=JSON)
    def get_counts(self, call: Call, type: str) -> list[dict[str, int]]:
        """The same for the labels that the body lists, ``[188, 23]``, in their order."""
        kind = index_type(type)
        labels = _labels(call.body.json())
        self._catch_up(call)
        found = counts.counts(self, call.view, [(kind, label) for label in labels])
        return [{"Label": label, type: count} for label, count in zip(labels, found, strict=True)]

    @endpoint("GET", "top/{n:uint64}/{type:text}", answers=JSON)
    def get_top(self, call: Call, n: int, type: str) -> Reply:
        """The n labels with the most elements of an index type: ``[{"Label": 188, "Size": 81}, …]``.

        The largest comes first, among equals the smallest label; labels without any are not listed.
        """
        parse_int(str(n), "n", 0, UINT32_MAX)
        return self._ranked(call, index_type(type), 1, slice(0, n))

    @endpoint(
        "GET",
        "threshold/{threshold:uint64}/{type:text}",
        query=[
            integer("offset", 0, "labels of the ranking that are left out at its start", 0, UINT64_MAX),
            integer("n", 0, f"labels at most; 0: {LISTED}", 0, UINT64_MAX),
        ],
        answers=JSON,
    )
    def get_threshold(self, call: Call, threshold: int, type: str, offset: int, n: int) -> Reply:
        """The labels with at least so many elements of an index type, ranked and listed as by top.

        For the second page of 10000 labels ask for ``offset=10000``.
        """
        first = min(offset, _FAR)
        return self._ranked(call, index_type(type), max(threshold, 1), slice(first, first + min(n or LISTED, _FAR)))

    def _ranked(self, call: Call, kind: int, least: int, page: slice) -> Reply:
        self._catch_up(call)
        found = counts.ranked(self, call.view, kind, least, page)
        return answer(b'{"Label":%d,"Size":%d}' % one for one in found)

    @endpoint("POST", "reload")
    def post_reload(self, call: Call) -> None:
        """Counts the elements of the annotation instance at this version anew, in the background.

        Elements that were there before the sync are counted by this. Meanwhile changes are followed as ever, all
        requests are answered from what is counted so far, and ``info`` shows ``Reload``.
        """
        if self.annotation() is None:
            raise BadRequest(f'"{self.record.name}" is not synced with an annotation instance')
        self._catch_up(call)
        recount.start(self, call)


_FAR = 1 << 61
"""More labels than there can be."""


def _blob_engine(database: Database) -> Engine:
    """The store of what instances keep beside their own rows."""
    return database.stores[database.assign.metadata]


def _labels(value: Any) -> list[int]:
    if type(value) is not list:
        raise BadRequest("the body must be a JSON list of labels")
    for label in value:
        if type(label) is not int or not 0 <= label <= UINT64_MAX:
            raise BadRequest(f"{orjson.dumps(label).decode()[:60]} is not a label, a uint64")
    return value
