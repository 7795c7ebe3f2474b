"""What labelmap keeps in memory is never older than the snapshot that a request reads."""

from __future__ import annotations

import numpy as np

from dvidcore import blocks
from dvidcore.datatypes.labels import stored
from dvidcore.datatypes.labels.reading.coded_cache import CodedCache
from dvidcore.datatypes.registry import Instances
from dvidcore.errors import StoreError
from dvidcore.storage.memory import Memory
from labelmap_client import BLOCK, Seg, blobs, rles
from side_by_side import beside


def coded(seed: int) -> bytes:
    return blocks.encode(blobs(BLOCK, seed))


def test_an_entry_is_used_for_its_very_bytes_alone():
    cache = CodedCache()
    one, two = coded(1), coded(2)
    place = (b"prefix", 0, 0, 0)
    cache.keep(place, stored.store(one), one)
    assert cache.find(place, stored.store(one)) == one
    assert cache.find(place, memoryview(stored.store(one))) == one
    assert cache.find(place, stored.store(two)) is None
    assert cache.find((b"prefix", 0, 0, 1), stored.store(one)) is None
    cache.keep(place, stored.store(two), two)
    assert cache.find(place, stored.store(one)) is None
    assert cache.find(place, stored.store(two)) == two


def test_the_cache_keeps_what_was_used_last_within_its_limit():
    block = coded(1)
    value = stored.store(block)
    each = len(block) + len(value) + 300
    cache = CodedCache(3 * each)
    for x in range(3):
        cache.keep((b"", 0, 0, x), value, block)
    assert cache.find((b"", 0, 0, 0), value)
    for x in (3, 3, 4):
        cache.keep((b"", 0, 0, x), value, block)
    assert [x for x in range(5) if cache.find((b"", 0, 0, x), value)] == [0, 3, 4]
    CodedCache(each - 1).keep((b"", 0, 0, 0), value, block)


def test_a_block_of_one_label_is_not_kept():
    cache = CodedCache()
    solid = blocks.encode(np.full(BLOCK, 5, np.uint64))
    cache.keep((b"", 0, 0, 0), stored.store(solid), solid)
    assert cache.find((b"", 0, 0, 0), stored.store(solid)) is None


def test_reads_follow_writes(database):
    seg = Seg.create(database)
    for seed in range(4):
        seg.write(blobs(BLOCK, seed), (0, 0, 0))
        asked = [[x, 7, 11] for x in range(48)]
        want = seg.cut((11, 7, 0), (1, 1, 48)).ravel().tolist()
        for _ in range(2):
            assert seg.json("labels", asked) == want
            assert seg.json("label/5_7_11") == {"Label": want[5]}
            bodies = [v for v in seg.present() if v]
            assert seg.json("existing-labels") == bodies
            assert seg.json("mapping", [*bodies, 777]) == [*bodies, 0]
            for body in bodies:
                assert rles(seg.get(f"sparsevol/{body}")) == seg.runs([body])
    a, b, *_ = seg.json("existing-labels")
    seg.merge(a, b)
    assert b not in seg.json("existing-labels")
    assert seg.json("mapping", [a, b]) == [a, a]


def test_reads_follow_the_writes_of_another_process(database):
    """Another object of the instance stands for another process: the caches of one know nothing of the other."""
    seg = Seg.create(database)
    seg.write(blobs(BLOCK, 0), (0, 0, 0))
    before = seg.json("existing-labels")
    mine = seg.client.server.instances
    seg.client.server.instances = Instances(database)
    seg.write(blobs(BLOCK, 1), (0, 0, 0))
    seg.merge(*seg.json("existing-labels")[:2])
    after = seg.json("existing-labels")
    seg.client.server.instances = mine
    assert seg.json("existing-labels") == after != before
    assert seg.json("mapping", after) == after
    for body in after:
        assert rles(seg.get(f"sparsevol/{body}")) == seg.runs(seg.supervoxels(body))


def test_versions_are_known_apart(database):
    parent = Seg.create(database)
    parent.write(blobs(BLOCK, 2), (0, 0, 0))
    versions = [parent]
    for _ in range(10):
        child = versions[-1].child()
        bodies = child.json("existing-labels")
        if len(bodies) > 2:
            child.merge(*bodies[:2])
        versions.append(child)
    for seg in (*versions, *reversed(versions)):
        assert seg.json("existing-labels") == sorted({seg.body_of.get(v, v) for v in seg.present() if v})


def test_readers_beside_a_writer_see_one_state(database):
    seg = Seg.create(database)
    states = [np.full(BLOCK, n, np.uint64) for n in (1, 2, 3)]
    for state in states:
        state[:, :, :8] = 9
    seg.write(states[0], (0, 0, 0))

    def read() -> None:
        labels = set(seg.json("labels", [[x, 1, 1] for x in range(9, 48)]))
        bodies = seg.json("existing-labels")
        assert len(labels) == 1 and len(bodies) == 2 and bodies[1] == 9, (labels, bodies)

    with beside(read, read, read):
        for k in range(20):
            seg.write(states[k % 3], (0, 0, 0))


def test_a_mapping_whose_write_fails_is_forgotten(database, monkeypatch):
    seg = Seg.create(database)
    seg.write(blobs(BLOCK, 1), (0, 0, 0))
    a, b, c, *_ = seg.json("existing-labels")
    seg.merge(a, b)
    (repo,) = database.repos.values()
    mapping = seg.client.server.instances.of(repo, repo.instances["seg"]).mapping
    before = mapping.recent

    def full(*_: object, **__: object) -> None:
        raise StoreError("no space is left")

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "write", full)
        assert seg.ask("merge", [a, c], "POST").status == 500
    assert mapping.recent == before
    assert seg.json("mapping", [a, b, c]) == [a, a, c]
    seg.merge(a, c)
    assert seg.json("mapping", [a, b, c]) == [a, a, a]
