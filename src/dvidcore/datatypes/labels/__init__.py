"""The one label engine, of which labelmap, labelarray, labelblk and labelvol are skins.

``rows`` says what is stored, ``stored`` how a block is, ``ingest``, ``posted`` and ``merge`` write, ``volume``,
``points`` and ``sparse`` read, ``index`` and ``mapping`` hold what is known of bodies and supervoxels. Endpoints are
declared in ``voxels`` (all types with voxels), ``indexed`` (all with an index), and one module for each type. What differs
between the types is in these: labelmap has supervoxels and a mapping, which mutations change; of labelarray and labelvol
the voxels are the bodies, so mutations rewrite blocks (``relabel``); labelblk has voxels alone, and follows a labelvol or
another labelblk (``follow``).
"""
