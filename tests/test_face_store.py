"""The Python face of stores, repos, versions and keyvalue instances."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dvidcore
from dvidcore.config import from_folder
from dvidcore.errors import BadRequest, Conflict, Forbidden, Locked, NotFound, StoreError
from dvidcore.local import Instance, KeyValue, Labels, Volume


@pytest.fixture
def store():
    with dvidcore.open(engine="memory") as opened:
        yield opened


# -- opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["leveldb", "lmdb"])
def test_a_store_is_opened_again_by_its_folder_alone(tmp_path, engine):
    path = tmp_path / "store"
    with dvidcore.open(path, engine=engine, sync=False) as store:
        root = store.new_repo("flies", "wings")["master"]
        root.create("notes", "keyvalue")["a"] = b"1"
        assert engine in repr(store).lower()
        with pytest.raises(StoreError):
            dvidcore.open(path)
    with dvidcore.open(str(path)) as store:
        assert store.repo("flies")["master"]["notes"]["a"] == b"1"
        assert store.repo("flies").description == "wings"


def test_configurations(tmp_path):
    file = tmp_path / "dvid.toml"
    file.write_text(
        '[server]\nrwmode = "fullwrite"\n[store.main]\nengine = "leveldb"\npath = "a"\n'
        '[store.notes]\nengine = "lmdb"\npath = "b"\n[backend.default]\nstore = "main"\n[backend.keyvalue]\nstore="notes"\n'
    )
    with dvidcore.open(config=file) as store:
        node = store.new_repo()["master"]
        node.create("notes", "keyvalue")["a"] = b"1"
        node.commit()
        node["notes"]["a"] = b"2"
    assert (tmp_path / "b" / "data.mdb").is_file()
    with dvidcore.open(config=from_folder(tmp_path / "c"), readonly=True) as store, pytest.raises(Forbidden):
        store.new_repo()


def test_wrong_openings(tmp_path):
    for arguments in ({}, {"path": tmp_path, "config": "x.toml"}, {"config": "x.toml", "engine": "lmdb"}):
        with pytest.raises(BadRequest):
            dvidcore.open(**arguments)
    with pytest.raises(BadRequest):
        dvidcore.open(tmp_path, readonly=True, fullwrite=True)
    with pytest.raises(StoreError):
        dvidcore.open(tmp_path / "missing", readonly=True)
    assert not (tmp_path / "missing").exists()
    with pytest.raises(AttributeError):
        _ = dvidcore.nonsense


def test_the_package_itself_imports_nothing():
    code = "import dvidcore, sys; assert dvidcore.__version__; assert 'numpy' not in sys.modules; dvidcore.open"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'falcon' not in sys.modules"], check=True)


# -- repos and versions -----------------------------------------------------------------------------------------------


def test_repos_by_alias_and_uuid(store):
    first, second = store.new_repo("one", root="a" * 32), store.new_repo("two", root="ab" + "c" * 30)
    assert list(store.repos) == [first.uuid, second.uuid] and len(store.repos) == 2
    assert store.repos[first.uuid] == first == store.repo("one") == store.repo("aaa") and first != second
    assert store.repos.get("nothing") is None and {first, second} == set(store.repos.values())
    with pytest.raises(NotFound):
        store.repos["nothing"]
    with pytest.raises(BadRequest):
        store.repo("nothing")
    second.alias = "one"
    with pytest.raises(BadRequest, match="alias of 2"):
        store.repo("one")
    second.description = "wings"
    second.append_log("line")
    assert second.description == "wings" and second.log[-1].endswith("line") and "one" in repr(second)
    second.delete()
    assert list(store.repos) == [first.uuid]
    with pytest.raises(BadRequest):
        _ = second.alias


def test_versions_by_branch_and_uuid(store):
    repo = store.new_repo("one")
    root = repo["master"]
    assert root == repo.root == repo[root.uuid] == repo[root.uuid[:5]] == store.node(":master") and root.parents == []
    root.note = "first"
    root.append_log("a", "b")
    assert root.note == "first" and [line[-1] for line in root.log] == ["a", "b"] and not root.locked
    with pytest.raises(BadRequest):
        root.newversion()
    root.commit("done", ["c"])
    assert root.locked and root.note == "done" and "committed" in repr(root)
    with pytest.raises(Locked):
        root.note = "again"
    with pytest.raises(Locked):
        root.commit()
    second = root.newversion("second")
    second.commit()
    third = second.newversion()
    side = root.branch("side/../".replace("/", ""), uuid="f" * 32)
    assert repo["master"] == third and repo["master~1"] == second and repo["side.."] == side == repo["fff"]
    assert side.branch_name == "side.." and third.branch_name == "master" and repo.branches == ["master", "side.."]
    assert root.children == [second, side] and third.parents == [second] and repo.nodes == [root, second, third, side]
    tagged = second.tag("v1.0")
    assert repo["v1.0"] == tagged and tagged.locked
    side.commit()
    third.commit()
    merged = repo.merge([third, side], "both")
    assert merged.parents == [third, side] and merged.note == "both"
    for spec in ("master~9", "nothing", "", "0", "side..~x"):
        with pytest.raises(BadRequest):
            repo[spec]
    other = store.new_repo("two")
    with pytest.raises(BadRequest, match="is a version of repo"):
        other[root.uuid]


def test_instances(store):
    repo = store.new_repo(passcode="secret")
    node = repo["master"]
    gray = node.create(
        "gray", "uint8blk", block_size=(8, 16, 32), voxel_size=(40, 4, 4), Compression="none", Tags="a=b"
    )
    node.create("seg", "labelmap", IndexedLabels=True)
    node.create("notes", "keyvalue", versioned=False)
    assert gray.info["Extended"]["BlockSize"] == [32, 16, 8] and gray.tags == {"a": "b"} and gray.typename == "uint8blk"
    assert repo.instances == {"gray": "uint8blk", "seg": "labelmap", "notes": "keyvalue"} and "gray" in node
    kinds = {name: type(instance) for name, instance in node.instances.items()}
    assert issubclass(kinds["gray"], Volume) and kinds["seg"] is Labels and kinds["notes"] is KeyValue
    assert len(node.instances) == 3 and node.instances.get("none") is None and "uint8blk" in repr(gray)
    with pytest.raises(NotFound):
        node.instances["none"]
    with pytest.raises(BadRequest, match="no data instance"):
        node["none"]
    for wrong in (("gray", "uint8blk"), ("x", "nonsense"), ("", "keyvalue")):
        with pytest.raises(BadRequest):
            node.create(*wrong)
    with pytest.raises(BadRequest, match="BlockSize"):
        node.create("x", "uint8blk", block_size=(0, 1, 1))
    with pytest.raises(Forbidden):
        repo.delete_instance("gray")
    repo.rename_instance("gray", "grey", "secret")
    repo.delete_instance("grey", "secret")
    assert list(node.instances) == ["seg", "notes"]
    with pytest.raises(BadRequest):
        gray[0, 0, 0]
    node.commit()
    with pytest.raises(Locked):
        node.create("late", "keyvalue")
    node["notes"]["a"] = b"unversioned"


def test_any_endpoint_is_there_without_http(store):
    node = store.new_repo()["master"]
    seg = node.create("seg", "labelmap")
    seg[0:64, 0:64, 0:64] = 3
    assert isinstance(seg, Instance)
    assert seg.request("GET", "size/3") == b'{"voxels":262144}'
    assert seg.request("GET", "labels", [[0, 0, 0], [99, 0, 0]], supervoxels=True) == b"[3,0]"
    assert seg.request("GET", "sparsevol/3?format=srles", minz=63, maxz=63, maxy=0) == bytes.fromhex(
        "00000000 00000000 3f000000 40000000".replace(" ", "")
    )
    assert seg.request("HEAD", "sparsevol/3") == b"" and b"Merges bodies" in seg.request("GET", "help")
    seg.request("POST", "extents", {"MinPoint": [0, 0, 0], "MaxPoint": [9, 9, 9]})
    assert seg.shape == (10, 10, 10)
    for verb, path, body in (("GET", "size/0", b""), ("POST", "size/3", b""), ("POST", "blocks", b"rubbish")):
        with pytest.raises(BadRequest):
            seg.request(verb, path, body)
    with pytest.raises(NotFound):
        seg.request("GET", "size/4")


# -- keyvalue ---------------------------------------------------------------------------------------------------------


def test_keyvalue_is_a_mapping_at_each_version(store):
    node = store.new_repo()["master"]
    notes = node.create("notes", "keyvalue")
    notes["a"] = b"1"
    notes.update({"b": b"2", "ü?&/".replace("/", ""): b""}, c=bytearray(b"3"))
    assert dict(notes) == {"a": b"1", "b": b"2", "c": b"3", "ü?&": b""} and list(notes) == ["a", "b", "c", "ü?&"]
    assert len(notes) == 4 and "a" in notes and "z" not in notes and 5 not in notes
    assert notes.get("z") is None and notes.get("a") == b"1" and notes.between("b", "c") == ["b", "c"]
    node.commit()
    child = node.newversion()["notes"]
    del child["a"]
    assert child.pop("b") == b"2" and child.setdefault("c", b"x") == b"3"
    assert sorted(child) == ["c", "ü?&"] and sorted(notes) == ["a", "b", "c", "ü?&"]
    with pytest.raises(KeyError):
        del child["a"]
    with pytest.raises(NotFound):
        child["a"]
    with pytest.raises(Locked):
        notes["a"] = b"2"
    for key, value in (("x", "text"), ("x", None), ("x/y", b""), ("", b"")):
        with pytest.raises(BadRequest):
            child[key] = value
    with pytest.raises(BadRequest):
        child.update({"good": b"1", "bad/": b"2"})
    assert "good" not in child
    child.clear()
    assert len(child) == 0


def test_a_conflict_of_merged_versions_is_an_error(store):
    repo = store.new_repo()
    root = repo["master"]
    root.create("notes", "keyvalue")
    root.commit()
    sides = [root.newversion(), root.branch("side")]
    for value, side in zip((b"1", b"2"), sides, strict=True):
        side["notes"]["a"] = value
        side.commit()
    merged = repo.merge(sides)["notes"]
    with pytest.raises(Conflict):
        merged["a"]
    merged["a"] = b"3"
    assert dict(merged) == {"a": b"3"}


texts = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(texts, st.none() | st.binary(max_size=9)), max_size=12))
def test_keyvalue_is_a_dict(changes):
    with dvidcore.open(engine="memory") as store:
        notes = store.new_repo()["master"].create("notes", "keyvalue")
        model: dict[str, bytes] = {}
        for key, value in changes:
            if value is None:
                assert notes.pop(key, None) == model.pop(key, None)
            else:
                notes[key] = model[key] = value
        assert dict(notes) == model and list(notes) == sorted(model, key=str.encode)
