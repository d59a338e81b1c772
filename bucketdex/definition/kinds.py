"""The set of field types, and what a value of them may be. Changes when a type is added."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

Canonical: TypeAlias = str | int | float | bool | None
"""The JSON value that a line of the index stores: one form for equal values, whatever the source wrote."""


class FieldType(StrEnum):
    """The types that a field may have."""

    STRING = "string"
    INT = "int"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    DATE = "date"


NUMERIC = frozenset({FieldType.INT, FieldType.FLOAT, FieldType.DECIMAL})
CALENDAR = frozenset({FieldType.TIMESTAMP, FieldType.DATE})


class ValueTypeError(ValueError):
    """A value doesn't fit its field's type. `reason` is short and never contains the value, which may be sensitive."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
