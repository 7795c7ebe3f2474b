"""Repos, nodes and the text that names a version: the rules of changing them, and that what is stored is what is seen."""

from __future__ import annotations

import pytest

from dvidcore.errors import BadRequest, Forbidden, Locked
from dvidcore.repos import Database, Repo
from dvidcore.repos.records import passcode_matches
from repo_model import again, keyvalue, picture, unchanged
from side_by_side import beside


def test_a_new_repo_has_one_open_node_on_master(db: Database) -> None:
    repo = db.new_repo("alias", "words")
    root = repo.dag.root
    assert (repo.alias, repo.description, repo.log, repo.properties) == ("alias", "words", [], {})
    assert (root.uuid, root.branch, root.locked, root.note, root.log) == (repo.root, "", False, "", [])
    assert list(db.repos) == [repo.root]
    assert (repo.mutation_id, repo.saved_mutation_id) == (1_000_000_000, 1_000_000_100)


def test_a_chosen_root_is_lower_case_and_unused(db: Database) -> None:
    repo = db.new_repo(root="ABCDEF0123456789ABCDEF0123456789")
    assert repo.root == "abcdef0123456789abcdef0123456789"
    for bad in (repo.root, repo.root.upper(), "some text", "", "a" * 31):
        unchanged(db, BadRequest, lambda bad=bad: db.new_repo(root=bad), "root")


def test_info_and_log_of_a_repo(db: Database) -> None:
    repo = db.new_repo("a", "d")
    db.update_repo(repo, description="e")
    assert (repo.alias, repo.description) == ("a", "e")
    db.update_repo(repo, alias="")
    db.update_repo(repo)
    assert (repo.alias, repo.description) == ("", "e")
    db.append_repo_log(repo, ["one", "two  lines\nin one"])
    db.append_repo_log(repo, [])
    db.append_repo_log(repo, ["ü"])
    assert [line.split("  ", 1)[1] for line in repo.log] == ["one", "two  lines\nin one", "ü"]


def test_a_deleted_repo_is_gone_and_its_root_free(db: Database, repo: Repo) -> None:
    other = db.new_repo()
    db.append_log(other, other.dag.root, ["stays"])
    db.append_log(repo, repo.dag.root, ["goes"], admin=True)
    keyvalue(db, repo)
    db.delete_repo(repo)
    assert list(db.repos) == [other.root]
    unchanged(db, BadRequest, lambda: db.resolve(repo.root))
    for change in (
        lambda: db.update_repo(repo, alias="x"),
        lambda: db.delete_repo(repo),
        lambda: db.new_version(repo, repo.dag.root),
    ):
        unchanged(db, BadRequest, change, "deleted")
    assert db.wait_for_deletions(10)
    new = db.new_repo(root=repo.root)
    assert new.dag.root.id > repo.dag.root.id
    unchanged(db, BadRequest, lambda: db.update_repo(repo, alias="x"), "deleted")


def test_passcodes_are_asked_for_and_kept_as_a_hash(db: Database) -> None:
    repo = db.new_repo("a", passcode="open sesame")
    keyvalue(db, repo)
    for wrong in (None, "", "sesame"):
        unchanged(db, Forbidden, lambda wrong=wrong: db.delete_repo(repo, wrong), "passcode")
        unchanged(db, Forbidden, lambda wrong=wrong: db.delete_instance(repo, "kv", wrong), "passcode")
        unchanged(db, Forbidden, lambda wrong=wrong: db.rename_instance(repo, "kv", "kw", wrong), "passcode")
    everything = b"".join(key + value for key, value in db.stores["main"].scan(b"", b"\xff"))
    assert b"sesame" not in everything
    assert "sesame" not in repr(repo) + str(picture(db))
    other = db.new_repo("b", passcode="open sesame")
    assert repo.passcode_hash and other.passcode_hash
    assert repo.passcode_hash != other.passcode_hash  # salted
    assert passcode_matches("open sesame", other.passcode_hash)
    restarted = again(db)
    kept = restarted.repos[repo.root]
    restarted.rename_instance(kept, "kv", "kw", "open sesame")
    restarted.delete_instance(kept, "kw", "open sesame")
    restarted.delete_repo(kept, "open sesame")
    assert restarted.wait_for_deletions(10)
    db.refresh()
    db.delete_repo(db.new_repo(passcode=""), None)


def test_note_log_and_commit_of_a_node(db: Database) -> None:
    repo = db.new_repo()
    root = repo.dag.root
    db.set_note(repo, root, "first")
    db.set_note(repo, root, "ä中")
    db.append_log(repo, root, ["a", "b"])
    db.append_log(repo, root, ["c"])
    assert root.note == "ä中"
    db.commit(repo, root, "", ["d"])
    assert (root.locked, root.note) == (True, "ä中")
    assert [line.split("  ")[1] for line in root.log] == ["a", "b", "c", "d"]
    for change in (
        lambda: db.set_note(repo, root, "late"),
        lambda: db.append_log(repo, root, ["late"]),
        lambda: db.commit(repo, root, "again"),
        lambda: db.new_instance(repo, root, name="kv", typename="keyvalue"),
    ):
        unchanged(db, Locked, change, "committed")
    db.set_note(repo, root, "corrected", admin=True)
    db.append_log(repo, root, ["e"], fullwrite=True)
    db.new_instance(repo, root, name="kv", typename="keyvalue", admin=True)
    db.new_instance(repo, root, name="kw", typename="keyvalue", fullwrite=True)
    assert (root.note, len(root.log)) == ("corrected", 5)


def test_an_open_node_has_no_children(db: Database) -> None:
    repo = db.new_repo()
    root = repo.dag.root
    unchanged(db, BadRequest, lambda: db.new_version(repo, root), "open")
    unchanged(db, BadRequest, lambda: db.branch(repo, root, "b"), "open")
    unchanged(db, BadRequest, lambda: db.tag(repo, root, "v1"), "open")


def test_new_version_stays_on_the_branch(db: Database, repo: Repo) -> None:
    child = db.new_version(repo, repo.dag.root, "c")
    assert (child.branch, child.note, child.locked, child.parents) == ("", "c", False, [repo.dag.root.id])
    assert repo.dag.root.children == [child.id]
    unchanged(db, BadRequest, lambda: db.new_version(repo, repo.dag.root), "goes on")


def test_branch_names_are_unique_in_the_repo(db: Database, repo: Repo) -> None:
    root = repo.dag.root
    b = db.branch(repo, root, "b é", "n")
    assert (b.branch, b.note) == ("b é", "n")
    master = db.new_version(repo, root)
    db.commit(repo, master)
    for name in ("b é", "", "master", "a:b", "a~1"):
        unchanged(db, BadRequest, lambda name=name: db.branch(repo, master, name))
    db.commit(repo, b)
    same = db.branch(repo, b, "b é")
    assert (same.branch, same.parents) == ("b é", [b.id])
    unchanged(db, BadRequest, lambda: db.branch(repo, b, "b é"), "goes on")
    other = db.new_repo()
    db.commit(other, other.dag.root)
    db.branch(other, other.dag.root, "b é")


def test_chosen_uuids_are_checked_and_in_lower_case(db: Database, repo: Repo) -> None:
    root = repo.dag.root
    child = db.new_version(repo, root, uuid="A" * 32)
    assert child.uuid == "a" * 32
    other = db.new_repo()
    for bad in ("a" * 32, "A" * 32, other.root, "zz", "g" * 32, "123", ""):
        unchanged(db, BadRequest, lambda bad=bad: db.branch(repo, root, "b", uuid=bad), "uuid")
        unchanged(db, BadRequest, lambda bad=bad: db.new_version(repo, child, uuid=bad))
    assert db.resolve("A" * 32)[1] is child


def test_a_tag_is_a_committed_child_named_by_its_text(db: Database, repo: Repo) -> None:
    root = repo.dag.root
    tag = db.tag(repo, root, "v1.0")
    assert (tag.uuid, tag.branch, tag.locked, tag.log) == ("v1.0", "tag-v1.0", True, [])
    assert tag.note == f'Tag of version {root.uuid} with "v1.0"'
    assert db.tag(repo, root, "v2", "words").note == f'Tag of version {root.uuid} with "v2"\nwords'
    assert repo.dag.branch_versions("tag-v1.0") == ["v1.0", root.uuid]
    other = db.new_repo()
    db.commit(other, other.dag.root)
    for bad in ("v1.0", "", "a/b", "a:b", "a" * 32, "A" * 32):
        unchanged(db, BadRequest, lambda bad=bad: db.tag(other, other.dag.root, bad), "tag")
    assert db.resolve("v1.0") == (repo, tag)
    assert db.resolve("v1.") == (repo, tag)
    child = db.new_version(repo, root)
    assert child.branch == ""  # a tag does not continue the branch


def test_version_ids_grow_over_all_repos_and_are_never_reused(db: Database, repo: Repo) -> None:
    other = db.new_repo()
    child = db.new_version(repo, repo.dag.root)
    assert repo.dag.root.id < other.dag.root.id < child.id
    db.delete_repo(other)
    restarted = again(db)
    assert restarted.new_repo().dag.root.id == child.id + 1
    db.refresh()


def test_specs_name_versions(db: Database) -> None:
    repo = db.new_repo(root="3f8a" + "0" * 28)
    root = repo.dag.root
    db.commit(repo, root)
    child = db.new_version(repo, root, uuid="3f8b" + "0" * 28)
    side = db.branch(repo, root, "side", uuid="7" * 32)
    for spec, node in {
        repo.root: root,
        "3f8a": root,
        "3f8a:": root,
        "3f8b0": child,
        "777": side,
        "777:master": child,
        "3f8a:side": side,
        "3f8a:side~1": root,
        "3f8a:master~0": child,
        "777:~1": root,
        ":": child,
        ":~1": root,
        ":master": child,
        ":side": side,
        ":side~1": root,
    }.items():
        for _ in range(2):  # the second is from the cache
            assert db.resolve(spec) == (repo, node)
        assert db.repo_of(spec) is repo
    for bad in (
        "",
        "3",
        "3f",
        "3f:master",
        "3f8",
        "3f8c",
        "not-a-uuid",
        ":nosuch",
        ":MASTER",
        ":side~2",
        ":side~-1",
        "::",
        "777:a:b",
        ":a~1~1",
        "~1",
    ):
        for _ in range(2):
            with pytest.raises(BadRequest):
                db.resolve(bad)
    db.new_repo(root="8" * 32)
    for spec in (":", ":master", ":side~1"):
        with pytest.raises(BadRequest, match="one repo"):
            db.resolve(spec)
    assert db.resolve("888:master")[1].uuid == "8" * 32


def test_a_whole_uuid_goes_before_one_that_it_begins(db: Database, repo: Repo) -> None:
    db.tag(repo, repo.dag.root, "v1.2")
    assert db.resolve("v1.")[1].uuid == "v1.2"
    db.tag(repo, repo.dag.root, "v1")
    db.tag(repo, repo.dag.root, "v1.3")
    assert db.resolve("v1")[1].uuid == "v1"
    with pytest.raises(BadRequest, match="more than one"):
        db.resolve("v1.")


def test_leaf_of_a_branch_after_a_restart(db: Database, repo: Repo) -> None:
    b = db.branch(repo, repo.dag.root, "b")
    db.commit(repo, b)
    db.branch(repo, b, "c")
    assert again(db).resolve(":b")[1].uuid == b.uuid
    assert again(db).resolve(":b~0")[1].uuid == b.uuid


def test_look_ups_never_answer_an_older_state(db: Database, repo: Repo) -> None:
    """While versions come, a reader that resolves all the time sees each leaf as soon as it was acknowledged."""
    acknowledged = [repo.dag.root]

    def read() -> None:
        least = acknowledged[-1].id
        assert db.resolve(":master")[1].id >= least

    with beside(read, read):
        for _ in range(100):
            child = db.new_version(repo, acknowledged[-1])
            acknowledged.append(child)
            db.commit(repo, child)
