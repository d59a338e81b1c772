"""Decodes of a line only what a query looks at: a scan's time goes into the columns that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from bucketdex.definition import TableDefinition, row_codec
from bucketdex.definition.rows import LINE_TYPES

DecodeLines = Callable[[bytes], list[Any]]


@lru_cache(maxsize=512)
def narrow_decoder(definition: TableDefinition, names: frozenset[str]) -> DecodeLines:
    """`f(lines)`: rows with the attributes of a `RowCodec`'s, of these fields (and the key and place) only."""
    codec = row_codec(definition)
    fields: list[Any] = []
    rename = {"key": "_key", "at": "_at"}
    for field in definition.fields:
        if field.name in names:
            attribute = codec.attribute(field.name)
            plain: Any = LINE_TYPES[field.type]
            fields.append((attribute, (list[plain] if field.multi else plain) | None))
            rename[attribute] = field.name
    row = msgspec.defstruct(
        "NarrowRow", [*fields, ("key", str), ("at", tuple[int, int] | None, None)], rename=rename, gc=False
    )
    decode_lines: DecodeLines = msgspec.json.Decoder(row).decode_lines
    return decode_lines
