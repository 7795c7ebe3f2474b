"""The command line, ``dvidcore``. Everything beyond the parsing of arguments is imported when a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dvidcore._version import __version__
from dvidcore.cli.check import check
from dvidcore.cli.demo import demo
from dvidcore.cli.load import load
from dvidcore.cli.node import node
from dvidcore.cli.repo import repo


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dvidcore")
def cli() -> None:
    """A versioned data server for connectomics with DVID's HTTP API."""


@cli.command()
@click.argument("config", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Serve one store in this folder.")
@click.option("--http", "address", metavar="HOST:PORT", help="Where to listen; default localhost:8000.")
@click.option("--server", "backend", type=click.Choice(["waitress", "granian"]), help="The HTTP server to run under.")
@click.option("--threads", type=click.IntRange(1), help="Requests handled at the same time; default 8.")
@click.option("--readonly", is_flag=True, help="Answer GET and HEAD only.")
@click.option("--fullwrite", is_flag=True, help="Allow writes to committed versions.")
def serve(
    *,
    config: Path | None,
    data: Path | None,
    address: str | None,
    backend: str | None,
    threads: int | None,
    readonly: bool,
    fullwrite: bool,
) -> None:
    """Serve the stores of CONFIG, a TOML file, or of one folder (--data).

    The admin token is taken from the environment variable DVID_ADMIN_TOKEN.
    """
    from dvidcore import config as configuration
    from dvidcore.api.serve import main as run

    if (config is None) == (data is None):
        raise click.UsageError("give either a TOML file or --data FOLDER")
    if readonly and fullwrite:
        raise click.UsageError("--readonly and --fullwrite exclude each other")
    try:
        loaded = configuration.load(config) if config is not None else configuration.from_folder(str(data))
        given = {
            "http_address": address,
            "backend": backend,
            "threads": threads,
            "mode": "readonly" if readonly else "fullwrite" if fullwrite else None,
        }
        loaded = loaded.with_server(**{key: value for key, value in given.items() if value is not None})
        configuration.parse_address(loaded.server.http_address)
    except configuration.ConfigError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(run(loaded))


@cli.command()
def about() -> None:
    """Show the versions of dvidcore, its engines and its data types."""
    import platform

    from dvidcore.datatypes.registry import type_names
    from dvidcore.storage import engine_names

    click.echo(f"dvidcore    {__version__}")
    click.echo(f"Python      {platform.python_version()}")
    click.echo(f"engines     {', '.join(engine_names())}")
    click.echo(f"data types  {', '.join(type_names())}")


cli.add_command(check)
cli.add_command(demo)
cli.add_command(load)
cli.add_command(node)
cli.add_command(repo)


def main() -> None:
    """The console script: errors go to stderr, with exit code 1 (2 for a wrong command line)."""
    cli()
