"""Commands about the index itself: tables, status, compact."""

from __future__ import annotations

import typer

from bucketdex.cli.backfill import say_left_behind
from bucketdex.cli.output import Format, note, write_facts, write_json, write_rows
from bucketdex.cli.progress import steps
from bucketdex.cli.session import FormatOption, IndexOption, TableArgument, session


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    for command in (tables, status, compact):
        app.command()(command)


def tables(context: typer.Context, form: FormatOption = Format.TABLE, index: IndexOption = None) -> None:
    """List the tables of the index."""
    database = session(context).database(index)
    rows = []
    for name in database.tables():
        definition = database.table(name).definition
        rows.append({
            "table": name,
            "format": definition.source.format,
            "keys": definition.source.key or definition.source.prefix,
            "indexes": [item.name for item in definition.indexes],
            "summaries": [item.name for item in definition.summaries],
        })  # fmt: skip
    write_rows(rows, ("table", "format", "keys", "indexes", "summaries"), form)
    if not rows:
        note("this index has no tables yet")


def status(
    context: typer.Context, table: TableArgument, form: FormatOption = Format.TABLE, index: IndexOption = None
) -> None:
    """Print a table's generation, counts and what waits for compaction."""
    source = session(context).table(table, index)
    facts = source.status()
    if form is Format.JSON:
        write_json(facts)
    else:
        views = [{"view": name, **view} for name, view in facts.pop("views").items()]
        if form is Format.TABLE:
            write_facts(facts)
            print()
        write_rows(views, ("view", "state", "runs", "rows", "bytes", "lag"), form)
    if facts["successor"] is not None:
        say_left_behind(source.backfill_job())


def compact(
    context: typer.Context,
    table: TableArgument,
    index: IndexOption = None,
) -> None:
    """Fold what was committed since the last compaction; answers stay the same."""
    source = session(context).table(table, index)
    with steps(f"compacting {table}"):
        source.compact()
    print(f"{table} is compacted")
