"""How rows are written: a table for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

TABLE_ROWS_MAX = 1000
PIPE_WIDTH = 100_000  # in a pipe nothing is cut to fit a screen


class Format(StrEnum):
    """The forms of output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def console() -> Console:
    """Standard output. Colours and a screen's width only on a terminal."""
    plain = Console(file=sys.stdout, highlight=False, markup=False)
    return plain if plain.is_terminal else Console(file=sys.stdout, highlight=False, markup=False, width=PIPE_WIDTH)


def note(message: str) -> None:
    """One line for the person, on standard error, so that a pipe gets data only."""
    print(message, file=sys.stderr)


def write_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], form: Format) -> None:
    """Write rows as they come: `json` is one array with a row a line, `csv` has a header. A table is held in memory to
    align its columns, so it ends at 1,000 rows and says so.
    """
    if form is Format.JSON:
        _write_json(rows)
    elif form is Format.CSV:
        _write_csv(rows, columns)
    else:
        _write_table(iter(rows), columns)


def write_facts(facts: Mapping[str, Any]) -> None:
    """Write names and values, one a line."""
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(Text(name, style="bold"), Text(_readable(value)))
    console().print(grid)


def write_json(value: object) -> None:
    """Write one JSON value on one line."""
    print(json.dumps(value, default=_json_value, ensure_ascii=False))


def write_result(facts: Mapping[str, Any], form: Format) -> None:
    """Write what one command has to say: names and values, one JSON object, or a CSV of one row."""
    if form is Format.JSON:
        write_json(facts)
    elif form is Format.CSV:
        write_rows([facts], tuple(facts), form)
    else:
        write_facts(facts)


def _write_json(rows: Iterable[Mapping[str, Any]]) -> None:
    lead = "["
    for row in rows:
        print(lead + json.dumps(row, default=_json_value, ensure_ascii=False), end="")
        lead = ",\n"
    print("[]" if lead == "[" else "]")


def _write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    writer = csv.writer(_UnixLines(), lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_value(row.get(column)) for column in columns])


class _UnixLines:
    """Ends each row with a newline only. The writer has to believe in CR LF, else it leaves a CR in a value bare."""

    def write(self, row: str) -> int:
        return sys.stdout.write(row.removesuffix("\r\n") + "\n")


def _write_table(rows: Iterator[Mapping[str, Any]], columns: Sequence[str]) -> None:
    shown = list(islice(rows, TABLE_ROWS_MAX))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numbers = any(isinstance(row.get(column), int | float | Decimal) for row in shown)
        table.add_column(
            Text(_readable(column)), justify="right" if numbers else "left", no_wrap=not sys.stdout.isatty()
        )
    for row in shown:
        table.add_row(*(Text(_readable(row.get(column))) for column in columns))
    console().print(table)
    if next(rows, None) is not None:
        note(f"only the first {TABLE_ROWS_MAX} rows are shown: --format json and csv write them all")


def _json_value(value: object) -> object:
    """Decimals as text, so that no digit is lost; times as they are stored."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"no JSON form of {type(value).__name__}")


def _csv_value(value: object) -> object:
    """An empty cell for null; lists as JSON."""
    if isinstance(value, list | tuple):
        return json.dumps(value, default=_json_value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return _json_value(value) if isinstance(value, Decimal | date) else value


def _readable(value: object) -> str:
    """Text for a terminal; what data holds of control characters is shown, never sent."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        text = value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S" + (".%f" if value.microsecond else ""))
    elif isinstance(value, list | tuple):
        text = ", ".join(_readable(item) for item in value)
    elif isinstance(value, dict):
        text = json.dumps(value, default=_json_value, ensure_ascii=False)
    else:
        text = str(_csv_value(value))
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
