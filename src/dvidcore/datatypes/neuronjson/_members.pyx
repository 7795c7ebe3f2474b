"""The members of JSON objects as texts, and as columns of codes that stand for distinct texts.

The objects are compact, as orjson writes them: nothing between the tokens, so a value is told by its first byte and
equal values of one writer are equal texts. They are split and not validated; what cannot be split raises ValueError.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memcpy
from libcpp.vector cimport vector

import numpy as np


cdef const char* _past_text(const char* at, const char* stop) noexcept nogil:
    """The place behind the text whose first quote is at ``at``; NULL where it does not end."""
    cdef const char* quote = at + 1
    cdef const char* first
    while True:
        quote = <const char*>memchr(quote, c'"', stop - quote)
        if quote == NULL:
            return NULL
        first = quote
        while (first - 1)[0] == c'\\':  # ends at the first quote
            first -= 1
        quote += 1
        if (quote - first) & 1:  # an even number of backslashes before it
            return quote


cdef const char* _past_value(const char* at, const char* stop) noexcept nogil:
    """The place behind the value at ``at``; NULL where there is none, or it does not end."""
    cdef Py_ssize_t depth = 0
    cdef char c
    if at == stop or at[0] == c',':
        return NULL
    if at[0] == c'"':
        return _past_text(at, stop)
    if at[0] != c'[' and at[0] != c'{':
        while at < stop and at[0] != c',':
            at += 1
        return at
    while at < stop:
        c = at[0]
        if c == c'"':
            at = _past_text(at, stop)
            if at == NULL:
                return NULL
            continue
        at += 1
        if c == c'[' or c == c'{':
            depth += 1
        elif c == c']' or c == c'}':
            depth -= 1
            if depth == 0:
                return at
    return NULL


cdef struct _Member:
    const char* name
    const char* colon
    const char* value
    const char* stop


cdef int _split(const char* at, const char* stop, _Member* found) except -1:
    """The member behind the brace or comma at ``at``."""
    if at[0] != c'{' and at[0] != c',':
        raise ValueError("the members of a JSON object are not separated by commas")
    found.name = at + 1
    found.colon = NULL
    if found.name < stop and found.name[0] == c'"':
        found.colon = _past_text(found.name, stop)
    if found.colon == NULL or found.colon == stop or found.colon[0] != c':':
        raise ValueError("a member of a JSON object has no name")
    found.value = found.colon + 1
    found.stop = _past_value(found.value, stop)
    if found.stop == NULL:
        raise ValueError("a member of a JSON object has no value that ends")
    return 0


cdef int _check(Py_buffer* view, Py_ssize_t start, Py_ssize_t stop) except -1:
    if not 0 <= start <= stop <= view.len:
        raise ValueError(f"{start} to {stop} of {view.len} bytes")
    return 0


def members(text, Py_ssize_t start, Py_ssize_t stop):
    """The members that ``text[start:stop]`` has: a dict of the name of each, in its quotes, and its value.

    text is a buffer; the part of it is a JSON object without its closing brace, or a piece of one that begins with a
    comma, or empty. O(bytes). Raises ValueError where it cannot be split.
    """
    cdef Py_buffer view
    cdef const char* at
    cdef const char* end
    cdef _Member member
    found = {}
    PyObject_GetBuffer(text, &view, PyBUF_SIMPLE)
    try:
        _check(&view, start, stop)
        at, end = <const char*>view.buf + start, <const char*>view.buf + stop
        while at < end:
            _split(at, end, &member)
            found[member.name[: member.colon - member.name]] = member.value[: member.stop - member.value]
            at = member.stop
    finally:
        PyBuffer_Release(&view)
    return found


cdef class _Field:
    cdef bytes name
    cdef bint kept
    cdef dict codes
    cdef list values
    cdef vector[uint32_t] rows
    cdef _Field next
    """The field that came behind this one the last time."""

    def __cinit__(self, bytes name, bint kept):
        self.name = name
        self.kept = kept
        self.codes = {None: 0}
        self.values = [None]
        self.next = None


cdef class Builder:
    """Makes columns of the members of JSON objects, one object after the other.

    ``without`` is the name of a member, in its quotes, that gets no column.
    """

    cdef dict _fields
    cdef _Field _before
    cdef Py_ssize_t _count

    def __init__(self, bytes without):
        self._fields = {without: _Field(without, False)}
        self._before = _Field(b"", False)
        self._count = 0

    def add(self, text, Py_ssize_t start, Py_ssize_t stop):
        """The next object: ``text[start:stop]``, as for ``members``.

        O(bytes). Raises ValueError where it cannot be split, and the builder is of no use any more.
        """
        cdef Py_buffer view
        cdef const char* at
        cdef const char* end
        cdef _Member member
        cdef _Field field, before = self._before
        PyObject_GetBuffer(text, &view, PyBUF_SIMPLE)
        try:
            _check(&view, start, stop)
            at, end = <const char*>view.buf + start, <const char*>view.buf + stop
            while at < end:
                _split(at, end, &member)
                field = before.next
                if field is None or not _named(field, &member):
                    field = before.next = self._field(member.name[: member.colon - member.name])
                if field.kept:
                    self._put(field, member.value[: member.stop - member.value])
                before = field
                at = member.stop
        finally:
            PyBuffer_Release(&view)
        self._count += 1

    cdef _Field _field(self, bytes name):
        cdef _Field field = self._fields.get(name)
        if field is None:
            field = self._fields[name] = _Field(name, True)
        return field

    cdef int _put(self, _Field field, bytes value) except -1:
        cdef uint32_t new = len(field.values)
        cdef uint32_t code = field.codes.setdefault(value, new)
        if code == new:
            field.values.append(value)
        if <Py_ssize_t>field.rows.size() > self._count:
            raise ValueError("a member of a JSON object is repeated")
        field.rows.resize(self._count)
        field.rows.push_back(code)
        return 0

    def columns(self):
        """The columns of all objects: a dict of name, in its quotes → (codes by value, values by code, rows).

        rows is uint32 (objects,): the code of each object's value, 0 where it has no such member. Values are texts;
        that of code 0 is None.
        """
        cdef _Field field
        cdef uint32_t[::1] rows
        found = {}
        for field in self._fields.values():
            if field.kept:
                array = np.zeros(self._count, np.uint32)
                rows = array
                if field.rows.size():
                    memcpy(&rows[0], field.rows.data(), 4 * min(field.rows.size(), <size_t>self._count))
                found[field.name] = field.codes, field.values, array
        return found


cdef bint _named(_Field field, _Member* member) noexcept:
    cdef Py_ssize_t size = member.colon - member.name
    return PyBytes_GET_SIZE(field.name) == size and not memcmp(PyBytes_AS_STRING(field.name), member.name, size)
