"""Regions of interest: sets of blocks, kept as runs along X.

``spans`` is the set of blocks and what can be asked of it; ``region`` is such a set in voxels, as another instance or
the type itself finds it at a version; ``partition`` covers it with boxes; ``datatype`` declares the endpoints.
"""
