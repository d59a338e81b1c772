"""Commands that ask a table: query, get, summary, rejects."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import msgspec
import typer

from bucketdex.cli.output import Format, note, write_facts, write_json, write_rows
from bucketdex.cli.session import FormatOption, IndexOption, LimitOption, TableArgument, WhereOption, session
from bucketdex.cli.where import where as condition
from bucketdex.client.summary import find_summary
from bucketdex.definition import Field, GroupTerm, TableDefinition
from bucketdex.errors import MultipleRecordsError, QueryError

REJECT_COLUMNS = ("_key", "_at", "kind", "line", "field", "value", "reason")


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    for command in (query, get, summary, rejects):
        app.command()(command)


def query(
    context: typer.Context,
    table: TableArgument,
    where: WhereOption = None,
    order_by: Annotated[
        list[str] | None,
        typer.Option("--order-by", "-o", metavar="FIELD", help="Sort by this field; -FIELD descends. Repeat for ties."),
    ] = None,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
    count: Annotated[bool, typer.Option("--count", help="Print only how many rows there are.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print the plan instead of running it.")] = False,
    allow_scan: Annotated[bool, typer.Option("--allow-scan", help="Run it even where no index serves it.")] = False,
    index: IndexOption = None,
) -> None:
    """Print the rows that meet all conditions.

    A condition is FIELD OPERATOR VALUE, the value of the field's type.
    Operators: = == != < <= > >=, in (A, B), not in (A, B), between A and B,
    like A%, startswith, contains, is null, is not null. Quotes are needed
    only around commas, the word and, or spaces at the ends of a value.
    """
    source = session(context).table(table, index)
    fields = _fields(source.definition)
    found = source.where(*(condition(text, fields) for text in where or ()))
    if order_by:
        found = found.order_by(*order_by)
    if limit is not None:
        found = found.limit(limit)
    if allow_scan:
        found = found.allow_scan()
    if explain:
        print(found.explain())
    elif count:
        print(found.count())
    else:
        write_rows(found, [*fields, "_key"], form)


def get(
    context: typer.Context,
    table: TableArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The object's key in the data bucket.")],
    every: Annotated[bool, typer.Option("--all", help="All records of an object that holds several.")] = False,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Print the one record of an object."""
    source = session(context).table(table, index)
    columns = [*_fields(source.definition), "_key"]
    if every:
        write_rows(source.records(key), columns, form)
        return
    try:
        row = source.get(key)
    except MultipleRecordsError as error:
        raise MultipleRecordsError(f"{key!r} holds several records: get them with --all") from error
    if row is None:
        raise QueryError(f"table {table!r} has no record of {key!r} (rejected? see: bucketdex rejects {table})")
    if form is Format.TABLE:
        write_facts(row)
    elif form is Format.JSON:
        write_json(row)
    else:
        write_rows([row], columns, form)


def summary(
    context: typer.Context,
    table: TableArgument,
    name: Annotated[str, typer.Argument(metavar="SUMMARY", help="The summary's name.")],
    where: WhereOption = None,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Print a summary's groups and measures; conditions are on its groups."""
    source = session(context).table(table, index)
    declared = find_summary(source.definition, name)
    groups = {term.name: _group_field(source.definition, term) for term in declared.group_by}
    found = source.summary(name).where(*(condition(text, groups) for text in where or ()))
    write_rows(islice(found, limit), [*groups, *(measure.name for measure in declared.measures)], form)


def rejects(
    context: typer.Context,
    table: TableArgument,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Print what could not be indexed, and why."""
    found = list(islice(session(context).table(table, index).rejects(), limit))
    write_rows(found, REJECT_COLUMNS, form)
    if not found:
        note(f"table {table!r} has no rejects")


def _fields(definition: TableDefinition) -> dict[str, Field]:
    return {field.name: field for field in definition.fields}


def _group_field(definition: TableDefinition, term: GroupTerm) -> Field:
    """A group term as a field that conditions can be written on: day(created_at) is the string field created_at_day."""
    return msgspec.structs.replace(definition.field(term.field), name=term.name, type=term.type)
