"""tarsupervoxels: a file for each supervoxel, and a tar file of them for each body.

``datatype`` has the endpoints, ``files`` are the stored files, ``tar`` reads and makes tar files, and ``bodies`` asks the
labelmap that an instance is synced with.
"""
