"""The one label engine, of which labelmap (and, later, labelarray, labelblk and labelvol) are skins.

``rows`` says what is stored, ``stored`` how a block is, ``ingest`` and ``merge`` write, ``volume``, ``points`` and
``sparse`` read, ``index`` and ``mapping`` hold what is known of bodies and supervoxels; ``labelmap`` declares endpoints.
"""
