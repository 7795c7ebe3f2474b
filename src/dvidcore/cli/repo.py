"""``dvidcore repo``: what can be changed of a repo, but not over HTTP; on a store that no server holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvidcore.cli.stores import opened

if TYPE_CHECKING:
    from dvidcore.repos import Database, Repo
    from dvidcore.versions import Node


@dataclass
class Where:
    """The repo that a command is about, by one of its versions."""

    store: Path
    version: str

    @contextmanager
    def opened(self) -> Iterator[tuple[Database, Repo, Node]]:
        """The database, the repo and the version; what is wrong with them ends the command."""
        with opened(self.store) as database:
            yield database, *database.resolve(self.version)


@click.group()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("version")
@click.pass_context
def repo(context: click.Context, store: Path, version: str) -> None:
    """Change the repo of VERSION (a UUID, UUID:branch) of a STORE.

    STORE is the folder of a store, or the TOML file of a server; no server may be running over it.
    """
    context.obj = Where(store, version)


@repo.command()
@click.argument("old")
@click.argument("new")
@click.option("--passcode", help="The repo's, where it has one.")
@click.pass_obj
def rename(where: Where, old: str, new: str, passcode: str | None) -> None:
    """Call the data instance OLD by the name NEW; its data, DataUUID and syncs stay."""
    with where.opened() as (database, found, _):
        database.rename_instance(found, old, new, passcode)
        click.echo(f"{old} is now {new}")


@repo.command("make-master")
@click.argument("old_master")
@click.pass_obj
def make_master(where: Where, old_master: str) -> None:
    """Make the branch that begins with VERSION, beside master, master.

    What was master from the fork on becomes the branch OLD_MASTER.
    """
    with where.opened() as (database, found, node):
        database.make_master(found, node, old_master)
        click.echo(f"the branch of {node.uuid} is now master, what was master is now {old_master}")


@repo.command("hide-branch")
@click.argument("name")
@click.pass_obj
def hide_branch(where: Where, name: str) -> None:
    """Take the versions of the branch NAME out of the repo; their data stays in the store, unseen."""
    with where.opened() as (database, found, _):
        database.hide_branch(found, name)
        click.echo(f"the branch {name} is hidden")
