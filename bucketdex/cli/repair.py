"""Commands that bring a table's index up to its bucket: verify, reindex."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bucketdex.cli.output import Format, note, write_facts, write_json, write_result, write_rows
from bucketdex.cli.progress import steps
from bucketdex.cli.session import FormatOption, IndexOption, TableArgument, session
from bucketdex.definition.table import retires_for
from bucketdex.errors import BucketdexError

if TYPE_CHECKING:
    from bucketdex.engine import Verified

NAMED = 10
FOUND = ("objects", "read", "missing", "stale", "extra", "wrong", "changing", "repaired", "failures")
DIFFERENCE_COLUMNS = ("key", "kind", "repaired")


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    for command in (verify, reindex):
        app.command()(command)


def verify(
    context: typer.Context,
    table: TableArgument,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read the objects too, and compare every index and summary with the rows.")
    ] = False,
    sample: Annotated[
        float, typer.Option("--sample", metavar="SHARE", help="With --deep: the share of objects to read, at random.")
    ] = 1.0,
    repair: Annotated[bool, typer.Option("--repair", help="Index the keys that differ.")] = False,
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Compare a table's index with its bucket, and exit with 1 if anything is wrong and not repaired. Needs the data
    bucket: BUCKETDEX_DATA.
    """
    source = session(context).table(table, index)
    with steps(f"verifying {table}") as step:

        def progress(state: Verified) -> None:
            step(f"{state.objects:,} objects compared, {state.read:,} read")

        found = source.verify(deep=deep, sample=sample, repair=repair, progress=progress)
    facts = {name: getattr(found, name) for name in FOUND}
    rows = [{name: getattr(item, name) for name in DIFFERENCE_COLUMNS} for item in found.differences]
    if form is Format.JSON:
        write_json(facts | {"differences": rows, "views": found.views})
    elif form is Format.CSV:
        write_rows(rows, DIFFERENCE_COLUMNS, form)
    else:
        write_facts(facts)
        if rows:
            print()
            write_rows(rows, DIFFERENCE_COLUMNS, form)
    for name, problem in found.views.items():
        note(f"view {name}: {problem}; {_remedy(name)}")
    say_failed(found.failed, found.failures)
    if not found.is_good:
        raise typer.Exit(1)


def reindex(
    context: typer.Context,
    table: TableArgument,
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", help="Keys of objects; - reads them from standard input, one a line."),
    ],
    form: FormatOption = Format.TABLE,
    index: IndexOption = None,
) -> None:
    """Index these objects now, in this process; a key without an object loses its rows. Exits with 1 if an object
    failed or a key is none of the table's. Needs the data bucket: BUCKETDEX_DATA.
    """
    from bucketdex.engine import ApplyResult  # imported late: --help needs no object store

    source = session(context).table(table, index)
    definition = source.definition
    state = ApplyResult(generation=0)
    foreign: list[str] = []

    def own() -> Iterator[str]:
        lines = (line.rstrip("\r\n") for line in sys.stdin) if keys == ["-"] else iter(keys)
        for key in filter(None, lines):
            # An argument that is no UTF-8 comes with halves of surrogate pairs: no object has such a key.
            if definition.match(key) is None or any("\ud800" <= character <= "\udfff" for character in key):
                foreign.append(key)
            else:
                yield key

    with steps(f"indexing {table}") as step:

        def progress(so_far: ApplyResult) -> None:
            nonlocal state
            state = so_far
            step(f"{len(so_far.applied):,} applied")

        try:
            source.reindex(own(), progress=progress)
        except BucketdexError:
            if not state.failed:
                raise
    facts: dict[str, object] = {"applied": len(state.applied), "gone": len(state.gone)}
    facts |= {name: getattr(state, name) for name in ("rows", "rejects", "commits")}
    write_result(facts | {"foreign": len(foreign), "failures": len(state.failed)}, form)
    for key in sorted(state.gone)[:NAMED]:
        note(f"{key}: no such object; rows that it had are gone from the index")
    for key in foreign[:NAMED]:
        note(f"{key}: no key of table {table!r}")
    say_failed(state.failed, len(state.failed))
    if foreign:
        raise typer.Exit(1)


def _remedy(view: str) -> str:
    if view == "objects":
        return "it disagrees with records: rebuild the table"
    return f"take {retires_for(view).partition('.')[0]} out of the definition and put it back, which builds it anew"


def say_failed(failed: dict[str, Exception], failures: int) -> None:
    """The first errors on standard error, and exit code 1 if there are any."""
    for key, error in list(failed.items())[:NAMED]:
        note(f"{key}: {' '.join(str(error).split())}")
    if failures:
        note(f"{failures:,} objects failed; run it again")
        raise typer.Exit(1)
