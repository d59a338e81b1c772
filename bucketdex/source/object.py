"""What is read and what comes of it: objects, rows and rejects. Changes when a reject says more or less."""

from __future__ import annotations

from decimal import Decimal
from json import dumps
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

RejectKind: TypeAlias = Literal["record", "object", "unreadable", "too_large"]
At: TypeAlias = tuple[int, int]
"""Where a record is: its offset and length in bytes of the unpacked object."""

VALUE_CHARACTERS_MAX = 200


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a store says of an object besides its body. `last_modified` is in seconds since the epoch."""

    key: str
    etag: str = ""
    size: int = 0
    last_modified: float = 0.0
    content_type: str | None = None
    storage_class: str | None = None
    metadata: dict[str, str] = {}
    tags: dict[str, str] = {}


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be indexed and why: one record, or (other kinds) the object or the rest of it.

    `line` counts from 1. `value` is cut to 200 characters; it and `reason` never show a sensitive field's value.
    """

    key: str
    reason: str
    kind: RejectKind = "record"
    at: At | None = None
    line: int | None = None
    field: str | None = None
    value: str | None = None


class RecordBatch(NamedTuple):
    """Some of an object's rows and rejects, each in the object's order. A row is a `RowCodec.Row`."""

    rows: list[Any]
    rejects: list[Reject]


class RecordError(Exception):
    """One record can't become a row. `reason` never contains a value of the record."""

    def __init__(self, reason: str, *, field: str | None = None, value: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.field, self.value = reason, field, value


class ObjectError(Exception):
    """The object, or what is left of it, can't be read as its table says. `reason` never contains a value of it."""

    def __init__(
        self, reason: str, kind: RejectKind = "object", *, field: str | None = None, value: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.kind, self.field, self.value = reason, kind, field, value


def shown(value: object) -> str:
    """A value as a reject shows it: one short text that any JSON encoder takes."""
    if isinstance(value, bytes):
        text = value[: 4 * VALUE_CHARACTERS_MAX].decode("utf-8", "replace")
    elif isinstance(value, str):
        text = value
    elif isinstance(value, Decimal):
        text = str(value)
    else:
        try:
            text = dumps(value, ensure_ascii=False, default=str)
        except (ValueError, TypeError, RecursionError):
            text = f"({type(value).__name__})"
    return text[:VALUE_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode("utf-8")[:VALUE_CHARACTERS_MAX]
