"""The datatype neuronjson: its endpoints for annotations and queries; those for schemas are in ``schemas``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import orjson

from dvidcore import codecs
from dvidcore.datatypes import pairs
from dvidcore.datatypes.arguments import switch, text
from dvidcore.datatypes.call import JSON, OCTETS, Buffer, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.neuronjson import checking
from dvidcore.datatypes.neuronjson import query as queries
from dvidcore.datatypes.neuronjson.annotation import (
    BODYID,
    MAIN,
    TIMES,
    USERS,
    Annotation,
    Selection,
    body_of_key,
    decode,
    encode,
    parsed,
)
from dvidcore.datatypes.neuronjson.columns import Column, Rows
from dvidcore.datatypes.neuronjson.compressed import accepts_gzip, gzipped
from dvidcore.datatypes.neuronjson.rows import body_of, described
from dvidcore.datatypes.neuronjson.schema import Checker
from dvidcore.datatypes.neuronjson.schemas import AS_KEYS, WithSchemas
from dvidcore.datatypes.neuronjson.tables import Tables
from dvidcore.datatypes.neuronjson.times import latest
from dvidcore.datatypes.neuronjson.update import Update, present, updated
from dvidcore.datatypes.neuronjson.writing import Changes
from dvidcore.errors import BadRequest, NotFound, TooLarge
from dvidcore.geometry import UINT64_MAX
from dvidcore.storage.versioned import KeyConflict, View

if TYPE_CHECKING:
    from dvidcore.datatypes.checks import Examination
    from dvidcore.repos import Database, InstanceRecord, Repo

LARGEST_POST = 512 << 20
"""Bytes of annotations that are posted together: they are held in memory."""

_SOME = 1000

_SHOWN = (
    text("show", "", "user, time or all: with the fields *_user, *_time or both; anything else: with neither"),
    text("fields", "", "a,b,c: only these fields, and bodyid; with show also who set them and when"),
)
_UPDATE = (
    text("conditional", "", "f1,f2: fields that keep their values where they have some"),
    text("conditionals", "", "an older name of conditional, without effect beside it"),
    switch("replace", False, "true: fields that are not posted are removed"),
)
_FORMS = (*pairs.FORMS, switch("check", True, "has no effect, annotations always are JSON"))


class NeuronJSON(WithSchemas):
    """One neuronjson instance."""

    typename: ClassVar[str] = "neuronjson"
    typeversion: ClassVar[str] = "0.1"
    url: ClassVar[str] = "github.com/janelia-flyem/dvid/datatype/neuronjson"
    strict_verbs: ClassVar[frozenset[str]] = frozenset(
        {"all", "fields", "fieldtimes", "keyrange", "keyrangevalues", "keys"}
    )

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.tables = Tables(self.rows)

    def row_name(self, prefix_key: bytes) -> str:
        return described(prefix_key)

    def check(self, exam: Examination) -> None:
        checking.check(exam)

    # -- one annotation -----------------------------------------------------------------------------------------------

    @endpoint("GET", "key/{body:text}", query=_SHOWN, answers=JSON)
    def get_key(self, call: Call, body: str, *, show: str = "", fields: str = "") -> Reply:
        """The annotation of a body, a JSON object; 404 where this version has none.

        For schema and schema_batch in place of a body, these. HEAD tells whether there is one.
        """
        if body in AS_KEYS:
            return self.read_schema(call, body)
        stored = call.view.get(self.rows.annotation(body_of_key(body)))
        if stored is None:
            raise NotFound(f"body {body} has no annotation")
        return Reply(Selection.of(show, fields).text(codecs.unpack(stored)), JSON)

    @endpoint("POST", "key/{body:text}", query=_UPDATE)
    def post_key(
        self, call: Call, body: str, *, conditional: str = "", conditionals: str = "", replace: bool = False
    ) -> None:
        """Merges the body of the request, a JSON object with the field bodyid, into the annotation of a body.

        A field of another value than before gets field_user, which is the user of the query (u, required), and
        field_time, the present, unless these are given. null removes a field. Fields that are not posted stay, or are
        removed with replace=true; those that conditional names keep what they have. The schemas schema and schema_batch
        can be posted here too.
        """
        how = _update(call, conditional, conditionals, replace)
        self._post(call, [(body, call.body.json_text())], how, "postneuronjson")

    @endpoint("DELETE", "key/{body:text}")
    def delete_key(self, call: Call, body: str) -> None:
        """Deletes the annotation of a body from this version on; no error where there is none."""
        if body in AS_KEYS:
            self.write_schema(call, body)
            return
        number = body_of_key(body)

        def change(view: View, changes: Changes) -> None:
            changes.annotation(number, None)
            changes.tell("deleteneuronjson", body)

        self.writer.write(call, change)

    # -- bodies and ranges of them ------------------------------------------------------------------------------------

    @endpoint("GET", "keys", answers=JSON)
    def get_keys(self, call: Call) -> Reply:
        """The bodies that have an annotation: a JSON list of their numbers as texts, ascending."""
        return self._list_keys(call.view, *self.rows.annotations)

    @endpoint("GET", "keyrange/{first:text}/{last:text}", answers=JSON)
    def get_keyrange(self, call: Call, first: str, last: str) -> Reply:
        """The bodies from first to last, both included, that have an annotation: a JSON list as that of keys.

        A bound that starts with a character that sorts after 9 is above all bodies, before 0 below all.
        """
        return self._list_keys(call.view, *self._range(first, last))

    @endpoint("GET", "keyrangevalues/{first:text}/{last:text}", query=(*_FORMS, *_SHOWN), answers=OCTETS)
    def get_keyrangevalues(
        self, call: Call, first: str, last: str, *, show: str = "", fields: str = "", check: bool = True, **forms: bool
    ) -> Reply:
        """The annotations of the bodies from first to last, both included, in ascending order.

        The answer is a KeyValues message, a JSON object, or a tar file with a member of mode 0755 per body.
        """
        form = pairs.form_of(**forms)
        start, stop = self._range(first, last)
        selection = Selection.of(show, fields)
        return pairs.answer_pairs(form, partial(self._scanned, call.view, start, stop, selection), False)

    # -- several annotations ------------------------------------------------------------------------------------------

    @endpoint("GET", "keyvalues", query=(*_FORMS, *_SHOWN), answers=OCTETS)
    def get_keyvalues(
        self, call: Call, *, show: str = "", fields: str = "", check: bool = True, **forms: bool
    ) -> Reply:
        """The annotations of the bodies that the body of the request lists, in its order.

        For protobuf that is a Keys message, for json a JSON list of texts or of numbers, for tar of texts. A body
        without an annotation has no value, and is left out of JSON.
        """
        form = pairs.form_of(**forms)
        keys = _keys_of_protobuf(call) if form == "protobuf" else _keys_of_json(call, numbers=form == "json")
        selection = Selection.of(show, fields)
        listed = partial(self._listed, call.view, keys, selection, form == "json")
        # Only the schemas, which may be anything, are to be looked at.
        return pairs.answer_pairs(form, listed, form == "json" and not AS_KEYS.isdisjoint(keys))

    @endpoint("POST", "keyvalues", query=_UPDATE)
    def post_keyvalues(
        self, call: Call, *, conditional: str = "", conditionals: str = "", replace: bool = False
    ) -> None:
        """Merges the annotations of a KeyValues message, each as by POST key, all or none."""
        how = _update(call, conditional, conditionals, replace)
        if call.body.length > LARGEST_POST:
            raise TooLarge(f"the body has {call.body.length} bytes, at most {LARGEST_POST} of annotations are allowed")
        posted = list(pairs.posted(call.body))
        if posted:
            self._post(call, posted, how, "ingestneuronjson")

    # -- all annotations ----------------------------------------------------------------------------------------------

    @endpoint("GET", "all", query=_SHOWN, answers=JSON)
    def get_all(self, call: Call, *, show: str = "", fields: str = "") -> Reply:
        """All annotations: a JSON list, ascending by body, compressed by gzip where the request accepts it.

        Annotations of which nothing but bodyid would be shown are left out, unless fields=bodyid.
        """
        selection = Selection.of(show, fields)
        table = self.tables.at(call, selection.sections)
        shown = table.shown(selection)
        if selection.fields == frozenset((BODYID,)):
            rows = np.arange(len(table.bodies))
        else:
            rows = np.flatnonzero(table.with_any(shown))
        reply = pairs.answer_list(table.texts(rows, shown))
        reply.headers = {"Vary": "Accept-Encoding"}
        return gzipped(reply) if accepts_gzip(call.headers) else reply

    @endpoint(
        "GET",
        "fields",
        query=[switch("counts", False, "true: an object of each name and the number of annotations that have it")],
        answers=JSON,
    )
    def get_fields(self, call: Call, *, counts: bool = False) -> dict[str, int] | list[str]:
        """The names of all fields that occur in this version, bodyid and those of users and times included."""
        table = self.tables.at(call, (MAIN, USERS, TIMES))
        found = {BODYID: len(table.bodies)}
        for section in (MAIN, USERS, TIMES):
            for name, column in sorted(table.sections[section].items()):
                found[name] = int(np.count_nonzero(column.codes))
        found = {name: count for name, count in found.items() if count}
        return found if counts else list(found)

    @endpoint("GET", "fieldtimes", answers=JSON)
    def get_fieldtimes(self, call: Call) -> dict[str, str]:
        """When each field was last changed in any annotation: an object of the fields that have times."""
        table = self.tables.at(call, (TIMES,))
        columns = sorted(table.sections[TIMES].items())
        return {name.removesuffix("_time"): latest(used) for name, column in columns if (used := _values(column))}

    _QUERY = (*_SHOWN, switch("onlyid", False, "true: the bodies alone, as numbers"))

    @endpoint("GET", "query", query=_QUERY, answers=JSON)
    @endpoint("POST", "query", query=_QUERY, answers=JSON, writes=False)
    def get_query(self, call: Call, *, show: str = "", fields: str = "", onlyid: bool = False) -> Reply:
        """The annotations that a query matches: a JSON list, ascending by body.

        The body of the request is an object of fields and conditions, which must all be met, or a list of such objects,
        of which one must match. A condition is a number, true or false; a text; "re/EXPR", a text in which the regular
        expression (RE2) occurs; a list of these, any of which; "exists/1" or "exists/0". Where a field is a list of
        numbers or of texts one member is enough.
        """
        asked = queries.parsed(call.body.json())
        selection = Selection.of(show, fields)
        bodies = queries.listed_bodies(asked)
        if bodies is not None:
            return self._those(call.view, bodies, selection, onlyid)
        shown = frozenset() if onlyid else selection.sections
        table = self.tables.at(call, queries.sections_of(asked) | shown)
        rows: Rows = np.flatnonzero(queries.matching(table, asked))
        if onlyid:
            return Reply(orjson.dumps(table.bodies[rows], option=orjson.OPT_SERIALIZE_NUMPY), JSON)
        return pairs.answer_list(table.texts(rows, table.shown(selection)))

    # -- reading ------------------------------------------------------------------------------------------------------

    def _range(self, first: str, last: str) -> tuple[bytes, bytes]:
        """Start and stop of the scan over the bodies of a range."""
        low, high = _bound(first, "first"), _bound(last, "last")
        stop = self.rows.annotations[1] if high == UINT64_MAX else self.rows.annotation(high + 1)
        return self.rows.annotation(low), max(stop, self.rows.annotation(low))

    def _list_keys(self, view: View, start: bytes, stop: bytes) -> Reply:
        names = (b'"%d"' % body_of(prefix_key) for prefix_key in view.keys(start, stop))
        return pairs.answer_list(b",".join(some) for some in iter(lambda: list(islice(names, _SOME)), []))

    def _scanned(self, view: View, start: bytes, stop: bytes, selection: Selection) -> Iterator[pairs.Pair]:
        try:
            for prefix_key, stored in view.scan(start, stop):
                yield str(body_of(prefix_key)), selection.text(codecs.unpack(stored))
        except KeyConflict as e:
            raise self.explained(e) from None

    def _listed(
        self, view: View, keys: Iterable[str], selection: Selection, present_only: bool
    ) -> Iterator[pairs.Pair]:
        for key in keys:
            value: Buffer | None
            if key in AS_KEYS:
                value = self.schema(view, key)
            else:
                stored = view.get(self.rows.annotation(body_of_key(key)))
                value = None if stored is None else selection.text(codecs.unpack(stored))
            if value is not None or not present_only:
                yield key, value

    def _those(self, view: View, bodies: list[int], selection: Selection, onlyid: bool) -> Reply:
        """The annotations of some bodies, of those that have one."""
        found = zip(bodies, view.get_many(map(self.rows.annotation, bodies)), strict=True)
        if onlyid:
            return Reply(orjson.dumps([body for body, stored in found if stored is not None]), JSON)
        return pairs.answer_list(selection.text(codecs.unpack(stored)) for _, stored in found if stored is not None)

    # -- writing ------------------------------------------------------------------------------------------------------

    def _post(self, call: Call, posted: list[tuple[str, bytes]], how: Update, action: str) -> None:
        """Writes annotations and schemas with their log records, all or none."""
        repeated = {key for key, count in Counter(key for key, _ in posted).items() if count > 1}

        def change(view: View, changes: Changes) -> None:
            checker = self.checker(view)
            pending: dict[str, Annotation] = {}
            for key, value in posted:
                if key in AS_KEYS:
                    self.change_schema(changes, key, value)
                    continue
                body = body_of_key(key)
                new = parsed(value, body)
                old = pending.get(key) or self._seen(view, body, how)
                stored = self._merged(old, new, how, checker)
                if key in repeated:
                    pending[key] = stored
                changes.annotation(body, self.packed(encode(stored)))
                changes.tell(action, key, len(value))

        self.writer.write(call, change)

    def _merged(self, old: Annotation | None, new: Annotation, how: Update, checker: Checker | None) -> Annotation:
        checked = new if checker is None else checker.check(new, new[BODYID])
        return updated(old, checked, how)

    def _seen(self, view: View, body: int, how: Update) -> Annotation | None:
        """The annotation that a POST meets. One that replaces it settles what merged versions disagree on."""
        try:
            stored = view.get(self.rows.annotation(body))
        except KeyConflict as e:
            if how.replace:
                return None
            explained = self.explained(e)
            raise type(explained)(f"{explained}; DELETE it or POST it with replace=true") from None
        return None if stored is None else decode(codecs.unpack(stored))


def _update(call: Call, conditional: str, conditionals: str, replace: bool) -> Update:
    if not call.user:
        raise BadRequest("u: the user is missing")
    names = (conditional or conditionals).split(",")
    return Update(call.user, present(), frozenset(name for name in names if name), replace)


def _bound(value: str, name: str) -> int:
    """The end of a range of bodies as a number."""
    if value[0] < "0":
        return 0
    if value[0] > "9":
        return UINT64_MAX
    if not (value.isascii() and value.isdecimal()) or len(value) > 20 or int(value) > UINT64_MAX:
        raise BadRequest(
            f'{name}: "{value[:60]}" is not a number of 0 to {UINT64_MAX}, nor starts with another character'
        )
    return int(value)


def _keys_of_protobuf(call: Call) -> list[str]:
    wanted = pairs.wanted_of_protobuf(call.body.read())
    if any(start is not None for _, start, _ in wanted):
        raise BadRequest("a Keys message must not have key ranges here")
    return [_checked(key) for key, _, _ in wanted]


def _keys_of_json(call: Call, numbers: bool) -> list[str]:
    """The keys of a JSON list of texts, or with ``numbers`` of texts or of numbers; there each key once."""
    given: Any = call.body.json()
    kinds = set(map(type, given)) if isinstance(given, list) else {None}
    if kinds <= {str}:
        keys = [_checked(key) for key in given]
    elif numbers and kinds == {int}:
        keys = [_checked(str(number)) for number in given]
    else:
        raise BadRequest(f"the body must be a JSON list of texts{' or of numbers' if numbers else ''}, the keys")
    return list(dict.fromkeys(keys)) if numbers else keys


def _checked(key: str) -> str:
    if key not in AS_KEYS:
        body_of_key(key)
    return key


def _values(column: Column) -> list[str]:
    """The texts that occur in a column."""
    values = column.dictionary.by_code
    found = [orjson.loads(value) for code in column.dictionary.used(column.codes).tolist() if (value := values[code])]
    return [value for value in found if type(value) is str]
