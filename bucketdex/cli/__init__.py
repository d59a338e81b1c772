"""The command line `bucketdex`: what a terminal needs on top of the client, and nothing that the client can do."""

import sys


def run() -> int:
    """The entry point: run the command of `sys.argv`, or say how to install what the command line needs."""
    try:
        from bucketdex.cli.main import main
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print("error: the command line needs more packages: pip install 'bucketdex[cli]'", file=sys.stderr)
        return 1
    return main()
