"""The declared fields of a table: where a value comes from and what it is. Changes when fields get a new property."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec

from bucketdex.definition.entries import Entry
from bucketdex.definition.kinds import CALENDAR, FieldType
from bucketdex.definition.timestamps import EPOCH_UNITS
from bucketdex.definition.zones import zone_names

Origin = Literal["content", "key", "metadata", "tag", "system"]
ORIGINS: tuple[str, ...] = get_args(Origin)
SHOWN_ORIGINS: Final = {"key": "key", "system": "system properties"}  # of an object, wherever it is named

SYSTEM_TYPES = {
    "key": FieldType.STRING,
    "size": FieldType.INT,
    "last_modified": FieldType.TIMESTAMP,
    "etag": FieldType.STRING,
    "content_type": FieldType.STRING,
    "storage_class": FieldType.STRING,
}
NAME_LENGTH_MAX = 200
DATE_DIRECTIVES = frozenset("YymdjbBaAUWGVu%")
TIME_DIRECTIVES = DATE_DIRECTIVES | frozenset("HIMSfpz")
_SAMPLE = datetime(2026, 12, 31, 23, 59, 58, 999999, UTC)
_DIRECTIVE = re.compile("%(.?)", re.DOTALL)
_UNFIT_FOR_NAMES = re.compile(r'[\x00-\x1f\x7f"\\\ud800-\udfff]')


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """One declared field.

    `path` holds the steps to the value: of content, member names (or the one column of a CSV); else the one name in the
    key template, metadata, tags or system properties. Of a multi-valued field, `arrays` says which steps lead to a list
    whose elements each count.
    """

    name: str
    type: FieldType
    source: Origin = "content"
    path: tuple[str, ...] = ()
    multi: bool = False
    required: bool = False
    format: str | None = None
    timezone: str | None = None
    sensitive: bool = False
    arrays: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.path:
            msgspec.structs.force_setattr(self, "path", (self.name,))
        if self.multi and not self.arrays:
            msgspec.structs.force_setattr(self, "arrays", (len(self.path) - 1,))


def parse_field(entry: Entry, name: str, source_format: str) -> Field:
    """The field of one entry under [fields]: a type's name, or a table of properties.

    DefinitionError names the entry.
    """
    check_name(entry, name)
    properties = {"type": entry.value} if isinstance(entry.value, str) else entry.mapping("a type's name or a table")
    entry = entry.replace(properties)
    entry.known_keys(("type", "path", "from", "required", "format", "timezone", "sensitive"))
    kind = FieldType(entry.child("type", required=True).one_of([kind.value for kind in FieldType], "type"))
    source: Any = entry.child("from", "content").one_of(ORIGINS, "origin")
    path, arrays = _path(entry.child("path"), name, source, source_format)
    field = Field(
        name=name,
        type=kind,
        source=source,
        path=path,
        multi=bool(arrays),
        required=entry.child("required", False).boolean(),
        format=entry.child("format").text_or_none(),
        timezone=entry.child("timezone").text_or_none(),
        sensitive=entry.child("sensitive", False).boolean(),
        arrays=arrays,
    )
    if field.sensitive and source in SHOWN_ORIGINS:
        raise entry.child("sensitive").error(
            f"a value from the {SHOWN_ORIGINS[source]} is shown wherever its object is named: in logs, in rejects",
            "take the value out of the object's key into its content, metadata or tags, or remove sensitive",
        )
    _check_calendar(entry, field)
    if source == "system":
        _check_system(entry, field)
    if source == "content" and source_format == "blob":
        raise entry.error(
            "the body of a blob is never read", 'take the value from = "key", "metadata", "tag" or "system"'
        )
    return field


def field_entry(field: Field, source_format: str) -> str | dict[str, Any]:
    """What `parse_field` reads as this field; the shortest form."""
    plain: dict[str, Any] = {"type": field.type.value}
    if field.source != "content":
        plain["from"] = field.source
    if field.path != (field.name,) or field.arrays:
        plain["path"] = _path_entry(field, source_format)
    for name in ("format", "timezone"):
        if (value := getattr(field, name)) is not None:
            plain[name] = value
    for name in ("required", "sensitive"):
        if getattr(field, name):
            plain[name] = True
    return plain["type"] if len(plain) == 1 else plain


def check_name(entry: Entry, name: str) -> None:
    """DefinitionError unless the name can be a field's or a measure's."""
    if not name or len(name) > NAME_LENGTH_MAX:
        raise entry.error(f"a name has 1 to {NAME_LENGTH_MAX} characters", "choose a shorter one and state the path")
    if name.startswith("_"):
        raise entry.error(
            'names that start with "_" are reserved', f'name it "{name.lstrip("_") or "x"}" with path = "{name}"'
        )
    if _UNFIT_FOR_NAMES.search(name):
        raise entry.error(
            "a name holds no quotes, backslashes or control characters", "choose another and state the path"
        )


def _path(entry: Entry, name: str, source: str, source_format: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if entry.value is None:
        return (name,), ()
    if isinstance(entry.value, (list, tuple)):
        steps = list(entry.texts())
    else:
        text = entry.text()
        steps = text.split(".") if source == "content" and source_format != "csv" else [text]
    if source != "content" or source_format == "csv":
        if len(steps) != 1 or not steps[0]:
            raise entry.error("one name is expected here", 'state it as text, such as path = "name"')
        return (steps[0].lower() if source == "metadata" else steps[0],), ()
    arrays = tuple(i for i, step in enumerate(steps) if step.endswith("[]"))
    stripped = tuple(step.removesuffix("[]") for step in steps)
    if not steps or not all(stripped):
        raise entry.error(
            "a step of the path is empty", 'write steps like "customer.id" or "tags[]"; a list of steps for odd names'
        )
    return stripped, arrays


def _path_entry(field: Field, source_format: str) -> str | list[str]:
    if field.source != "content" or source_format == "csv":
        return field.path[0]
    steps = [f"{step}[]" if i in field.arrays else step for i, step in enumerate(field.path)]
    return steps if any("." in step for step in steps) else ".".join(steps)


def _check_calendar(entry: Entry, field: Field) -> None:
    for name in ("format", "timezone"):
        allowed = CALENDAR if name == "format" else {FieldType.TIMESTAMP}
        if getattr(field, name) is not None and field.type not in allowed:
            raise entry.child(name).error(
                f"a field of type {field.type} has no {name}", 'remove it, or make the type "timestamp"'
            )
    if field.timezone is not None:
        entry.child("timezone").one_of(sorted(zone_names()), "time zone", listed=False)
    if field.format is None:
        return
    if field.format in EPOCH_UNITS and field.type is FieldType.TIMESTAMP:
        if field.timezone is not None:
            raise entry.child("timezone").error("numbers since 1970 have no zone", "remove it")
        return
    _check_layout(entry.child("format"), field)


def _check_layout(entry: Entry, field: Field) -> None:
    layout = field.format or ""
    directives = _DIRECTIVE.findall(layout)
    allowed = TIME_DIRECTIVES if field.type is FieldType.TIMESTAMP else DATE_DIRECTIVES
    for directive in directives:
        if directive not in allowed or not directive:
            raise entry.error(
                f'"%{directive}" can\'t be used in the format of a {field.type}',
                f"use {' '.join(f'%{d}' for d in sorted(allowed))}"
                + (", epoch_s or epoch_ms" if field.type is FieldType.TIMESTAMP else ""),
            )
    if not {"Y", "y", "G"} & set(directives):
        raise entry.error("the format has no year", 'write a strptime format such as "%d/%m/%Y"')
    try:
        datetime.strptime(_SAMPLE.strftime(layout), layout)
    except (ValueError, re.error):
        raise entry.error("the format can't be read back", "use each directive once; %G needs %V and %u") from None
    if field.type is FieldType.TIMESTAMP and "z" not in directives and field.timezone is None:
        raise entry.error("the format has no zone", 'add timezone = "UTC" (or another), or %z to the format')


def _check_system(entry: Entry, field: Field) -> None:
    where = entry.child("path", field.name)
    where.one_of(SYSTEM_TYPES, "system property")
    expected = SYSTEM_TYPES[field.path[0]]
    if field.type is not expected:
        raise entry.child("type").error(f'"{field.path[0]}" is a {expected}', f'make the type "{expected}"')
    if field.format is not None or field.timezone is not None:
        raise entry.error("a system property has its own form", "remove format and timezone")
