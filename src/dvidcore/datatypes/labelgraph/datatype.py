"""The datatype labelgraph: its endpoints. What they do is in the other modules of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from dvidcore.datatypes.arguments import choice, flag
from dvidcore.datatypes.base import DataType
from dvidcore.datatypes.call import JSON, OCTETS, Buffer, Call, Reply
from dvidcore.datatypes.endpoints import endpoint
from dvidcore.datatypes.labelgraph import changes, forms, transactions
from dvidcore.datatypes.labelgraph.changes import Change, Writer
from dvidcore.datatypes.labelgraph.forms import Graph
from dvidcore.datatypes.labelgraph.graph import GraphView
from dvidcore.datatypes.labelgraph.rows import Owner, Rows, describe
from dvidcore.errors import BadRequest, NotFound, TooLarge
from dvidcore.storage.keys import VERSION_BYTES
from dvidcore.storage.versioned import View

if TYPE_CHECKING:
    from dvidcore.repos import Database, InstanceRecord, Repo

MOST_WEIGHTS = 1000
"""Vertices that one request may change the weights of or between."""
LARGEST_TRANSACTION = 256 << 20
"""Bytes of a transaction's body, which is held in memory."""
LONGEST_NAME = 1000
"""Bytes of a property's name in UTF-8."""

_UNSAFE = flag("unsafe", "true: the lists may be left out and entries may be repeated")
_KINDS = {"vertices": 1, "edges": 2}


class LabelGraph(DataType):
    """A weighted undirected graph whose vertices are labels, with properties, and transactions over these."""

    typename: ClassVar[str] = "labelgraph"
    typeversion: ClassVar[str] = "0.1"
    url: ClassVar[str] = "github.com/janelia-flyem/dvid/datatype/labelgraph"

    def __init__(self, database: Database, repo: Repo, record: InstanceRecord) -> None:
        super().__init__(database, repo, record)
        self.rows = Rows(record.id)
        self.writer = Writer(self)
        # A store may take shorter keys only.
        taken = len(self.rows.property((1, 2), "")) + VERSION_BYTES
        self.longest_name = min(LONGEST_NAME, getattr(self.engine, "max_key_bytes", 1 << 20) - taken)
        """Bytes that the name of a property may have in UTF-8."""

    def row_name(self, prefix_key: bytes) -> str:
        return describe(prefix_key)

    def _view(self, view: View) -> GraphView:
        return GraphView(self.rows, view)

    # -- the graph -----------------------------------------------------------------------------------------------------

    @endpoint("GET", "subgraph", query=[_UNSAFE], answers=JSON)
    def get_subgraph(self, call: Call, unsafe: bool = False) -> Reply:
        """The whole graph, or the vertices of the body with every edge that touches one of them.

        The answer is {"Transactions": [], "Vertices": [{"Id": 1, "Weight": 2.3}], "Edges": [{"Id1": 1, "Id2": 2,
        "Weight": 10}]}. Without vertices in the body (which may be empty) it is the whole graph, vertices by id, edges
        by Id1 and Id2. Else it has the vertices in the order asked, and their edges, each once, also those to vertices
        that were not asked for. Weights in the body are ignored. 404 where a vertex does not exist.
        """
        asked = list(dict.fromkeys(vertex for vertex, _ in self._graph(call, unsafe).vertices))
        graph = self._view(call.view)
        if not asked:
            return _streamed(call, lambda: forms.pieces(graph.all_vertices(), graph.all_edges()))
        unknown = graph.missing(asked)
        if unknown is not None:
            raise NotFound(f"vertex {unknown} not found")
        return _streamed(call, lambda: forms.pieces(graph.weights(asked), graph.edges_of(asked)))

    @endpoint(
        "POST",
        "subgraph",
        query=[_UNSAFE, choice("op", None, "get: answers as GET does, and changes nothing", ["get"])],
        reads_with=("op", "get"),
    )
    def post_subgraph(self, call: Call, unsafe: bool = False, op: str | None = None) -> Reply | None:
        """Adds the vertices and the edges of the body; those that exist get the new weight and keep all else.

        The body is as GET answers it: both lists are needed, a weight is 0 where it is left out. Both ends of an edge
        must exist or be in the body.
        """
        if op == "get":
            return self.get_subgraph(call, unsafe)
        graph = self._graph(call, unsafe)
        self.writer.change(call, lambda change: changes.set_graph(change, graph))
        return None

    @endpoint("DELETE", "subgraph", query=[_UNSAFE])
    def delete_subgraph(self, call: Call, unsafe: bool = False) -> None:
        """Removes the vertices of the body with their edges, and the edges of the body; properties go with them.

        Without a body, or with two empty lists, the whole graph of this version goes. What does not exist is ignored.
        """
        graph = self._graph(call, unsafe)
        self.writer.change(call, lambda change: changes.remove(change, graph))

    @endpoint("GET", "neighbors/{vertex:label}", answers=JSON)
    def get_neighbors(self, call: Call, vertex: int) -> Reply:
        """A vertex, its neighbours, and the edges between it and them, in the form of subgraph; the vertex comes first."""
        graph = self._view(call.view)
        if not graph.exists((vertex,)):
            raise BadRequest(f"there is no vertex {vertex}")

        def pieces() -> Iterator[bytes]:
            around = (other for other, _ in graph.neighbours(vertex))
            vertices = (found for some in (iter([vertex]), around) for found in graph.weights(some))
            return forms.pieces(vertices, graph.edges_of([vertex]))

        return _streamed(call, pieces)

    @endpoint("POST", "weight")
    def post_weight(self, call: Call) -> None:
        """Adds the weights of the body to the present ones, all or none.

        A vertex that does not exist is made, and so is an edge whose ends exist or are in the body. At most 1000
        different vertices may be named in the vertices and edges together.
        """
        graph = self._graph(call)
        named = len(graph.ids())
        if named > MOST_WEIGHTS:
            raise BadRequest(f"the body names {named} vertices, at most {MOST_WEIGHTS} are allowed")
        self.writer.change(call, lambda change: changes.add_weights(change, graph))

    @endpoint("POST", "merge")
    @endpoint("POST", "merge/nohistory")
    def post_merge(self, call: Call) -> None:
        """Merges the vertices of the body, at least two, into the last of them.

        Its weight becomes the sum of all, or its own in the body where that is not 0. Its edges to vertices outside have
        the sums of the weights, or the weight of the same edge in the body; other edges in the body mean nothing. The
        other vertices go. THEIR PROPERTIES, AND THOSE OF THEIR EDGES, ARE LOST, and nothing undoes a merge but
        another version.
        """
        graph = self._graph(call)
        self.writer.change(call, lambda change: changes.merge(change, graph))

    def _graph(self, call: Call, unsafe: bool = False) -> Graph:
        if not call.body.length:
            return Graph([], [])
        return forms.parse(call.body.json(), unsafe=unsafe)

    # -- properties ----------------------------------------------------------------------------------------------------

    @endpoint("GET", "property/{vertex:label}/{key:text}", answers=OCTETS)
    def get_vertex_property(self, call: Call, vertex: int, key: str) -> Buffer:
        """The bytes of a vertex's property; none where there is no such property."""
        return self._get_property(call, (vertex,), key)

    @endpoint("POST", "property/{vertex:label}/{key:text}")
    def post_vertex_property(self, call: Call, vertex: int, key: str) -> None:
        """Sets a property of a vertex, which must exist, to the body."""
        self._post_property(call, (vertex,), key)

    @endpoint("DELETE", "property/{vertex:label}/{key:text}")
    def delete_vertex_property(self, call: Call, vertex: int, key: str) -> None:
        """Removes a property of a vertex; no error where there is none."""
        self._delete_property(call, (vertex,), key)

    @endpoint("GET", "property/{vertex1:label}/{vertex2:label}/{key:text}", answers=OCTETS)
    def get_edge_property(self, call: Call, vertex1: int, vertex2: int, key: str) -> Buffer:
        """The bytes of an edge's property; none where there is no such property. The ends may come in either order."""
        return self._get_property(call, (vertex1, vertex2), key)

    @endpoint("POST", "property/{vertex1:label}/{vertex2:label}/{key:text}")
    def post_edge_property(self, call: Call, vertex1: int, vertex2: int, key: str) -> None:
        """Sets a property of an edge, which must exist, to the body."""
        self._post_property(call, (vertex1, vertex2), key)

    @endpoint("DELETE", "property/{vertex1:label}/{vertex2:label}/{key:text}")
    def delete_edge_property(self, call: Call, vertex1: int, vertex2: int, key: str) -> None:
        """Removes a property of an edge; no error where there is none."""
        self._delete_property(call, (vertex1, vertex2), key)

    def _get_property(self, call: Call, owner: Owner, key: str) -> Buffer:
        self._check(owner, key)
        return self._view(call.view).property(owner, key)

    def _post_property(self, call: Call, owner: Owner, key: str) -> None:
        self._check(owner, key)
        value = call.body.read()
        self.writer.change(call, lambda change: changes.set_property(change, owner, key, value))

    def _delete_property(self, call: Call, owner: Owner, key: str) -> None:
        self._check(owner, key)
        self.writer.change(call, lambda change: change.remove_property(owner, key))

    def _check(self, owner: Owner, key: str) -> None:
        """BadRequest for what is no edge, or no name of a property."""
        if len(owner) == 2 and owner[0] == owner[1]:
            raise BadRequest(f"an edge joins two different vertices, not {owner[0]} twice")
        size = len(key.encode(errors="replace"))
        if size > self.longest_name:
            raise BadRequest(f"key: the name has {size} bytes, at most {self.longest_name} are allowed")
        self.rows.property(owner, key)

    # -- transactions --------------------------------------------------------------------------------------------------

    @endpoint("GET", "propertytransaction/vertices/{key:text}", answers=OCTETS)
    def get_vertex_transaction(self, call: Call, key: str) -> Reply:
        """Properties of vertices, with the transaction ids that a write of them needs. All numbers are uint64.

        The body is n, n × (vertex, 0), m, m × vertex: which vertices to get ids of, at most 1000, and which properties
        to read. The answer is k, k × (vertex, id), 0, p, p × (vertex, size, bytes); size is 0 where there is no
        property. Properties of vertices that are not in the first list are left out.
        """
        return self._read_transaction(call, "vertices", key)

    @endpoint("GET", "propertytransaction/edges/{key:text}", answers=OCTETS)
    def get_edge_transaction(self, call: Call, key: str) -> Reply:
        """Properties of edges, with the transaction ids that a write of them needs.

        As for vertices, but with the two ends of each edge in place of a vertex behind m and p, both of which must be
        in the first list. They come back in the order in which they were given.
        """
        return self._read_transaction(call, "edges", key)

    @endpoint("POST", "propertytransaction/vertices/{key:text}", answers=OCTETS)
    def post_vertex_transaction(self, call: Call, key: str) -> bytes:
        """Writes properties of vertices whose transaction ids are still those of the body. All numbers are uint64.

        The body is n, n × (vertex, id), m, m × (vertex, size, bytes). The answer is k, k × (vertex, new id), f, f ×
        vertex. Vertices whose id has changed since, or was never asked for, are refused: their properties are NOT
        written, and the list of f vertices is the only sign of that. Nothing is written for size 0, nor for a vertex
        that does not exist.
        """
        return self._write_transaction(call, "vertices", key)

    @endpoint("POST", "propertytransaction/edges/{key:text}", answers=OCTETS)
    def post_edge_transaction(self, call: Call, key: str) -> bytes:
        """Writes properties of edges; as for vertices, with the two ends of each edge in place of a vertex behind m."""
        return self._write_transaction(call, "edges", key)

    def _transaction(self, call: Call, kind: str, key: str, *, writes: bool) -> transactions.Locks:
        self._check((), key)
        if call.body.length > LARGEST_TRANSACTION:
            raise TooLarge(f"the body has {call.body.length} bytes, a transaction at most {LARGEST_TRANSACTION}")
        return transactions.parse(call.body.read(), _KINDS[kind], writes=writes)

    def _read_transaction(self, call: Call, kind: str, key: str) -> Reply:
        locks = self._transaction(call, kind, key, writes=False)
        ids = transactions.begin(self.writer, call, locks, store=not self.database.read_only)
        graph = self._view(call.view)
        return _streamed(call, lambda: transactions.answer(graph, ids, locks, key), OCTETS)

    def _write_transaction(self, call: Call, kind: str, key: str) -> bytes:
        locks = self._transaction(call, kind, key, writes=True)

        def make(change: Change) -> bytes:
            return transactions.commit(change, self.writer, locks, key)

        return self.writer.change(call, make)


def _streamed(call: Call, pieces: Callable[[], Iterator[Buffer]], content_type: str = JSON) -> Reply:
    """An answer that is made while it is sent.

    Below a merge of versions anything may be in conflict, which is to be known before the first byte: there it is made
    once for that.
    """
    if not call.view.ancestry.linear:
        for _ in pieces():
            pass
    return Reply(pieces(), content_type)
