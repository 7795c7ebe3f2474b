"""The HTTP face: a Falcon application over a database. ``create_app`` makes it, ``serve`` runs it."""
