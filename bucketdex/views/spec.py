"""The views of a table: their names, kinds and identities. Changes when a new kind of view is added."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import msgspec

from bucketdex.definition import FieldType, GroupTerm, Index, Summary, TableDefinition
from bucketdex.definition.groups import TZDATA_VERSION
from bucketdex.definition.table import HASH_DIGITS

LINE_FORMAT = 1  # part of every view's identity: raise it when lines or sort keys are written differently

ViewKind = Literal["objects", "records", "rejects", "index", "summary"]

OBJECTS, RECORDS, REJECTS = "objects", "records", "rejects"
NEEDS_VALUES = frozenset({"min", "max", "count_distinct"})


class View(msgspec.Struct, frozen=True):
    """One fold over the rows of a table. `hash` covers all that shapes its lines, keys and groups, so that a change is
    a new view.
    """

    name: str
    kind: ViewKind
    hash: str
    index: Index | None = None
    summary: Summary | None = None
    hidden: bool = False

    @property
    def id(self) -> str:
        """The name of the view's folder."""
        return f"{self.name}-{self.hash}"


def values_view_name(summary: str, field: str) -> str:
    """The hidden summary on (group, value) that settles min, max and count_distinct of one field."""
    return f"{summary}.{field}"


def values_views(view: View) -> list[str]:
    """The names of the hidden summaries that settle a summary."""
    assert view.summary is not None
    return [values_view_name(view.name, field) for field in _value_fields(view.summary)]


@lru_cache(maxsize=256)
def views_of(definition: TableDefinition) -> tuple[View, ...]:
    """All views of a table, the hidden ones included, in a stable order."""
    shape = _record_shape(definition)
    views = [
        View(OBJECTS, "objects", _digest("objects", shape)),
        View(RECORDS, "records", _digest("records", shape)),
        View(REJECTS, "rejects", _digest("rejects", shape)),
    ]
    views += [
        View(index.name, "index", _digest("index", shape, list(index.fields)), index=index)
        for index in (*definition.indexes, *definition.retiring.indexes)
    ]
    for summary in (*definition.summaries, *definition.retiring.summaries):
        views += _summary_views(definition, summary, shape)
    return tuple(views)


def view_of(definition: TableDefinition, name: str) -> View:
    """The view of that name; KeyError when the definition has none."""
    for view in views_of(definition):
        if view.name == name:
            return view
    raise KeyError(name)


def multi_field(definition: TableDefinition, index: Index) -> str | None:
    """The one multi-valued field of an index, or None."""
    return next((name for name in index.fields if definition.field(name).multi), None)


def group_type(definition: TableDefinition, term: GroupTerm) -> FieldType:
    """The type of a group's value."""
    return FieldType.STRING if term.unit is not None else definition.field(term.field).type


def _summary_views(definition: TableDefinition, summary: Summary, shape: object) -> list[View]:
    terms = [msgspec.to_builtins(term) for term in summary.group_by]
    zones = TZDATA_VERSION if any(term.timezone for term in summary.group_by) else ""
    measured = sorted({f"{measure.function} {measure.field}" for measure in summary.measures})
    views = [View(summary.name, "summary", _digest("summary", shape, terms, zones, measured), summary=summary)]
    for field in _value_fields(summary):
        grouped = msgspec.structs.replace(
            summary,
            name=values_view_name(summary.name, field),
            group_by=(*summary.group_by, GroupTerm(name=f"_value.{field}", field=field, unit=None, timezone=None)),
            measures=(),
        )
        digest = _digest("values", shape, terms, zones, field)
        views.append(View(grouped.name, "summary", digest, summary=grouped, hidden=True))
    return views


def _value_fields(summary: Summary) -> list[str]:
    return sorted({m.field for m in summary.measures if m.field is not None and m.function in NEEDS_VALUES})


def _record_shape(definition: TableDefinition) -> object:
    """Everything that decides what the row of a record looks like: fields and how the source is read, but no bounds."""
    plain = definition.to_dict()
    source = {k: v for k, v in plain["source"].items() if not k.startswith("max_")}
    return [LINE_FORMAT, plain["fields"], source, [field.name for field in definition.fields]]


def _digest(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode([LINE_FORMAT, *parts], order="deterministic")).hexdigest()[:HASH_DIGITS]
