"""Opening a store for one command: no server may be running over it, and what is wrong ends the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dvidcore.repos import Database


@contextmanager
def opened(store: Path) -> Iterator[Database]:
    """The database of a folder or of a server's TOML file. Errors of it, and within, go to stderr; exit code 1."""
    from dvidcore.checking import open_store
    from dvidcore.config import ConfigError
    from dvidcore.errors import DvidError

    try:
        with open_store(store).database as database:
            yield database
    except (DvidError, ConfigError, OSError) as error:
        click.echo(f"dvidcore: {error}", err=True)
        sys.exit(1)
