"""The one label engine, of which labelmap and labelarray (and, later, labelblk and labelvol) are skins.

``rows`` says what is stored, ``stored`` how a block is, ``ingest``, ``posted`` and ``merge`` write, ``volume``,
``points`` and ``sparse`` read, ``index`` and ``mapping`` hold what is known of bodies and supervoxels. Endpoints are
declared in ``voxels`` (all types with voxels), ``indexed`` (all with an index), ``labelmap`` and ``labelarray``.
"""
