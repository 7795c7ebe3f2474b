"""Tasks in threads of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def run(*tasks: Callable[[], object]) -> None:
    """Runs all of them at the same time, until all have ended; raises what one of them raises."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(task) for task in tasks]
    for task in running:
        task.result()
