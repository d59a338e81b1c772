"""Rows and their lines."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.definition import TableDefinition, row_codec

TABLE = TableDefinition.from_dict(
    "t",
    {
        "source": {"format": "json", "prefix": ""},
        "fields": {
            "first name": "string",
            "n": "int",
            "x": "float",
            "amount": "decimal",
            "ok": "bool",
            "at": "timestamp",
            "day": "date",
            "key": "string",
            "tags": {"type": "string", "path": "tags[]"},
            "prices": {"type": "decimal", "path": "prices[]"},
        },
    },
)
CODEC = row_codec(TABLE)
VALUES = ("é\n", -1, 0.1, "1.5", True, "2026-01-02T03:04:05.000000Z", "2026-01-02", "k", ["a", "b"], ["1", "2.5"])


def test_a_line_holds_all_fields_in_order_and_says_where_it_is_from() -> None:
    line = CODEC.encode(CODEC.Row(*VALUES, "a b/c", (12, 34)))
    assert b"\n" not in line
    names = ["first name", "n", "x", "amount", "ok", "at", "day", "key", "tags", "prices"]
    assert list(json.loads(line).items()) == [*zip(names, VALUES, strict=True), ("_key", "a b/c"), ("_at", [12, 34])]


def test_nulls_are_written_and_the_place_of_an_only_record_is_not() -> None:
    line = CODEC.encode(CODEC.Row(*[None] * 8, [], [], "k"))
    assert line.count(b"null") == 8
    assert b"_at" not in line
    assert CODEC.decode(line).at is None


def test_lines_are_read_back() -> None:
    rows = [CODEC.Row(*VALUES, f"key {i}", None if i % 2 else (i, 5)) for i in range(4)]
    lines = [CODEC.encode(row) for row in rows]
    assert [CODEC.decode(line) for line in lines] == rows
    assert CODEC.decode_lines(b"\n".join(lines)) == rows
    assert CODEC.decode_lines(b"\n".join(lines) + b"\n") == rows
    assert CODEC.decode_lines(b"") == []


def test_members_of_ours_are_passed_over() -> None:
    row = CODEC.Row(*VALUES, "k", (1, 2))
    line = CODEC.encode(row)
    assert CODEC.decode(b'{"_w":-1,' + line[1:-1] + b',"_v":"x","_view":"by_n"}') == row


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"_key":1}', b'{"n":"1","_key":"k"}'])
def test_a_line_that_is_no_row_is_an_error(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        CODEC.decode(line)


def test_attributes() -> None:
    row = CODEC.Row(*VALUES, "object", None)
    assert [getattr(row, CODEC.attribute(field.name)) for field in TABLE.fields] == list(VALUES)
    assert (row.key, row.at) == ("object", None)
    with pytest.raises(KeyError):
        CODEC.attribute("_key")


def test_python_values() -> None:
    python = CODEC.to_python(CODEC.Row(*VALUES, "object", (1, 2)))
    assert python == {
        "first name": "é\n",
        "n": -1,
        "x": 0.1,
        "amount": Decimal("1.5"),
        "ok": True,
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "key": "k",
        "tags": ["a", "b"],
        "prices": [Decimal("1"), Decimal("2.5")],
        "_key": "object",
        "_at": (1, 2),
    }
    nulls = CODEC.to_python(CODEC.Row(*[None] * 10, "object"))
    assert set(nulls) == set(python) - {"_at"}
    assert [value for name, value in nulls.items() if name != "_key"] == [None] * 10


def test_one_codec_a_definition() -> None:
    assert row_codec(TableDefinition.from_dict("t", TABLE.to_dict())) is CODEC


@given(
    st.tuples(
        st.text(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
    ),
    st.text(),
)
def test_encoding_is_undone_by_decoding_and_depends_on_the_values_alone(head: tuple[Any, ...], key: str) -> None:
    row = CODEC.Row(*head, *VALUES[3:], key, (2**63 - 1, 0))
    line = CODEC.encode(row)
    again = CODEC.decode(line)
    assert again == row
    assert type(again.f2) is float
    assert CODEC.encode(again) == line
