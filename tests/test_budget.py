"""The budget of large answers."""

import threading

import numpy as np
import pytest

from dvidcore.budget import Budget


def test_no_more_is_taken_than_there_is():
    budget = Budget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert budget.take(40)
    assert budget.used == 100
    budget.give_back(60)
    assert budget.take(60)


def test_a_buffer_gives_back_when_its_last_view_goes():
    budget = Budget(100)
    assert budget.take(80)
    buffer = np.zeros(10)
    budget.lend(buffer, 80)
    view = buffer.data.cast("B")
    del buffer
    assert budget.used == 80
    del view
    assert budget.used == 0


def test_who_borrows_waits_for_room():
    budget = Budget(100)
    most, inside = [], []

    def work(size):
        for _ in range(50):
            with budget.borrow(size):
                inside.append(size)
                most.append(budget.used)
                inside.remove(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (30, 40, 60, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.used == 0
    assert set(most) - {500} and max(set(most) - {500}) <= 100


def test_what_is_larger_than_the_limit_is_had_alone():
    budget = Budget(100)
    with budget.borrow(500):
        assert not budget.take(1)
    assert budget.take(100)
    done = threading.Event()
    thread = threading.Thread(target=lambda: [budget.borrow(500).__enter__(), done.set()])
    thread.start()
    assert not done.wait(0.05)
    budget.give_back(100)
    assert done.wait(120)
    thread.join()


def test_what_fails_gives_back():
    budget = Budget(100)
    with pytest.raises(KeyError), budget.borrow(70):
        raise KeyError
    assert budget.take(100)


def test_threads_together_keep_within_the_limit():
    budget = Budget(1000)
    most = []

    def work():
        for _ in range(300):
            if budget.take(300):
                most.append(budget.used)
                budget.give_back(300)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.used == 0
    assert max(most) <= 1000
