"""Processes that are started to be killed."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

PRELOADED = [
    "PIL.Image",
    "dvidcore.api.app",
    "dvidcore.datatypes.labels.labelmap",
    "dvidcore.storage.leveldb",
    "hypothesis",
    "lz4.block",
    "numpy.random",
    "pytest",
]
"""Modules of the tests are not found there."""


def forkserver() -> ForkServerContext:
    """Where they come from: a process that has imported what they need, so that a start takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def kill_after(
    victim: Callable[..., None],
    arguments: tuple[Any, ...],
    receive: Callable[..., bool],
    seconds: float,
    after_a_step: bool,
) -> None:
    """Lets ``victim`` work in a process, and kills it so long after it is ready, or after its first step.

    It gets the arguments and a pipe, through which it sends tuples, the first of which begins with "ready"; the others
    are passed to ``receive``, which answers whether a step was done.
    """
    ours, theirs = (context := forkserver()).Pipe(duplex=False)
    process = context.Process(target=victim, args=(*arguments, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.recv()[0] == "ready"
        killer = threading.Timer(seconds, process.kill)
        if not after_a_step:
            killer.start()
        while True:
            if receive(*ours.recv()) and killer.ident is None:
                killer.start()
    except (EOFError, OSError):
        pass
    except BaseException:  # of ``receive``: what it was told is wrong
        process.kill()
        raise
    process.join()
    assert process.exitcode == -signal.SIGKILL
