"""Bytes to JSON values without loss, and where the records of a document are. Changes when what counts as JSON does."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from json import JSONDecodeError, JSONDecoder
from typing import Any, TypeAlias

from bucketdex.source.object import ObjectError, RecordError

Span: TypeAlias = tuple[int, int]
"""Start and end in bytes."""

INT_DIGITS_MAX = 30
EXPONENT_CLAMP = 999_999_999
DOCUMENT_DEPTH_MAX = 500  # what the standard library's parser surely manages

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SPACE = re.compile(r"[ \t\n\r]*").match


def parse(data: bytes, *, depth_max: int) -> Any:
    """One JSON value (RFC 8259, UTF-8), nothing lost: numbers with a point or exponent, and long ones, come as Decimal.

    Of duplicate member names the last counts. Raises RecordError for all else, without recursion past `depth_max`.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"not valid UTF-8 (byte {error.start + 1})") from None
    if deeper(data, depth_max):
        raise RecordError(f"nested deeper than {depth_max}")
    try:
        return _decode(text)
    except ValueError as error:
        raise RecordError(_problem(error, "character")) from None
    except RecursionError:
        raise RecordError("nested too deeply") from None


def deeper(data: bytes, depth_max: int) -> bool:
    """Whether lists and objects are nested deeper than `depth_max`; found without recursion."""
    if data.count(b"{") + data.count(b"[") <= depth_max:
        return False
    depth = 0
    for bracket in _STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > depth_max:
            return True
    return False


def record_spans(document: bytes, steps: tuple[str, ...], *, depth_max: int) -> list[Span]:
    """Where the elements of the list that the steps (member names) lead to are, in their order. Holds the document
    and one more copy of it.

    ObjectError when the document as a whole isn't JSON or has no list there: no part of it can then be trusted.
    """
    bound = max(depth_max + len(steps) + 1, DOCUMENT_DEPTH_MAX)
    if deeper(document, bound):
        raise ObjectError(f"nested deeper than {bound}")
    text = document.decode("latin-1")  # a character a byte: positions are bytes; brackets and quotes are themselves
    try:
        spans, end = _spans(text, _space(text, 0), steps)
        if (end := _space(text, end)) != len(text):
            raise JSONDecodeError("Extra data", text, end)
    except ValueError as error:
        raise ObjectError(_problem(error, "byte")) from None
    except RecursionError:
        raise ObjectError("nested too deeply") from None
    return spans


def _spans(text: str, at: int, steps: tuple[str, ...]) -> tuple[list[Span], int]:
    """The elements of the list that the steps lead to from the value at `at`, and where that value ends."""
    if text[at : at + 1] != ("{" if steps else "["):
        _skip(text, at)  # malformed is the better reason, if it is
        raise ObjectError(f'no object with a member "{steps[0]}"' if steps else "no list of records there")
    spans: list[Span] | None = None if steps else []
    at, more = _first(text, at, "}" if steps else "]")
    while more:
        if spans is None or steps:
            member, at = _member_name(text, at)
            if member in (steps[0], steps[0].encode().decode("latin-1")):
                spans, at = _spans(text, at, steps[1:])  # the last one counts
            else:
                _, at = _skip(text, at)
        else:
            start = at
            _, at = _skip(text, at)
            spans.append((start, at))
        at, more = _next(text, at, "}" if steps else "]")
    if spans is None:
        raise ObjectError(f'no member "{steps[0]}" in the document')
    return spans, at


def _member_name(text: str, at: int) -> tuple[str, int]:
    """A member's name, and where its value starts."""
    if text[at : at + 1] != '"':
        raise JSONDecodeError("Expecting property name", text, at)
    name, at = _skip(text, at)
    at = _space(text, at)
    if text[at : at + 1] != ":":
        raise JSONDecodeError("Expecting ':' delimiter", text, at)
    return name, _space(text, at + 1)


def _first(text: str, at: int, closing: str) -> tuple[int, bool]:
    at = _space(text, at + 1)
    return (at + 1, False) if text[at : at + 1] == closing else (at, True)


def _next(text: str, at: int, closing: str) -> tuple[int, bool]:
    at = _space(text, at)
    if text[at : at + 1] == closing:
        return at + 1, False
    if text[at : at + 1] != ",":
        raise JSONDecodeError("Expecting ',' delimiter", text, at)
    return _space(text, at + 1), True


def _space(text: str, at: int) -> int:
    match = _SPACE(text, at)
    assert match is not None  # it matches nothing, too
    return match.end()


def _problem(error: ValueError, unit: str) -> str:
    if not isinstance(error, JSONDecodeError):
        return f"malformed JSON: {error}"
    return f"malformed JSON: {error.msg.partition(': ')[0]} ({unit} {error.pos + 1})"  # the rest may quote the text


def plain(data: bytes) -> dict[str, Any]:
    """A record as Python's json reads it. ValueError when it is no JSON object."""
    value = _decode_plain(data.decode("utf-8-sig"))
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def number_or_text(text: str) -> Any:
    """The value of one JSON text that is known to be well-formed."""
    return _decode(text)


def _exact_int(text: str) -> int | Decimal:
    return int(text) if len(text) <= INT_DIGITS_MAX else Decimal(text)


def _exact_number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond even Decimal's: as good as the largest it has
        mantissa, _, exponent = text.lower().partition("e")
        return Decimal(f"{mantissa}e{'-' if exponent[0] == '-' else ''}{EXPONENT_CLAMP}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = JSONDecoder(parse_float=_exact_number, parse_int=_exact_int, parse_constant=_no_constant).decode
_skip = JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant).raw_decode
_decode_plain = JSONDecoder(parse_int=_exact_int).decode
