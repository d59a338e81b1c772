"""Where the index is, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from bucketdex.cli.output import Format

if TYPE_CHECKING:
    from bucketdex.client import Database, Table

Opener = Callable[[str | None], "Database"]

INDEX_HELP = "Where the index is: s3://bucket or s3://bucket/prefix. Default: BUCKETDEX_INDEX."

IndexOption = Annotated[str | None, typer.Option("--index", metavar="URL", help=INDEX_HELP)]
FormatOption = Annotated[
    Format, typer.Option("--format", "-f", metavar="table|json|csv", help="json is one array; csv has a header.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where", "-w", metavar="CONDITION", help='A condition, such as "amount >= 100"; several must all hold.'
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most this many rows.")]
TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")]


def open_database(index: str | None) -> Database:
    """The database at this URL; None: at BUCKETDEX_INDEX. Costs nothing before a table is used."""
    from bucketdex.client import Database  # imported late: --help needs no object store

    return Database(index)


class Session:
    """What one run of the command line knows: the index it was told of, and how to open one."""

    def __init__(self, opener: Opener = open_database) -> None:
        self._opener = opener
        self.index: str | None = None

    def database(self, index: str | None = None) -> Database:
        """The database of `--index`, given before or after the command's name."""
        return self._opener(index or self.index)

    def table(self, name: str, index: str | None = None) -> Table:
        """One of its tables. Raises TableNotFoundError."""
        return self.database(index).table(name)


def session(context: typer.Context) -> Session:
    """The session of this run."""
    found = context.find_object(Session)
    assert found is not None, "main() starts every run with a session"
    return found
