"""The command `check`: the rejects that a local file would give, before any upload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bucketdex.cli.output import Format, note, write_rows
from bucketdex.cli.progress import steps
from bucketdex.cli.query import REJECT_COLUMNS
from bucketdex.cli.session import FormatOption, IndexOption, Session, session
from bucketdex.definition import TableDefinition
from bucketdex.errors import BucketdexError, DefinitionError
from bucketdex.source import Reject, check_file


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command()(check)


def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file as it would be uploaded.")],
    table: Annotated[
        str,
        typer.Option(
            "--table", "-t", metavar="T", help="A definition's path, a name in ./tables, or a table of the index."
        ),
    ],
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="The key it would have, where the path doesn't tell.")
    ] = None,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Print the rejects that this file would give, and exit with 1 if there are any. Uploads nothing."""
    definition = _definition(table, session(context), index)
    with steps(f"reading {file.name}"):
        rows, rejects = check_file(definition, file, key=key)
    if rejects or form is not Format.TABLE:
        facts = ({"_key": item.key, "_at": item.at, **_facts(item)} for item in rejects)
        write_rows(facts, REJECT_COLUMNS, form)
    note(f"{file}: {rows:,} good records, {len(rejects):,} rejects")
    if rejects:
        raise typer.Exit(1)


def _definition(table: str, session: Session, index: str | None) -> TableDefinition:
    path = Path(table if table.endswith(".toml") else f"tables/{table}.toml")
    if path.exists():
        return TableDefinition.load(path)
    try:
        return session.table(table, index).definition
    except BucketdexError as error:
        raise DefinitionError(f"no definition of {table!r}: there is no {path}, and in the index: {error}") from error


def _facts(reject: Reject) -> dict[str, object]:
    return {name: getattr(reject, name) for name in REJECT_COLUMNS[2:]}
