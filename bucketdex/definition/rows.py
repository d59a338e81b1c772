"""A table's rows and their NDJSON lines. Changes with the form of a line, together with every view's identity."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import GenericAlias
from typing import Any

import msgspec

from bucketdex.definition.kinds import FieldType
from bucketdex.definition.table import TableDefinition
from bucketdex.definition.types import python_converter

LINE_TYPES: dict[FieldType, Any] = {
    FieldType.STRING: str,
    FieldType.INT: int,
    FieldType.FLOAT: float,
    FieldType.DECIMAL: str,
    FieldType.BOOL: bool,
    FieldType.TIMESTAMP: str,
    FieldType.DATE: str,
}


class RowCodec:
    """Rows of one table: `Row(v0, ..., vn, key, at)`, canonical values in declared order, a list where multi-valued.

    `encode(row)` gives the one flat JSON line without its newline: declared names in order, nulls written out, then
    `_key`, and `_at` where the object holds many records. Equal rows have equal bytes. `decode(line)` and
    `decode_lines(bytes)` read such lines, pass over `_w`, `_v` and `_view`, and raise msgspec.DecodeError on anything
    else.
    """

    Row: type[Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    decode_lines: Callable[[bytes], list[Any]]

    def __init__(self, definition: TableDefinition) -> None:
        fields: list[Any] = []
        for i, field in enumerate(definition.fields):
            element = LINE_TYPES[field.type]
            fields.append((f"f{i}", (GenericAlias(list, element) if field.multi else element) | None))
        rename = {f"f{i}": field.name for i, field in enumerate(definition.fields)}
        self.Row = msgspec.defstruct(
            "Row",
            [*fields, ("key", str), ("at", tuple[int, int] | None, None)],
            rename=rename | {"key": "_key", "at": "_at"},
            omit_defaults=True,
            gc=False,  # rows hold no cycles, and a million tracked objects would be walked again and again
        )
        decoder = msgspec.json.Decoder(self.Row)
        encoder = msgspec.json.Encoder()
        self.encode = encoder.encode
        self._encode_lines = encoder.encode_lines
        self.decode = decoder.decode
        self.decode_lines = decoder.decode_lines
        self._names = tuple(field.name for field in definition.fields)
        self._attributes = {name: f"f{i}" for i, name in enumerate(self._names)}
        self._convert = _converter(definition)

    def encode_lines(self, rows: list[Any]) -> list[bytes]:
        """The line of each row."""
        return self._encode_lines(rows).split(b"\n")[:-1]  # JSON holds no newline

    def attribute(self, name: str) -> str:
        """The attribute of a row that holds the field of that name; KeyError when there is none."""
        return self._attributes[name]

    def to_python(self, row: Any) -> dict[str, Any]:
        """A row as users see it: Python values by declared name, `_key`, and `_at` if the object holds many records."""
        plain: dict[str, Any] = self._convert(row)
        return plain


@lru_cache(maxsize=256)
def row_codec(definition: TableDefinition) -> RowCodec:
    """The codec of a definition, made once."""
    return RowCodec(definition)


def _converter(definition: TableDefinition) -> Callable[[Any], dict[str, Any]]:
    """`f(row)` as one dict display: a result of many rows spends its time here."""
    names: dict[str, Any] = {}
    items = []
    for i, field in enumerate(definition.fields):
        convert = python_converter(field.type)
        names[f"name{i}"], names[f"convert{i}"] = field.name, convert
        value = f"r.f{i}"
        if convert is not None and field.multi:
            value = f"None if (v := r.f{i}) is None else [convert{i}(x) for x in v]"
        elif convert is not None:
            value = f"None if (v := r.f{i}) is None else convert{i}(v)"
        items.append(f"name{i}: {value}, ")
    source = (
        f"def convert(r):\n d = {{{''.join(items)}'_key': r.key}}\n if r.at is not None: d['_at'] = r.at\n return d"
    )
    exec(source, names)  # noqa: S102 (built from attribute names alone)
    function: Callable[[Any], dict[str, Any]] = names["convert"]
    return function
