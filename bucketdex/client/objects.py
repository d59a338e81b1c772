"""Records as objects of the data bucket: their bytes and their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from bucketdex.definition import TableDefinition
from bucketdex.errors import QueryError
from bucketdex.runtime import Runtime

_SUFFIXES = {"json": ".json", "ndjson": ".ndjson"}


def encode_records(definition: TableDefinition, records: Sequence[Mapping[str, Any]]) -> bytes:
    """The object that holds these records. QueryError for a format that can't be written, several records in one
    document, and values that JSON has no form for.
    """
    source = definition.source
    if source.format not in _SUFFIXES or source.records is not None:
        raise QueryError(f"objects of table {definition.name!r} are not plain JSON or NDJSON: write them yourself")
    if not records or (source.format == "json" and len(records) != 1):
        raise QueryError(f"{len(records)} records don't make an object of format {source.format}")
    lines = [_encoded(record) for record in records]
    return lines[0] if source.format == "json" else b"\n".join(lines) + b"\n"


def key_for(definition: TableDefinition, records: Sequence[Mapping[str, Any]], runtime: Runtime) -> str:
    """The key that the template makes of a record, or a new one under the prefix. QueryError for a member that is
    missing.
    """
    source = definition.source
    if source.key is None:
        return f"{source.prefix}{runtime.token()}{_SUFFIXES.get(source.format, '')}"
    pattern = source.pattern()
    assert not isinstance(pattern, str)
    record = records[0] if records and isinstance(records[0], Mapping) else {}
    values = {}
    for name in pattern.names:
        value = record.get(name)
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise QueryError(f"put(): the key {source.key!r} needs {name!r} in the record, or pass key=")
        values[name] = str(value)
    key = source.key
    for name, text in values.items():
        key = key.replace("{" + name + "}", text)
    if definition.match(key) != values:
        raise QueryError(f"put(): the record's values don't fit the key {source.key!r}; pass key=")
    return key


def _encoded(record: object) -> bytes:
    if not isinstance(record, Mapping):
        raise QueryError(f"put(): a record is a dict, not a {type(record).__name__}")
    try:
        for name, value in record.items():
            _check(name, value)
        return msgspec.json.encode(dict(record))
    except (TypeError, ValueError, RecursionError) as error:
        raise QueryError(f"put(): the record has no JSON form: {error}") from error


def _check(name: str, value: object) -> None:
    """What would be written as something else than it is."""
    if isinstance(value, datetime) and value.tzinfo is None:
        raise QueryError(f"put(): the datetime of {name!r} has no zone: give it one, such as UTC")
    if (isinstance(value, float) and not isfinite(value)) or (isinstance(value, Decimal) and not value.is_finite()):
        raise QueryError(f"put(): {name!r} is not a finite number; None means null")
    if isinstance(value, Mapping):
        for item in value.values():
            _check(name, item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _check(name, item)
