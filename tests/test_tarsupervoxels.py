"""tarsupervoxels over the HTTP API: files of supervoxels, tar files of bodies, and each point in which DVID was weak."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from apiclient import Answer, Client
from dvidcore.datatypes.tarsupervoxels import tar
from dvidcore.mutations import log
from dvidcore.mutations.jsonlog import JsonLog, read_records
from dvidcore.repos import Database, DatabaseOptions
from dvidcore.storage import open_engine
from dvidcore.storage.leveldb import LevelDB
from dvidcore.storage.memory import Memory
from labelmap_client import Seg

Files = Mapping[str, bytes] | Iterable[tuple[str, bytes]]


def packed(files: Files, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file as Python's own module makes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=False) as archive:
        members = archive.getmembers()
        assert all(m.mode == 0o755 and m.isreg() for m in members)
        assert len({m.name for m in members}) == len(members)
        return {m.name: archive.extractfile(m).read() for m in members}  # type: ignore[union-attr]


class Meshes:
    """An instance at a version, beside a labelmap whose bodies are supervoxels 1 to 8 of one block each."""

    def __init__(self, seg: Seg, name: str = "meshes") -> None:
        self.seg, self.client, self.node, self.name = seg, seg.client, seg.node, name

    @classmethod
    def create(cls, database: Database, sync: bool = True, **settings: str) -> Meshes:
        seg = Seg.create(database, (16, 16, 16), 0)
        labels = np.arange(1, 9, dtype=np.uint64).reshape(2, 2, 2)
        seg.write(labels.repeat(16, 0).repeat(16, 1).repeat(16, 2), (0, 0, 0))
        seg.client.instance(seg.node, "meshes", "tarsupervoxels", **{"Extension": "drc", **settings})
        meshes = cls(seg)
        if sync:
            meshes.do("POST", "sync", {"sync": "seg"})
        return meshes

    def child(self) -> Meshes:
        return Meshes(self.seg.child())

    def ask(self, verb: str, path: str, body: Any = None) -> Answer:
        return self.client(verb, f"/api/node/{self.node}/{self.name}/{path}", body)

    def do(self, verb: str, path: str, body: Any = None) -> bytes:
        answer = self.ask(verb, path, body)
        assert answer.status == 200, answer.text
        return answer.body

    def get(self, path: str, body: Any = None) -> Any:
        return json.loads(self.do("GET", path, body))

    def refused(self, verb: str, path: str, body: Any = None, status: int = 400) -> str:
        """A request that must be refused, and change nothing. Its message."""
        engine = self.client.server.database.stores["main"]
        before = list(engine.scan(b"", b"\xff"))
        answer = self.ask(verb, path, body)
        assert answer.status == status, (answer.status, answer.text)
        assert list(engine.scan(b"", b"\xff")) == before
        return answer.text

    def load(self, files: Files) -> None:
        assert self.do("POST", "load", packed(files)) == b""

    def tar(self, body: int) -> dict[str, bytes]:
        answer = self.ask("GET", f"tarfile/{body}")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/tar"), answer.text
        return unpacked(answer.body)

    def log(self) -> list[Any]:
        """The mutation log of this version without its times."""
        database = self.client.server.database
        repo, node = database.resolve(self.node)
        with database.stores["main"].snapshot() as snapshot:
            records = [json.loads(r) for r in log.records(snapshot, repo.instances[self.name].id, node.id)]
        for record in records:
            assert record.pop("Timestamp") and record.pop("UUID") == self.node and record.pop("MutationID") > 0
        return records


@pytest.fixture
def meshes(database: Database) -> Meshes:
    return Meshes.create(database)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_info(meshes: Meshes) -> None:
    info = meshes.get("info")
    assert info["Base"]["TypeName"] == "tarsupervoxels" and info["Base"]["TypeVersion"] == "0.1"
    assert info["Base"]["TypeURL"] == "github.com/janelia-flyem/dvid/datatype/tarsupervoxels"
    assert info["Base"]["Syncs"] == ["seg"]
    assert info["Extended"] == {"Extension": "drc"}


@pytest.mark.parametrize("extension", [None, "", ".drc", "a/b", "a b", "ü", "x" * 65, "a\0", ".."])
def test_an_extension_is_required(database: Database, extension: str | None) -> None:
    client = Client(database)
    root = client.repo()
    config = {"typename": "tarsupervoxels", "dataname": "m"} | ({} if extension is None else {"Extension": extension})
    answer = client.post(f"/api/repo/{root}/instance", config)
    assert answer.status == 400 and "Extension" in answer.text
    assert client.get(f"/api/node/{root}/m/info").status == 400


def test_another_extension_hides_the_files_of_the_first(meshes: Meshes) -> None:
    meshes.load({"1.drc": b"one"})
    for verb, body in (("POST", {}), ("POST", {"Extension": 5}), ("POST", {"Extension": "../x"}), ("POST", {"x": "y"})):
        meshes.refused(verb, "info", body)
    answer = meshes.ask("POST", "info", {"extension": "obj"})
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain"
    assert meshes.get("info")["Extended"] == {"Extension": "obj"}
    assert meshes.get("exists", [1]) == [False]
    meshes.refused("GET", "supervoxel/1", status=404)
    meshes.load({"1.obj": b"v 0 0 0"})
    meshes.refused("POST", "load", packed({"1.drc": b"old"}))
    assert meshes.tar(1) == {"1.obj": b"v 0 0 0"}
    meshes.do("POST", "info", {"Extension": "drc"})
    assert meshes.tar(1) == {"1.drc": b"one"}


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_of_a_supervoxel(meshes: Meshes) -> None:
    for supervoxel in (1, 2**63, 2**64 - 1):
        path = f"supervoxel/{supervoxel}"
        assert "not found" in meshes.refused("GET", path, status=404)
        assert meshes.ask("HEAD", path).status == 404
        meshes.do("POST", path, b"first")
        assert meshes.do("POST", path, bytes(range(256)) * 40) == b""
        answer = meshes.ask("GET", path)
        assert (answer.body, answer.headers["content-type"]) == (bytes(range(256)) * 40, "application/octet-stream")
        assert meshes.do("DELETE", path) == meshes.do("DELETE", path) == b""
        meshes.refused("GET", path, status=404)


@pytest.mark.parametrize("path", ["supervoxel/0", "supervoxel/x", "supervoxel/-1", f"supervoxel/{2**64}", "supervoxel"])
def test_bad_supervoxels(meshes: Meshes, path: str) -> None:
    for verb in ("GET", "POST", "DELETE"):
        meshes.refused(verb, path, b"x" if verb == "POST" else None)
    meshes.refused("PUT", "supervoxel/3", b"x")
    meshes.refused("GET", "nosuch")


def test_load_replaces_and_the_last_of_a_name_stays(meshes: Meshes) -> None:
    meshes.load({"1.drc": b"one", "2.drc": b"two", f"{2**64 - 1}.drc": b"last"})
    meshes.load([("2.drc", b"TWO"), ("3.drc", b"a"), ("3.drc", b"b" * 600)])
    got = [meshes.do("GET", f"supervoxel/{n}") for n in (1, 2, 3, 2**64 - 1)]
    assert got == [b"one", b"TWO", b"b" * 600, b"last"]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 5000])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar(meshes: Meshes, form: int, size: int) -> None:
    meshes.do("POST", "load", packed({"20.drc": b"x" * size, "21.drc": b"y"}, form))
    assert meshes.do("GET", "supervoxel/20") == b"x" * size


def test_pax_headers_and_long_names(meshes: Meshes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "all"}) as archive:
        member = tarfile.TarInfo("20.drc")
        member.size, member.mtime, member.uname = 3, 1.5, "ü"  # type: ignore[assignment]
        archive.addfile(member, io.BytesIO(b"abc"))
        member = tarfile.TarInfo("ignored")
        member.size, member.pax_headers = 2, {"path": "21.drc"}
        archive.addfile(member, io.BytesIO(b"de"))
    meshes.do("POST", "load", out.getvalue())
    assert [meshes.do("GET", f"supervoxel/{n}") for n in (20, 21)] == [b"abc", b"de"]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert "0" * 100 in meshes.refused("POST", "load", packed({"0" * 200 + "20.drc": b"x"}, form))


def test_empty_tar_files_are_fine(meshes: Meshes) -> None:
    before = list(meshes.client.server.database.stores["main"].scan(b"", b"\xff"))
    for body in (packed({}), bytes(1024), bytes(512)):
        meshes.do("POST", "load", body)
    assert list(meshes.client.server.database.stores["main"].scan(b"", b"\xff")) == before


NAMES = [
    "20.dat",
    "twenty.drc",
    "20",
    "0.drc",
    "000.drc",
    "20.drc.gz",
    "-20.drc",
    "+20.drc",
    " 20.drc",
    "20.DRC",
    "2_0.drc",
    "٢٠.drc",
    ".drc",
    f"{2**64}.drc",
    "1" * 60 + ".drc",
    "../20.drc",
    "./20.drc",
    "/20.drc",
    "a/20.drc",
    "20.drc/",
    "20.drc/../../etc/passwd",
    "x" * 300,
]


@pytest.mark.parametrize("name", NAMES)
def test_wrong_names_are_refused_whole(meshes: Meshes, name: str) -> None:
    text = meshes.refused("POST", "load", packed([("1.drc", b"good"), (name, b"x"), ("2.drc", b"good")]))
    assert name[:100].strip() in text and "drc" in text


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_only_regular_files_are_taken(meshes: Meshes, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("20.drc")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert "regular" in meshes.refused("POST", "load", out.getvalue())


def test_archives_that_are_cut_short_are_refused_whole(meshes: Meshes) -> None:
    body = packed({"1.drc": b"one" * 300, "22.drc": b"two" * 300}, tarfile.USTAR_FORMAT)
    whole = 2 * (512 + 1024)
    for length in (*range(0, whole, 100), 512, 1536, 2048, whole, whole + 1, whole + 511):
        text = meshes.refused("POST", "load", body[:length])
        assert "tar file" in text
        if length > 1536:
            assert "1.drc" in text or "22.drc" in text
    meshes.do("POST", "load", body[: whole + 512])


def test_what_is_no_tar_file(meshes: Meshes) -> None:
    good = packed({"1.drc": b"one"})
    for body in (None, b"x", b"this is no tar file" * 40, b"\x1f\x8b" + bytes(2000), b"\xff" * 512, b"2" + good[1:]):
        assert "not a tar file" in meshes.refused("POST", "load", body)
    assert "behind" in meshes.refused("POST", "load", good + packed({"2.drc": b"two"}))
    second = packed([("1.drc", b"one"), ("2.drc", b"two")], tarfile.USTAR_FORMAT)
    for place in (1024, 1024 + 124, 1024 + 150, 1024 + 257):
        broken = second[:place] + b"\x07" + second[place + 1 :]
        assert 'behind member "1.drc"' in meshes.refused("POST", "load", broken)


def header(size: bytes, kind: bytes = b"0") -> bytes:
    """A header with its sum, whatever the size field says."""
    block = bytearray(tar.head("1.drc", 0))
    block[124:136], block[156:157] = size.ljust(12, b"\0"), kind
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    return bytes(block)


def test_hostile_headers(meshes: Meshes) -> None:
    refused = meshes.refused
    assert "no number" in refused("POST", "load", header(b"12x45"))
    assert "no number" in refused("POST", "load", header(b"\xff" * 12))
    assert "at most" in refused("POST", "load", header(b"\x80" + b"\xff" * 11), status=413)
    assert "at most" in refused("POST", "load", header(b"%o" % (tar.LARGEST_MEMBER + 1)), status=413)
    assert "1.drc" in refused("POST", "load", header(b"777") + b"short")
    assert "header" in refused("POST", "load", header(b"77777777", b"x"))
    for text in (b"", b"no length", b"999999 path=x\n", b"0 path=x\n", b"9 path=xx", b"-9 path=x\n"):
        record = text.ljust(512, b"\0")
        if text:
            assert "pax" in refused("POST", "load", header(b"%o" % len(text), b"x") + record)
    record = b"12 size=-12\n"
    assert "no number" in refused("POST", "load", header(b"14", b"x") + record.ljust(512, b"\0") + header(b"0"))


def test_exists(meshes: Meshes) -> None:
    meshes.load({f"{n}.drc": b"x" for n in (1, 12, 2, 2**64 - 1)})
    asked = [1, 4, 12, 12, 0, 999, 2, 2**64 - 1]
    expected = [True, False, True, True, False, False, True, True]
    assert meshes.get("exists", asked) == expected
    assert meshes.get("exists", []) == []
    text = json.dumps(asked).encode()
    assert meshes.get(f"exists?hash={hashlib.md5(text).hexdigest()}", text) == expected
    assert "MD5" in meshes.refused("GET", f"exists?hash={hashlib.md5(b'x').hexdigest()}", text)
    for bad in (None, b"{}", b'["1"]', b"[-1]", b"[1.5]", b"[true]", b"[18446744073709551616]", b"[1", b"null"):
        meshes.refused("GET", "exists", bad)
    meshes.refused("PUT", "exists", text)
    meshes.refused("DELETE", "exists", text)


# -- bodies ------------------------------------------------------------------------------------------------------------


def test_bodies_need_one_labelmap(database: Database) -> None:
    meshes = Meshes.create(database, sync=False)
    for verb, path in (("GET", "tarfile/1"), ("HEAD", "tarfile/1"), ("GET", "missing/1")):
        meshes.refused(verb, path)
    meshes.refused("POST", "sync", {"sync": "nosuch"})
    meshes.do("POST", "sync", {"sync": "seg"})
    assert meshes.get("missing/1") == [1]
    meshes.client.instance(meshes.node, "other", "labelmap")
    meshes.do("POST", "sync", {"sync": "other"})
    assert "replace" in meshes.refused("GET", "missing/1")
    meshes.do("POST", "sync?replace=true", {"sync": "other"})
    assert "no body 1" in meshes.refused("GET", "missing/1")
    meshes.client.instance(meshes.node, "unindexed", "labelmap", IndexedLabels="false")
    meshes.do("POST", "sync?replace=true", {"sync": "unindexed"})
    assert "index" in meshes.refused("GET", "tarfile/1")
    meshes.do("POST", "sync?replace=true", {"sync": ""})
    assert "not synced" in meshes.refused("GET", "tarfile/1")


def test_a_body_shows_its_merges_at_once(meshes: Meshes) -> None:
    meshes.load({f"{n}.drc": b"%d" % n for n in (1, 2, 4)})
    assert meshes.tar(1) == {"1.drc": b"1"} and meshes.tar(3) == {"3.missing": b""}
    assert [meshes.ask("HEAD", f"tarfile/{n}").status for n in (1, 3)] == [200, 400]
    assert (meshes.get("missing/1"), meshes.get("missing/3")) == ([], [3])
    meshes.seg.merge(2, 3, 4)
    assert meshes.tar(2) == {"2.drc": b"2", "3.missing": b"", "4.drc": b"4"}
    assert meshes.get("missing/2") == [3] and meshes.ask("HEAD", "tarfile/2").status == 400
    for verb, path in (("GET", "tarfile/3"), ("HEAD", "tarfile/4"), ("GET", "missing/3")):
        meshes.refused(verb, path)
    meshes.do("POST", "supervoxel/3", b"3")
    assert meshes.ask("HEAD", "tarfile/2").status == 200 and meshes.get("missing/2") == []
    assert meshes.tar(2) == {f"{n}.drc": b"%d" % n for n in (2, 3, 4)}


def test_a_body_shows_cleaves_and_splits_at_once(meshes: Meshes) -> None:
    """The halves of a split supervoxel have no files until someone posts them."""
    meshes.load({f"{n}.drc": b"%d" % n for n in range(1, 9)})
    meshes.seg.merge(1, 2, 3)
    cleaved = json.loads(meshes.seg.post("cleave/1", [2]).body)["CleavedLabel"]
    assert meshes.tar(1) == {"1.drc": b"1", "3.drc": b"3"} and meshes.tar(cleaved) == {"2.drc": b"2"}
    # Supervoxel 3 lies at z 0 to 15, y 16 to 31, x 0 to 15: its first row of voxels is split off.
    runs = bytes([0, 3, 0, 0]) + np.array([0, 1, 0, 16, 0, 16], "<i4").tobytes()
    halves = json.loads(meshes.seg.post("split-supervoxel/3", runs).body)
    split, remain = halves["SplitSupervoxel"], halves["RemainSupervoxel"]
    assert meshes.tar(1) == {"1.drc": b"1", f"{split}.missing": b"", f"{remain}.missing": b""}
    assert sorted(meshes.get("missing/1")) == sorted([split, remain])
    meshes.load({f"{split}.drc": b"s", f"{remain}.drc": b"r"})
    assert meshes.ask("HEAD", "tarfile/1").status == 200


@pytest.mark.parametrize("body", ["0", "x", "-1", f"{2**64}", "4711", "", "1/2"])
def test_bad_bodies(meshes: Meshes, body: str) -> None:
    for verb, path in (("GET", "tarfile"), ("HEAD", "tarfile"), ("GET", "missing")):
        meshes.refused(verb, f"{path}/{body}")


def test_files_are_shared_and_bodies_are_of_the_version(meshes: Meshes) -> None:
    meshes.load({f"{n}.drc": b"%d" % n for n in range(1, 9)})
    child = meshes.child()
    child.seg.merge(8, 7)
    child.do("POST", "supervoxel/8", b"by the child")
    child.do("DELETE", "supervoxel/6")
    assert meshes.do("GET", "supervoxel/8") == b"by the child" and meshes.get("missing/6") == [6]
    assert child.tar(8) == {"7.drc": b"7", "8.drc": b"by the child"}
    assert meshes.tar(8) == {"8.drc": b"by the child"} and meshes.tar(7) == {"7.drc": b"7"}
    child.refused("GET", "tarfile/7")


def test_locked_means_locked(meshes: Meshes) -> None:
    meshes.child()
    for verb, path, body in (
        ("POST", "supervoxel/8", b"no"),
        ("DELETE", "supervoxel/8", None),
        ("POST", "load", packed({"8.drc": b"no"})),
        ("POST", "info", {"Extension": "obj"}),
        ("POST", "sync", {"sync": "seg"}),
    ):
        assert "committed" in meshes.refused(verb, path, body)
    assert meshes.ask("POST", "exists?op=get", [1]).status == 200


def test_an_unversioned_instance_takes_writes_at_locked_versions(database: Database) -> None:
    meshes = Meshes.create(database, versioned="false")
    child = meshes.child()
    meshes.load({"1.drc": b"1", "2.drc": b"2"})
    child.seg.merge(1, 2)
    assert child.tar(1) == {"1.drc": b"1", "2.drc": b"2"} and meshes.tar(1) == {"1.drc": b"1"}


def test_a_body_that_merged_versions_disagree_on_is_a_conflict(meshes: Meshes) -> None:
    root = meshes.node
    one = meshes.child()
    other = Meshes(one.seg.at(meshes.client.post(f"/api/node/{root}/branch", {"branch": "b"}).json()["child"]))
    for version, label in ((one, 41), (other, 42)):
        volume = np.full((16, 16, 16), label, np.uint64)
        volume[0] = 1
        version.seg.write(volume, (0, 0, 0))
        version.client.commit(version.node)
    given = {"mergeType": "conflict-free", "parents": [one.node, other.node], "note": ""}
    answer = meshes.client.post(f"/api/repo/{root}/merge", given)
    assert answer.status == 200, answer.text
    merged = Meshes(meshes.seg.at(answer.json()["child"]))
    assert "body 1" in merged.refused("GET", "tarfile/1", status=409)
    assert merged.tar(2) == {"2.missing": b""}


@pytest.mark.parametrize("name", ["memory", "leveldb", "lmdb"])
def test_large_files_in_every_engine(name: str, tmp_path: Any) -> None:
    rng = np.random.default_rng(3)
    with Database.open({"main": open_engine(name, str(tmp_path / "db"))}) as database:
        meshes = Meshes.create(database, Checksum="crc32")
        files = {f"{n}.drc": rng.bytes(n * n * 20_000) for n in (1, 3, 4, 8)}
        meshes.load(files)
        meshes.seg.merge(1, *range(2, 9))
        expected = files | {f"{n}.missing": b"" for n in (2, 5, 6, 7)}
        assert meshes.tar(1) == expected
        answer = meshes.ask("GET", "tarfile/1")
        assert next(iter(answer.pieces)) is not None  # a client that goes away
        answer.pieces.close()
        assert meshes.get("exists", list(range(10))) == [f"{n}.drc" in files for n in range(10)]


# -- where DVID was weak -----------------------------------------------------------------------------------------------


def test_an_empty_file_is_a_file(meshes: Meshes) -> None:
    meshes.do("POST", "supervoxel/1")
    meshes.load({"2.drc": b""})
    for n in (1, 2):
        assert meshes.do("GET", f"supervoxel/{n}") == b""
        assert meshes.tar(n) == {f"{n}.drc": b""}
        assert meshes.ask("HEAD", f"tarfile/{n}").status == 200 and meshes.get(f"missing/{n}") == []
    assert meshes.get("exists", [1, 2, 3]) == [True, True, False]


def test_info_says_that_versions_share_the_files(meshes: Meshes) -> None:
    assert "all versions" in meshes.get("info")["Base"]["KVStore"]


def test_a_tar_file_is_checked_before_its_status_is_sent(meshes: Meshes) -> None:
    """What members there are is known before the first byte, so later changes do not break the archive."""
    meshes.seg.merge(1, 2, 3)
    meshes.load({f"{n}.drc": bytes([n]) * 400_000 for n in (1, 2, 3)})
    answer = meshes.ask("GET", "tarfile/1")
    pieces = iter(answer.pieces)
    first = next(pieces)
    meshes.do("DELETE", "supervoxel/3")
    meshes.do("POST", "supervoxel/2", b"other")
    found = unpacked(first + b"".join(pieces))
    answer.pieces.close()
    assert found == {f"{n}.drc": bytes([n]) * 400_000 for n in (1, 2, 3)}


@pytest.mark.parametrize("path", ["missing/5", "tarfile/5"])
def test_wrong_verbs_are_not_allowed(meshes: Meshes, path: str) -> None:
    for verb in ("POST", "PUT", "DELETE", "PATCH"):
        answer = meshes.ask(verb, path, b"[]")
        assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_the_files_of_a_large_body_are_read_as_they_are_sent(meshes: Meshes) -> None:
    """No piece holds more than a few files."""
    meshes.seg.merge(1, *range(2, 9))
    meshes.load({f"{n}.drc": bytes([n]) * 700_000 for n in range(1, 9)})
    answer = meshes.ask("GET", "tarfile/1")
    pieces = [len(piece) for piece in answer.pieces]
    answer.pieces.close()
    assert len(pieces) >= 8 and max(pieces) < 1_000_000


def test_exists_by_post(meshes: Meshes) -> None:
    meshes.load({"1.drc": b"x"})
    assert json.loads(meshes.do("POST", "exists?op=get", [1, 2])) == [True, False]
    assert "op=get" in meshes.refused("POST", "exists", [1, 2])


@pytest.mark.parametrize("typename", ["keyvalue", "labelarray", "roi", "uint8blk", "tarsupervoxels"])
def test_only_a_labelmap_can_be_followed(meshes: Meshes, typename: str) -> None:
    settings = {"Extension": "x"} if typename == "tarsupervoxels" else {}
    meshes.client.instance(meshes.node, "other", typename, **settings)
    assert "labelmap" in meshes.refused("POST", "sync", {"sync": "other"})
    assert "labelmap" in meshes.refused("POST", "sync?replace=true", {"sync": "seg,other"})


def test_changes_are_logged(tmp_path: Any) -> None:
    with JsonLog(tmp_path / "log") as sink:
        options = DatabaseOptions(json_log=sink)
        with Database.open({"main": Memory()}, options=options) as database:
            meshes = Meshes.create(database)
            meshes.do("POST", "supervoxel/5?u=ann", b"12345")
            meshes.load([("7.drc", b"x"), ("6.drc", b"y"), ("7.drc", b"z")])
            meshes.do("DELETE", "supervoxel/6")
            meshes.do("DELETE", "supervoxel/6")
            meshes.refused("POST", "load", packed({"8.drc": b"x", "8.dat": b"y"}))
            expected = [
                {"Action": "post-supervoxel", "Supervoxel": 5, "Bytes": 5, "User": "ann"},
                {"Action": "load", "Supervoxels": [7, 6]},
                {"Action": "delete-supervoxel", "Supervoxel": 6},
            ]
            assert meshes.log() == expected
            data_uuid = meshes.get("info")["Base"]["DataUUID"]
            written = [json.loads(r) for r in read_records(sink.path(data_uuid, meshes.node))]
            assert [{k: r[k] for k in e} for r, e in zip(written, expected, strict=True)] == expected


def test_a_load_of_many_is_logged_in_parts(tmp_path: Any) -> None:
    with Database.open({"main": LevelDB.open(str(tmp_path / "db"))}) as database:
        meshes = Meshes.create(database)
        numbers = list(range(25_000, 0, -1))
        meshes.do("POST", "load", b"".join(bytes(p) for p in tar.pieces((f"{n}.drc", b"") for n in numbers)))
        records = meshes.log()
        assert [len(r["Supervoxels"]) for r in records] == [10_000, 10_000, 5_000]
        assert [n for r in records for n in r["Supervoxels"]] == numbers
