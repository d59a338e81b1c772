"""The command `check`: the rejects that a local file would give, before any upload."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from bucketdex.cli.output import Format, note, write_rows
from bucketdex.cli.progress import progress_bar
from bucketdex.cli.query import REJECT_COLUMNS
from bucketdex.cli.session import FormatOption, IndexOption, Session, session
from bucketdex.definition.table import TableDefinition
from bucketdex.errors import BucketdexError, DefinitionError

CHUNK_BYTES = 1 << 20


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
    info = _object_info(definition, file, key)
    rows, rejects = 0, []
    with progress_bar(f"reading {file.name}", info.size) as advance:
        for batch in _batches(definition, info, file, advance):
            rows += len(batch.rows)
            rejects += batch.rejects
    if rejects or form is not Format.TABLE:
        write_rows(({"_key": item.key, "_at": item.at, **_facts(item)} for item in rejects), REJECT_COLUMNS, form)
    note(f"{file}: {rows:,} good records, {len(rejects):,} rejects")
    if rejects:
        raise typer.Exit(1)


def _definition(table: str, session: Session, index: str | None) -> TableDefinition:
    path = Path(table)
    if path.suffix == ".toml":
        return TableDefinition.load(path)
    path = Path("tables") / f"{table}.toml"
    if path.exists():
        return TableDefinition.load(path)
    try:
        return session.table(table, index).definition
    except BucketdexError as error:
        raise DefinitionError(
            f"no definition of {table!r}: {path} does not exist, and the index says: {error}"
        ) from error


def _object_info(definition: TableDefinition, file: Path, key: str | None) -> Any:
    from bucketdex.source import ObjectInfo

    facts = file.stat()
    return ObjectInfo(
        key=key or _key_of(definition, file),
        etag="",
        size=facts.st_size,
        last_modified=facts.st_mtime,
        content_type=mimetypes.guess_type(file.name)[0] or "application/octet-stream",
        storage_class="STANDARD",
        metadata={},
        tags={},
    )


def _key_of(definition: TableDefinition, file: Path) -> str:
    """The longest end of the file's path that is a key of the table; for a prefix, else, the file right under it."""
    parts = file.resolve().parts[1:]
    for start in range(len(parts)):
        key = "/".join(parts[start:])
        if definition.match(key) is not None:
            return key
    if definition.source.prefix is not None:
        return definition.source.prefix + file.name
    raise DefinitionError(
        f"the path {file} does not end in a key of table {definition.name!r}, such as {definition.source.key}; "
        "say with --key which one it would have"
    )


def _batches(definition: TableDefinition, info: Any, file: Path, advance: Any) -> Iterator[Any]:
    from bucketdex.source import read_records

    with file.open("rb") as stream:

        def chunks() -> Iterator[bytes]:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
                advance(stream.tell())

        yield from read_records(definition, info, chunks())


def _facts(reject: Any) -> dict[str, Any]:
    return {name: getattr(reject, name) for name in REJECT_COLUMNS[2:]}
