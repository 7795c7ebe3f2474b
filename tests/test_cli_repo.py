"""``dvidcore repo`` on a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import dvidcore
from dvidcore.cli import cli


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with dvidcore.open(tmp_path / "store") as db:
        repo = db.new_repo("sample")
        root = repo["master"]
        root.create("em", "uint8blk")
        root.commit()
        root.newversion()
        root.branch("side")
    return tmp_path / "store"


def run(store: Path, *arguments: str) -> tuple[int, str]:
    with dvidcore.open(store) as db:
        (repo,) = db.repos.values()
        version = repo["side"].uuid if "side" in repo.branches else repo.root.uuid
    result = CliRunner().invoke(cli, ["repo", str(store), version, *arguments])
    return result.exit_code, result.output


def branches(store: Path) -> dict[str, int]:
    with dvidcore.open(store) as db:
        (repo,) = db.repos.values()
        return {name: len(repo.record.dag.nodes) for name in repo.branches}


def test_a_branch_becomes_master(store: Path) -> None:
    assert run(store, "make-master", "formerly")[0] == 0
    assert set(branches(store)) == {"master", "formerly"}
    code, said = run(store, "make-master", "formerly")
    assert code == 1 and "dvidcore: " in said


def test_a_branch_is_hidden(store: Path) -> None:
    assert branches(store) == {"master": 3, "side": 3}
    assert run(store, "hide-branch", "side")[0] == 0
    assert branches(store) == {"master": 2}
    assert run(store, "hide-branch", "master")[0] == 1


def test_an_instance_of_a_hidden_version_is_no_disagreement(store: Path) -> None:
    with dvidcore.open(store) as db:
        (repo,) = db.repos.values()
        repo["side"].create("notes", "keyvalue")["a"] = b"1"
    assert run(store, "hide-branch", "side")[0] == 0
    result = CliRunner().invoke(cli, ["check", str(store)])
    assert result.exit_code == 0
    assert "note: " in result.output and "the version of its creation" in result.output


def test_an_instance_is_renamed(store: Path) -> None:
    assert run(store, "rename", "em", "grayscale")[0] == 0
    with dvidcore.open(store) as db:
        (repo,) = db.repos.values()
        assert repo.instances == {"grayscale": "uint8blk"}
    code, said = run(store, "rename", "em", "x")
    assert code == 1 and '"em"' in said


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["repo", str(tmp_path / "none"), "master", "hide-branch", "x"])
    assert result.exit_code == 1 and "no store" in result.output
