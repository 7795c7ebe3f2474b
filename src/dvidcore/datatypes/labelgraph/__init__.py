"""labelgraph: vertices and edges with weights and properties, and transactions over the properties.

``datatype`` has the endpoints, ``graph`` reads, ``changes`` writes, ``transactions`` are those of properties; ``forms``
is how graphs cross the wire, ``rows`` how they are stored.
"""
