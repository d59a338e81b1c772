"""Rows as users get them: dicts of Python values, of all declared columns or of those selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bucketdex.definition import TableDefinition, python_converter, row_codec
from bucketdex.query.columns import BoundColumn, Columns


def projector(definition: TableDefinition, columns: Columns, names: Sequence[str] | None) -> Callable[[Any], Any]:
    """`f(row)`: its dict. QueryError for names of no column."""
    if names is None:
        return row_codec(definition).to_python
    picked = [(name, python_value(columns[name])) for name in names]
    return lambda row: {name: value(row) for name, value in picked}


def python_value(column: BoundColumn) -> Callable[[Any], Any]:
    """`f(row)`: the column's Python value; a list where it is multi-valued."""
    get = column.get
    convert = None if column.type is None else python_converter(column.type)
    if convert is None:
        return get
    if column.multi:
        return lambda row: None if (values := get(row)) is None else [convert(value) for value in values]
    return lambda row: None if (value := get(row)) is None else convert(value)
