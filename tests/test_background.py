"""Work of an instance in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from dvidcore.datatypes.background import Progress, Task
from dvidcore.datatypes.call import Call
from dvidcore.datatypes.registry import Instances
from dvidcore.datatypes.reloading import Reloads
from dvidcore.errors import Conflict, StoreError
from dvidcore.repos import Database, OneStore
from dvidcore.storage.engine import Batch, Key
from dvidcore.storage.keys import data_prefix
from dvidcore.storage.memory import Memory


class Store(Memory):
    """A store that fails when it is told to, or has something done after its next write."""

    failing = False
    then: Callable[[], None] | None = None

    def write(self, batch: Batch, *, sync: bool = True, guard: Mapping[Key, bytes | None] | None = None) -> None:
        if self.failing:
            raise StoreError("the disk is full")
        super().write(batch, sync=sync, guard=guard)
        then, self.then = self.then, None
        if then is not None:
            then()


@pytest.fixture
def engine() -> Store:
    return Store()


@pytest.fixture
def task(engine: Store) -> Iterator[Task]:
    with Database.open({"main": engine}, OneStore("main")) as database:
        repo = database.new_repo("test")
        config = {"typename": "keyvalue", "dataname": "kv"}
        yield Task(Instances(database).create(repo, repo.dag.root, config, admin=True), "work", 0x40)


def test_who_starts_while_another_is_starting_is_refused(engine: Store, task: Task) -> None:
    """Else it would take the other's row, of which nobody seems to be working on it, for that of a dead process."""
    release, refused, ran = threading.Event(), list[Conflict](), list[int]()

    def work(number: int) -> Callable[[Progress], None]:
        def run(progress: Progress) -> None:
            ran.append(number)
            assert release.wait(120)

        return run

    def second() -> None:
        try:
            task.start({"Number": 2}, 1, work(2))
        except Conflict as conflict:
            refused.append(conflict)

    other = threading.Thread(target=second)

    def then() -> None:
        assert task.known()["State"] == "running"
        other.start()
        other.join(0.2)

    engine.then = then
    task.start({"Number": 1}, 1, work(1))
    other.join(120)
    assert task.known()["Number"] == 1
    release.set()
    assert task.wait(120) and ran == [1] and len(refused) == 1


def test_what_could_not_begin_can_begin_later(engine: Store, task: Task) -> None:
    engine.failing = True
    with pytest.raises(StoreError):
        task.start({}, 1, lambda progress: progress.advance())
    engine.failing = False
    assert task.known() == {"State": "none"}
    task.start({}, 1, lambda progress: progress.advance())
    assert task.wait(120) and (task.known()["State"], task.known()["Done"]) == ("done", 1)


@pytest.mark.parametrize(
    ("error", "said"), [(StoreError("the disk is full"), "the disk is full"), (KeyError("/a/path"), "internal error")]
)
def test_a_reload_that_failed_says_why_and_nothing_of_the_server(engine: Store, error: Exception, said: str) -> None:
    with Database.open({"main": engine}, OneStore("main")) as database:
        repo = database.new_repo("test")
        config = {"typename": "keyvalue", "dataname": "kv"}
        data = Instances(database).create(repo, repo.dag.root, config, admin=True)

        def work(call: Call, stop: threading.Event) -> bool:
            raise error

        reloads = Reloads(data, data_prefix(data.record.id, 0x41), work)
        reloads.start(repo.dag.root.id)
        assert reloads.wait(repo.dag.root.id, 120)
        with engine.snapshot() as snapshot:
            state = reloads.state(snapshot, repo.dag.root.id)
        assert state is not None and state["State"] == "failed"
        assert said in state["Error"] and "/a/path" not in state["Error"]
