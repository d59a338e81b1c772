"""The grammar of `--where`: one condition, FIELD OPERATOR VALUE, as text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NamedTuple

from bucketdex.definition import Field, FieldType
from bucketdex.errors import QueryError
from bucketdex.query.expression import Expression, col

OPERATORS = "=, ==, !=, <, <=, >, >=, in, not in, between .. and .., like, startswith, contains, is null, is not null"

_OPERATOR = re.compile(
    r"==|!=|<>|<=|>=|=|<|>|(?:is\s+not\s+null|is\s+null)$|(?:not\s+in|in|between|like|startswith|contains)(?![\w.])",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_TEXT_OPERATORS = {"like", "startswith", "contains"}


class Condition(NamedTuple):
    """One condition, its values still text; `=` and `<>` have become `==` and `!=`, words lower case."""

    field: str
    operator: str
    values: tuple[str, ...]


def where(text: str, fields: Mapping[str, Field]) -> Expression:
    """The expression of one `--where`, its values of the field's type. Raises QueryError that says what to write."""
    try:
        condition = parse(text, fields)
    except ValueError as error:
        if _names_sensitive(text, fields):
            raise QueryError(f"--where: not FIELD OPERATOR VALUE; operators are {OPERATORS}") from None
        if any(field.sensitive for field in fields.values()) and not _starts_with_field(
            text, fields
        ):  # the name may be misspelt: what follows isn't shown
            raise QueryError(f"--where: {error}") from None
        raise QueryError(f"--where {text!r}: {error}") from error
    values = [_typed(condition, value, fields) for value in condition.values]
    return _BUILD[condition.operator](condition.field, values)


def parse(text: str, names: Mapping[str, object]) -> Condition:
    """Split `text` into field, operator and values. The field is the longest known name that `text` starts with, so
    names with spaces need no quotes; `_key` is always known. Raises ValueError.
    """
    field, rest = _split_field(text.strip(), names)
    match = _OPERATOR.match(rest)
    if match is None:
        found = f"no operator after {field!r}" if not rest else f"{rest.split()[0]!r} is no operator"
        raise ValueError(f"{found}; there are {OPERATORS}")
    operator = " ".join(match.group().lower().split())
    operator = {"=": "==", "<>": "!="}.get(operator, operator)
    return Condition(field, operator, _split_values(operator, rest[match.end() :].strip()))


def _split_field(text: str, names: Mapping[str, object]) -> tuple[str, str]:
    known = [*names, "_key"]
    quoted = _QUOTED.match(text)
    if quoted:
        name, rest = _unquote(quoted.group()), text[quoted.end() :].lstrip()
        if name in known:
            return name, rest
    else:
        for name in sorted(known, key=len, reverse=True):
            rest = text[len(name) :]
            if text.startswith(name) and (not rest or rest[0] in " \t=!<>"):
                return name, rest.lstrip()
        name = re.split(r"[\s=!<>]", text, maxsplit=1)[0]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise ValueError(f"no field {name!r}; {hint}" if name else f"it has to start with a field; {hint}")


def _names_sensitive(text: str, fields: Mapping[str, Field]) -> bool:
    return any(field.sensitive and name in text for name, field in fields.items())


def _starts_with_field(text: str, names: Mapping[str, object]) -> bool:
    try:
        _split_field(text.strip(), names)
    except ValueError:
        return False
    return True


def _split_values(operator: str, text: str) -> tuple[str, ...]:
    if operator.startswith("is "):
        return ()
    if not text:
        raise ValueError(f"no value after {operator!r} (an empty text is written '')")
    if operator in {"in", "not in"}:
        if text.startswith("(") != text.endswith(")"):
            raise ValueError("a parenthesis is open")
        return tuple(_unquote(part) for part in _split(text[1:-1] if text.startswith("(") else text, re.compile(",")))
    if operator == "between":
        ends = _split(text, _AND)
        if len(ends) != 2:
            raise ValueError("between takes two values: between LOW and HIGH, both included")
        return tuple(_unquote(end) for end in ends)
    return (_unquote(text),)


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of `text` between separators that stand outside quotes. Quotes count at the start of a part."""
    parts, start = [], 0
    while True:
        lead = len(text[start:]) - len(text[start:].lstrip())
        quoted = _QUOTED.match(text, start + lead)
        found = separator.search(text, quoted.end() if quoted else start)
        parts.append(text[start : found.start() if found else len(text)].strip())
        if not parts[-1]:
            raise ValueError("a value is missing (an empty text is written '')")
        if not found:
            return parts
        start = found.end()


def _unquote(text: str) -> str:
    if text[0] not in "'\"":
        return text
    if not _QUOTED.fullmatch(text):
        raise ValueError(f"the quotes of {text} don't match (a quote inside is written twice)")
    return text[1:-1].replace(text[0] * 2, text[0])


def _typed(condition: Condition, text: str, fields: Mapping[str, Field]) -> object:
    field = fields.get(condition.field)
    if field is None or condition.operator in _TEXT_OPERATORS:
        return text
    try:
        value = _PARSE[field.type](text)
    except (ValueError, ArithmeticError, KeyError):
        shown = "the value" if field.sensitive or _names_sensitive(text, fields) else repr(text)
        how = _HOW.get(field.type, "")
        raise QueryError(f"--where on {field.name!r}: {shown} is no {field.type.value}{how}") from None
    if isinstance(value, datetime) and value.tzinfo is None and field.timezone is None:
        return value.replace(tzinfo=UTC)
    return value


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_PARSE: dict[FieldType, Callable[[str], object]] = {
    FieldType.STRING: str,
    FieldType.INT: int,
    FieldType.FLOAT: float,
    FieldType.DECIMAL: Decimal,
    FieldType.BOOL: _bool,
    FieldType.TIMESTAMP: datetime.fromisoformat,
    FieldType.DATE: date.fromisoformat,
}
_HOW = {
    FieldType.BOOL: " (true or false)",
    FieldType.TIMESTAMP: " (as 2026-01-02 or 2026-01-02T03:04:05Z; where it says no zone in the field's, else UTC)",
    FieldType.DATE: " (as 2026-01-02)",
}
_BUILD: dict[str, Callable[[str, list[object]], Expression]] = {
    "==": lambda field, values: col(field) == values[0],
    "!=": lambda field, values: col(field) != values[0],
    "<": lambda field, values: col(field) < values[0],
    "<=": lambda field, values: col(field) <= values[0],
    ">": lambda field, values: col(field) > values[0],
    ">=": lambda field, values: col(field) >= values[0],
    "in": lambda field, values: col(field).in_(values),
    "not in": lambda field, values: col(field).not_in(values),
    "between": lambda field, values: col(field).between(values[0], values[1]),
    "like": lambda field, values: col(field).like(str(values[0])),
    "startswith": lambda field, values: col(field).startswith(str(values[0])),
    "contains": lambda field, values: col(field).contains(str(values[0])),
    "is null": lambda field, values: col(field).is_null(),
    "is not null": lambda field, values: col(field).is_not_null(),
}
