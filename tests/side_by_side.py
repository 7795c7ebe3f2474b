"""Tasks in threads of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


def run(*tasks: Callable[[], object]) -> None:
    """Runs all of them at the same time, until all have ended; raises what one of them raises."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(task) for task in tasks]
    for task in running:
        task.result()


@contextmanager
def beside(*tasks: Callable[[], object]) -> Iterator[None]:
    """Runs each of them again and again, at least once, until the block has ended; raises what one of them raises."""
    ended = threading.Event()

    def again(task: Callable[[], object]) -> None:
        task()
        while not ended.is_set():
            task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(again, task) for task in tasks]
        try:
            yield
        finally:
            ended.set()
    for task in running:
        task.result()
