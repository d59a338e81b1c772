"""A record to a row, one value at a time: what decides and words every reject. Changes when a value's meaning does.

The compiled converter is quicker and may only ever agree with this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

from bucketdex.definition.fields import Field
from bucketdex.definition.rows import row_codec
from bucketdex.definition.table import TableDefinition
from bucketdex.definition.timestamps import EPOCH_UNITS, epoch_text
from bucketdex.definition.types import Canonical, ValueTypeError, canonicalizer, from_text, text_canonicalizer
from bucketdex.source.object import At, ObjectError, ObjectInfo, RecordError, shown

MISSING = "required, but missing or null"

Constants: TypeAlias = tuple[Canonical, ...]
"""The values of an object's fields that don't come from its content, in declared order."""


class RecordReader:
    """Makes rows of a table from records parsed to mappings. RecordError says which field is wrong and why."""

    def __init__(self, definition: TableDefinition) -> None:
        self.has_sensitive = any(field.sensitive for field in definition.fields)
        hidden = [field.path for field in definition.fields if field.sensitive and field.source == "content"]
        from_texts = definition.source.format == "csv" and definition.source.extractor is None
        self._row = row_codec(definition).Row
        self._readers: list[Callable[[Mapping[str, Any]], Any] | None] = [
            partial(
                _field_value,
                field,
                text_canonicalizer(field) if from_texts else canonicalizer(field),
                partial(_shown, any(_meet(field.path, path) for path in hidden), self.has_sensitive),
                partial(_shown, any(field.path[0] == path[0] for path in hidden), self.has_sensitive),
            )
            if field.source == "content"
            else None
            for field in definition.fields
        ]

    def row(self, record: object, constants: Constants, key: str, at: At | None) -> Any:
        """The row of one record."""
        if not isinstance(record, Mapping):
            raise RecordError("not an object", value=_shown(self.has_sensitive, False, record))
        given = iter(constants)
        values = [next(given) if read is None else read(record) for read in self._readers]
        return self._row(*values, key, at)


def constants(definition: TableDefinition, info: ObjectInfo) -> Constants:
    """The values from key, metadata, tags and system properties.

    ObjectError when one doesn't fit: then no record has a row.
    """
    parts = definition.match(info.key) or {}
    origins: dict[str, Mapping[str, Any]] = {
        "key": parts,
        "metadata": {name.lower(): text for name, text in info.metadata.items()},
        "tag": info.tags,
        "system": {
            "key": info.key,
            "size": info.size,
            "last_modified": info.last_modified,
            "etag": info.etag,
            "content_type": info.content_type,
            "storage_class": info.storage_class,
        },
    }
    hidden = {(field.source, field.path) for field in definition.fields if field.sensitive}
    values: list[Canonical] = []
    for field in definition.fields:
        if field.source == "content":
            continue
        raw = origins[field.source].get(field.path[0])
        try:
            value = _system_value(field, raw) if field.source == "system" else from_text(field, raw)
        except ValueTypeError as error:
            concealed = (field.source, field.path) in hidden
            raise ObjectError(error.reason, field=field.name, value=None if concealed else shown(raw)) from None
        if value is None and field.required:
            raise ObjectError(MISSING, field=field.name)
        values.append(value)
    return tuple(values)


def _system_value(field: Field, value: Any) -> Canonical:
    if isinstance(value, float):
        return epoch_text(value, EPOCH_UNITS["epoch_s"])
    return canonicalizer(field)(value)


def _meet(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Whether one path leads to the other, so that the value of one may stand where the other's should."""
    return all(x == y for x, y in zip(a, b, strict=False))


def _field_value(
    field: Field,
    convert: Callable[[Any], Canonical],
    show: Callable[[object], str | None],
    show_on_path: Callable[[object], str | None],
    record: Mapping[str, Any],
) -> Any:
    value: Any = None
    try:
        if not field.multi:
            value = _member(record, field.path)
            result: Any = convert(value)
            missing = result is None
        else:
            result = []
            for value in _members(record, field.path, field.arrays):
                result.append(convert(value))
            result = list(dict.fromkeys(result))
            missing = not result
    except ValueTypeError as error:
        raise RecordError(error.reason, field=field.name, value=show(value)) from None
    except _ShapeError as error:
        raise RecordError(error.reason, field=field.name, value=show_on_path(error.value)) from None
    if missing and field.required:
        raise RecordError(MISSING, field=field.name)
    return result


class _ShapeError(Exception):
    """The path to a field leads through something that is no object or no list."""

    def __init__(self, reason: str, value: object) -> None:
        super().__init__(reason)
        self.reason, self.value = reason, value


def _member(value: Any, path: tuple[str, ...]) -> Any:
    """What the path leads to; None where a step is missing or null."""
    for step in path:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise _ShapeError(f'no object with a member "{step}"', value)
        value = value.get(step)
    return value


def _members(value: Any, path: tuple[str, ...], arrays: tuple[int, ...]) -> Iterator[Any]:
    """Everything that the path leads to, but for nulls."""
    if not path:
        if value is not None:
            yield value
        return
    value = _member(value, path[:1])
    if value is None:
        return
    deeper = tuple(step - 1 for step in arrays if step)
    if 0 not in arrays:
        yield from _members(value, path[1:], deeper)
        return
    if not isinstance(value, list):
        raise _ShapeError(f'"{path[0]}" is not a list', value)
    for element in value:
        if element is not None:
            yield from _members(element, path[1:], deeper)


def _shown(hidden: bool, guarded: bool, value: object) -> str | None:
    """The value for a reject; None for a sensitive one, and for a container that may hold one."""
    if value is None or hidden or (guarded and not isinstance(value, (str, int, float, bool, Decimal))):
        return None
    return shown(value)
