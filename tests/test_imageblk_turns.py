"""The turns of writers: batches side by side, a staged write alone."""

import threading
import time
from contextlib import ExitStack

from dvidcore.datatypes.imageblk.turns import Turns


def started(task):
    thread = threading.Thread(target=task, daemon=True)
    thread.start()
    return thread


def test_many_share():
    turns, together = Turns(), threading.Barrier(4)

    def share():
        with turns.shared():
            together.wait(120)

    threads = [started(share) for _ in range(4)]
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def test_who_is_alone_waits_for_those_who_share_and_goes_before_later_ones():
    turns, order = Turns(), []
    with ExitStack() as first:
        first.enter_context(turns.shared())

        def alone():
            with turns.alone():
                order.append("alone")

        def late():
            with turns.shared():
                order.append("late")

        threads = [started(alone)]
        while not turns._waiting:
            time.sleep(0.001)
        threads.append(started(late))
        time.sleep(0.05)
        assert order == []
    for thread in threads:
        thread.join(120)
    assert order == ["alone", "late"]


def test_nobody_else_is_there_with_who_is_alone():
    turns, inside, seen = Turns(), set(), []

    def work(k):
        for step in range(50):
            single = (k + step) % 3 == 0
            with turns.alone() if single else turns.shared():
                inside.add(k)
                if single:
                    seen.append(len(inside))
                inside.discard(k)

    threads = [started(lambda k=k: work(k)) for k in range(6)]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert set(seen) == {1}
