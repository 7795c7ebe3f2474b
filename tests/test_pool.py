"""The shared pool: order, bound, errors, early ends and nested use."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvidcore.pool import ordered_map, processors


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 9))
def test_results_come_in_the_order_of_the_items(pauses, window):
    def work(item):
        index, pause = item
        time.sleep(pause * 1e-4)
        return index

    assert list(ordered_map(work, enumerate(pauses), window)) == list(range(len(pauses)))


def test_no_more_items_than_the_window_are_taken_ahead():
    taken = 0

    def items():
        nonlocal taken
        for k in range(50):
            taken = k + 1
            yield k

    for received, result in enumerate(ordered_map(lambda k: k, items(), 4)):
        assert result == received
        assert taken <= received + 4


def test_an_exception_stands_where_its_result_would():
    def work(k):
        if k == 3:
            raise KeyError(k)
        return k

    results = ordered_map(work, range(8), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)
    assert list(results) == []


def test_an_exception_of_the_items_comes_through():
    def items():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(ordered_map(lambda k: k, items(), 3))


def test_closing_early_waits_for_what_runs_and_starts_no_more():
    running = 0
    started = []
    lock = threading.Lock()

    def work(k):
        nonlocal running
        with lock:
            running += 1
            started.append(k)
        time.sleep(0.01)
        with lock:
            running -= 1
        return k

    results = ordered_map(work, range(100), 6)
    assert next(results) == 0
    results.close()
    assert running == 0
    count = len(started)
    time.sleep(0.03)
    assert len(started) == count <= 7


def test_a_task_may_fan_out_again():
    def inner(k):
        return k * k

    def outer(k):
        return sum(ordered_map(inner, range(k), 4))

    expected = [sum(i * i for i in range(k)) for k in range(12)]
    assert list(ordered_map(outer, range(12), 4)) == expected


def test_many_callers_at_once():
    answers = {}

    def call(n):
        answers[n] = list(ordered_map(lambda k: k + n, range(50), 5))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == {n: list(range(n, n + 50)) for n in range(8)}


def test_a_window_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        next(ordered_map(str, [1], 0))


def test_there_is_a_processor():
    assert processors() >= 1
