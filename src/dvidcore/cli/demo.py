"""``dvidcore demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-data"),
    show_default=True,
    help="The folder of the demo's store.",
)
@click.option(
    "--http", "address", metavar="HOST:PORT", default="localhost:8000", show_default=True, help="Where to listen."
)
def demo(data: Path, address: str) -> None:
    """Serve a small EM volume and its segmentation, which the first start loads.

    Prints URLs to try and keeps serving until it is interrupted.
    """
    from dvidcore import config as configuration
    from dvidcore import demo as tour

    try:
        config = configuration.from_folder(data).with_server(http_address=address)
        configuration.parse_address(address)
    except configuration.ConfigError as error:
        raise click.ClickException(str(error)) from None
    sys.exit(tour.run(config))
