"""The budget of large answers."""

import threading

import numpy as np

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
