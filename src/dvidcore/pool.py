"""The pool that a request over many blocks fans out over: ordered, bounded, and shared by the whole process.

There is one pool for all requests, with a thread less than the process has processors, because the thread that asks
works too: it takes a task itself whenever the result it needs next is not there. So nothing waits for a free worker,
a task may fan out again without a deadlock, and a process with one processor does the same work in the same order.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def processors() -> int:
    """How many processors this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only some systems can tell
        return os.cpu_count() or 1


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, processors() - 1), thread_name_prefix="blocks")


class _Task(Generic[T, R]):
    """One item: run by whoever claims it first, a worker or the thread that asked."""

    __slots__ = ("_claim", "_done", "_error", "_function", "_item", "_result")

    def __init__(self, function: Callable[[T], R], item: T) -> None:
        self._function = function
        self._item = item
        self._claim = threading.Lock()
        self._done = threading.Event()
        self._result: R | None = None
        self._error: BaseException | None = None

    def run(self) -> bool:
        """Runs the task unless another thread has claimed it; answers whether it did."""
        if not self._claim.acquire(blocking=False):
            return False
        try:
            self._result = self._function(self._item)
        except BaseException as e:
            self._error = e
        self._done.set()
        return True

    def drop(self) -> None:
        """Keeps the task from starting, or waits until it has ended."""
        if not self._claim.acquire(blocking=False):
            self._done.wait()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def result(self) -> R:
        """What the function answered or raised, once it has."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


def ordered_map(function: Callable[[T], R], items: Iterable[T], window: int = 8) -> Iterator[R]:
    """``function(item)`` for each item, in the order of the items, several at a time.

    At most ``window`` items (at least 1) are taken from ``items`` ahead of the result that is asked for next, so that
    memory is bounded by the window and not by the number of items. ``items`` is iterated in the thread that asks. An
    exception is raised where its result would stand. When the iterator is closed early or an exception leaves it,
    tasks that run are waited for and the others never start: what they use may be released then.
    """
    if window < 1:
        raise ValueError(f"window is {window}, at least 1 is needed")
    source = iter(items)
    tasks: deque[_Task[T, R]] = deque()
    submit = _executor().submit

    def fill() -> None:
        while len(tasks) < window:
            try:
                item = next(source)
            except StopIteration:
                return
            task = _Task(function, item)
            tasks.append(task)
            if len(tasks) > 1:  # the first is for the thread that asks
                submit(task.run)

    try:
        fill()
        while tasks:
            head = tasks[0]
            if not head.done:
                for task in tuple(tasks):
                    if task.run() and head.done:
                        break
            result = head.result()
            tasks.popleft()
            yield result
            del result
            fill()
    finally:
        for task in tasks:
            task.drop()
