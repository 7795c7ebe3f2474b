"""``python -m dvidcore.cli``: the command line without an installed script."""

from dvidcore.cli import main

main()
