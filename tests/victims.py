"""Processes that are started to be killed."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

PRELOADED = ["dvidcore.api.app", "dvidcore.datatypes.labels.labelmap", "dvidcore.storage.leveldb", "pytest"]
"""Modules of the tests are not found there."""


def forkserver() -> ForkServerContext:
    """Where they come from: a process that has imported what they need, so that a start takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
