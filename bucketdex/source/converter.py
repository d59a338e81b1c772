"""Rows by generated code: a typed decoder and one loop for a definition. Changes when the quick way can do more.

A record that the quick way can't take goes to `values`, which decides: so it may refuse anything, but never differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Annotated, Any, TypeAlias

import msgspec

from bucketdex.definition.fields import Field
from bucketdex.definition.kinds import FieldType
from bucketdex.definition.rows import row_codec
from bucketdex.definition.table import TableDefinition
from bucketdex.definition.timestamps import EPOCH_UNITS, timestamp_text
from bucketdex.definition.types import Canonical, canonicalizer, text_canonicalizer
from bucketdex.definition.zones import zone
from bucketdex.source.jsontext import number_or_text
from bucketdex.source.object import At
from bucketdex.source.values import Constants

Retry: TypeAlias = Callable[[int], Any]
Convert: TypeAlias = Callable[[Sequence[Any], Sequence[At | None], str, Constants, Retry], list[Any]]
"""convert(records, ats, key, constants, retry) -> rows, in the order of the records.

`retry(i)` is asked for the row, or None, of each record that the quick way can't take.
"""

MEMO_SIZE_MAX = 8192
MEMO_TEXT_MAX = 64

_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_DIRECT: dict[FieldType, Any] = {
    FieldType.STRING: str,
    FieldType.INT: _INT64,
    FieldType.FLOAT: float,
    FieldType.BOOL: bool,
}
_NULL = msgspec.Raw(b"null")
_FAULTS = (ValueError, TypeError, msgspec.MsgspecError, RecursionError)


class _MissingError(ValueError):
    """A required value isn't there."""


class Memo(dict[str, Any]):
    """A function of texts that remembers: columns repeat themselves. Bounded in entries and in their size."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function

    def __missing__(self, text: str) -> Any:
        value = self._function(text)
        if len(text) <= MEMO_TEXT_MAX:
            if len(self) >= MEMO_SIZE_MAX:
                self.clear()
            self[text] = value
        return value


@lru_cache(maxsize=256)
def json_converter(definition: TableDefinition) -> Convert | None:
    """Converts the bytes of one JSON object each, valid UTF-8 and within the depth bound.

    None for a definition that it can't do.
    """
    content = [field for field in definition.fields if field.source == "content"]
    try:
        tree = _tree(content)
        decoder = msgspec.json.Decoder(_struct(tree))
    except (_ConflictError, ValueError, TypeError):  # paths that meet, or names that msgspec refuses
        return None
    names: dict[str, Any] = {"decode": decoder.decode}
    values = {}
    for i, field in enumerate(definition.fields):
        if field.source == "content":
            names[f"c{i}"] = _json_conversion(field)
            values[i] = _json_value(tree, field, f"c{i}")
    return _compile(definition, "r = decode(record)", values, names)


@lru_cache(maxsize=256)
def csv_converter(definition: TableDefinition, columns: tuple[str, ...]) -> Convert:
    """Converts lists of the texts of these columns; of columns with the same name the last counts."""
    nulls = frozenset(definition.source.csv.null_values)
    places = {name: place for place, name in enumerate(columns)}
    names: dict[str, Any] = {"nulls": nulls}
    values, used = {}, set()
    for i, field in enumerate(definition.fields):
        if field.source != "content":
            continue
        place = places.get(field.path[0])
        if place is None:
            values[i] = "None"
            continue
        used.add(place)
        if field.type is FieldType.STRING:
            values[i] = f"None if t{place} in nulls else t{place}" if nulls else f"t{place}"
            if nulls == {""}:
                values[i] = f"t{place} or None"
        else:
            names[f"c{i}"] = Memo(_nullable(text_canonicalizer(field), nulls)).__getitem__
            values[i] = f"c{i}(t{place})"
    targets = "".join(f"t{place}, " if place in used else "_, " for place in range(len(columns)))
    return _compile(definition, f"[{targets}] = record", values, names)


def _compile(definition: TableDefinition, take: str, values: Mapping[int, str], names: dict[str, Any]) -> Convert:
    """The loop over records. `take` is a statement about `record`, `values` the expressions of the content fields."""
    lines = []
    for i, expression in values.items():
        lines.append(f"v{i} = {expression}")
        if definition.fields[i].required:
            lines.append(f"if {'not' if definition.fields[i].multi else 'None is'} v{i}: raise Missing")
    given = "".join(f"v{i}, " for i in range(len(definition.fields)) if i not in values)
    row = "".join(f"v{i}, " for i in range(len(definition.fields)))
    body = "\n            ".join(lines)
    source = f"""\
def convert(records, ats, key, constants, retry):
    rows = []
    add = rows.append
    [{given}] = constants
    for i, record, at in zip(count(), records, ats):
        try:
            {take}
            {body}
            add(Row({row}key, at))
        except Faults:
            row = retry(i)
            if row is not None:
                add(row)
    return rows
"""
    names |= {"Row": row_codec(definition).Row, "Faults": _FAULTS, "Missing": _MissingError, "count": count}
    exec(source, names)  # noqa: S102 (made of positions and attribute names, nothing that a definition says)
    convert: Convert = names["convert"]
    return convert


class _ConflictError(Exception):
    """Two fields want the same member as different things."""


class _Node:
    """A member that the decoder looks at: a leaf of some type, or an object with members; in a list or not."""

    def __init__(self, listed: bool, leaf: Any = None) -> None:
        self.listed, self.leaf, self.members = listed, leaf, dict[str, _Node]()


def _tree(fields: Sequence[Field]) -> _Node:
    root = _Node(False)
    for field in fields:
        node = root
        for depth, step in enumerate(field.path):
            leaf = _decoded_type(field) if depth == len(field.path) - 1 else None
            member = node.members.setdefault(step, _Node(depth in field.arrays, leaf))
            if (member.listed, member.leaf) != (depth in field.arrays, leaf):
                raise _ConflictError
            node = member
    return root


def _struct(node: _Node) -> Any:
    """A Struct with the members as attributes m0, m1, ..."""
    fields: list[Any] = []
    for i, member in enumerate(node.members.values()):
        inner: Any = _struct(member) if member.leaf is None else member.leaf
        if member.listed:
            fields.append((f"m{i}", list[inner] | None, None))
        elif inner is msgspec.Raw:
            fields.append((f"m{i}", inner, _NULL))
        else:
            fields.append((f"m{i}", inner | None, None))
    rename = {f"m{i}": name for i, name in enumerate(node.members)}
    return msgspec.defstruct("Record", fields, rename=rename, gc=False)


def _decoded_type(field: Field) -> Any:
    if field.type in _DIRECT:
        return _DIRECT[field.type]
    return msgspec.Raw if field.type is FieldType.DECIMAL or field.format in EPOCH_UNITS else str


def _json_conversion(field: Field) -> Callable[[Any], Canonical] | None:
    """What makes a decoded value (not None) canonical; None where it is so already."""
    if field.type is FieldType.DECIMAL:
        return _decimal_conversion(canonicalizer(field))
    if field.format in EPOCH_UNITS:
        convert = canonicalizer(field)
        return lambda raw: convert(number_or_text(str(raw, "utf-8")))
    if field.type is FieldType.TIMESTAMP and field.format is None:
        if field.timezone is None:
            return timestamp_text
        local = zone(field.timezone)
        return lambda text: timestamp_text(text, local)
    if field.type in (FieldType.TIMESTAMP, FieldType.DATE):
        return Memo(text_canonicalizer(field)).__getitem__
    return None


_CANONICAL_DECIMAL = re.compile(r'"?(0|-?(?:0\.[0-9]{0,17}[1-9]|[1-9][0-9]{0,17}(?:\.[0-9]{0,17}[1-9])?))"?').fullmatch
_SHORT_DECIMAL = re.compile(r'"?(-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?)"?').fullmatch


def _decimal_conversion(convert: Callable[[object], Canonical]) -> Callable[[Any], Canonical]:
    def decimal(raw: Any) -> Canonical:
        text = str(raw, "utf-8")
        if text[-1] in "123456789" and len(text) <= 38 and text[0] != '"' and "e" not in text and "E" not in text:
            return text  # JSON's own grammar leaves nothing else to check: 12.5, 0.07 and -3 are canonical
        short = _SHORT_DECIMAL(text)  # what money and measurements look like; all else goes the long way
        if short is None:
            return convert(number_or_text(text))
        number = short[1]
        if "." in number:
            number = number.rstrip("0").rstrip(".")
        return number if number != "-0" else "0"

    return decimal


def _json_value(tree: _Node, field: Field, convert: str) -> str:
    """The expression of a field's value in terms of the decoded record `r`."""
    adjust = {FieldType.STRING: "{}", FieldType.INT: "{}", FieldType.BOOL: "{}", FieldType.FLOAT: "{} + 0.0"}.get(
        field.type, f"{convert}({{}})"
    )
    raw = _decoded_type(field) is msgspec.Raw
    if not field.multi:
        access, node = "r", tree
        guards = ""
        for depth, step in enumerate(field.path):
            attribute, node = _attribute(node, step)
            access = f"{access}.{attribute}"
            if depth < len(field.path) - 1:
                guards += f"None if (x{depth} := {access}) is None else "
                access = f"x{depth}"
        if adjust == "{}" or raw:
            return guards + adjust.format(access)
        return f"{guards}None if (x := {access}) is None else {adjust.format('x')}"
    clauses, access, node = "", "r", tree
    for depth, step in enumerate(field.path):
        attribute, node = _attribute(node, step)
        access = f"{access}.{attribute}"
        if node.listed:
            clauses += f" for x{depth} in {access} or ()"
        elif depth < len(field.path) - 1 or not raw:
            clauses += f" for x{depth} in ({access},) if x{depth} is not None"
        else:
            clauses += f" for x{depth} in ({access},)"
        access = f"x{depth}"
    if raw:
        return f"list(dict.fromkeys([y{clauses} if (y := {adjust.format(access)}) is not None]))"
    elements = f"[{adjust.format(access)}{clauses}]"
    if adjust == "{}" and len(field.path) == 1:
        elements = f"r.{_attribute(tree, field.path[0])[0]} or ()"  # nothing to do for each
    return f"list(dict.fromkeys({elements}))"


def _attribute(node: _Node, step: str) -> tuple[str, _Node]:
    return f"m{list(node.members).index(step)}", node.members[step]


def _nullable(convert: Callable[[str], Canonical], nulls: frozenset[str]) -> Callable[[str], Canonical]:
    return lambda text: None if text in nulls else convert(text)
