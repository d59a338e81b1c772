"""NDJSON to rows: the quick way, the deciding way, and ranges."""

import json
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.definition import TableDefinition, row_codec
from bucketdex.source import ObjectInfo, lines, read_records, reading

FIELDS = {
    "id": "string",
    "name": {"type": "string", "path": "customer.id"},
    "count": "int",
    "share": "float",
    "amount": "decimal",
    "paid": "bool",
    "at": "timestamp",
    "local": {"type": "timestamp", "timezone": "Europe/Berlin"},
    "seen": {"type": "timestamp", "format": "epoch_ms"},
    "shipped": {"type": "timestamp", "format": "%d/%m/%Y %H:%M", "timezone": "UTC"},
    "day": "date",
    "tags": {"type": "string", "path": "tags[]"},
    "prices": {"type": "decimal", "path": "items[].price.net"},
    "ints": {"type": "int", "path": "deep.ints[]"},
    "floats": {"type": "float", "path": "deep.floats[]"},
    "grid": {"type": "int", "path": "rows[].cells[]"},
}


def table(fields=FIELDS, **source):
    return TableDefinition.from_dict(
        "orders", {"source": {"prefix": "o/", "format": "ndjson", **source}, "fields": fields}
    )


ALL = table()


def read(definition, data, *, cuts=None, batch_rows=10_000):
    """All rows and rejects of an object whose bytes arrive cut at these places."""
    places = [0, *sorted(cuts or ()), len(data)]
    chunks = [data[a:b] for a, b in pairwise(places)]
    rows, rejects = [], []
    for batch in read_records(definition, ObjectInfo(key="o/x", size=len(data)), chunks, batch_rows=batch_rows):
        rows += batch.rows
        rejects += batch.rejects
    return rows, rejects


def read_slowly(definition, data):
    with patch.object(reading, "json_converter", lambda _: None):
        return read(definition, data)


def plain(definition, row):
    return json.loads(row_codec(definition).encode(row))


def test_a_record_of_every_type():
    record = {
        "id": "ä",
        "customer": {"id": "c1", "other": [1]},
        "count": 7,
        "share": 0.5,
        "amount": 12.50,
        "paid": True,
        "at": "2026-01-02T03:04:05.123456789+01:00",
        "local": "2026-07-01T12:00:00",
        "seen": 1767322800000,
        "shipped": "02/01/2026 03:04",
        "day": "2026-01-02",
        "tags": ["b", "a", "b", None],
        "items": [{"price": {"net": "1.50"}}, {}, {"price": {"net": 2}}, {"price": None}],
        "deep": {"ints": [3, 1.0, 3], "floats": [-0.0, 0]},
        "rows": [{"cells": [1, 2]}, {"cells": [2, 3]}, {}],
    }
    data = json.dumps(record).encode() + b"\n"
    for rows, rejects in (read(ALL, data), read_slowly(ALL, data)):
        assert rejects == []
        assert [plain(ALL, row) for row in rows] == [
            {
                "id": "ä",
                "name": "c1",
                "count": 7,
                "share": 0.5,
                "amount": "12.5",
                "paid": True,
                "at": "2026-01-02T02:04:05.123456Z",
                "local": "2026-07-01T10:00:00.000000Z",
                "seen": "2026-01-02T03:00:00.000000Z",
                "shipped": "2026-01-02T03:04:00.000000Z",
                "day": "2026-01-02",
                "tags": ["b", "a"],
                "prices": ["1.5", "2"],
                "ints": [3, 1],
                "floats": [0.0],
                "grid": [1, 2, 3],
                "_key": "o/x",
                "_at": [0, len(data) - 1],
            }
        ]


def test_the_quick_way_takes_ordinary_records():
    """Else the other tests would compare the deciding way with itself."""
    record = {
        "id": "a", "customer": {"id": "c"}, "count": 1, "share": 1, "amount": 1.5, "paid": False, "at": "2026-01-01T00:00:00Z",
        "local": "2026-01-01T00:00:00", "seen": 1, "shipped": "01/01/2026 00:00", "day": "2026-01-01", "tags": ["a", "a"],
        "items": [{"price": {"net": 100}}, {"price": {"net": 100}}], "deep": {"ints": [2, 2], "floats": [1.5, 1.5]}, "rows": [{"cells": [1]}], "more": {"x": []},
    }  # fmt: skip
    with patch.object(reading.Reading, "row", side_effect=AssertionError):
        rows, rejects = read(ALL, json.dumps(record).encode() + b"\n" + b"{}\n")
    assert (len(rows), rejects) == (2, [])
    assert [getattr(rows[0], f"f{i}") for i in range(11, 16)] == [["a"], ["100"], [2], [1.5], [1]]


def test_missing_members_are_null_and_many_values_empty():
    rows, rejects = read(ALL, b"{}\n")
    assert rejects == []
    got = plain(ALL, rows[0])
    assert {name for name, value in got.items() if value is None} == set(FIELDS) - {
        "tags",
        "prices",
        "ints",
        "floats",
        "grid",
    }
    assert (got["tags"], got["grid"]) == ([], [])


def test_ranges_and_lines_are_exact_with_blank_lines_and_returns():
    data = b'{"id":"a"}\n\n \t\n{"id":"b"}\r\n  {"id":"c"}\n{"id":1}\r\n{"id":"d"}'
    rows, rejects = read(table({"id": "string"}), data)
    assert [(row.f0, data[row.at[0] : sum(row.at)]) for row in rows] == [
        ("a", b'{"id":"a"}'),
        ("b", b'{"id":"b"}'),
        ("c", b'  {"id":"c"}'),
        ("d", b'{"id":"d"}'),
    ]
    (reject,) = rejects
    assert (reject.line, data[reject.at[0] : sum(reject.at)]) == (6, b'{"id":1}')
    assert (reject.key, reject.field, reject.value, reject.reason, reject.kind) == (
        "o/x",
        "id",
        "1",
        "not a string",
        "record",
    )


def test_good_records_among_bad_ones_keep_their_order():
    data = b"".join(b'{"id":%s}\n' % (b'"%d"' % i if i % 3 else b"%d" % i) for i in range(100))
    rows, rejects = read(table({"id": "string"}), data)
    assert [row.f0 for row in rows] == [str(i) for i in range(100) if i % 3]
    assert [reject.line for reject in rejects] == [i + 1 for i in range(100) if not i % 3]


def test_batches_are_bounded_and_lose_nothing():
    data = b"".join(b'{"id":"%d"}\n' % i if i % 5 else b"x\n" for i in range(1000))
    batches = list(read_records(table({"id": "string"}), ObjectInfo(key="o/x"), [data], batch_rows=64))
    assert max(len(batch.rows) for batch in batches) == 64
    assert [row.f0 for batch in batches for row in batch.rows] == [str(i) for i in range(1000) if i % 5]
    assert sum(len(batch.rejects) for batch in batches) == 200


def test_an_object_with_a_reject_has_no_rows_under_reject_object(monkeypatch):
    strict = table({"id": "string"}, on_error="reject_object")
    rows, rejects = read(strict, b'{"id":"a"}\n{"id":1}\n{"id":"b"}\n{"id":2}\n')
    assert (rows, [reject.line for reject in rejects]) == ([], [2, 4])
    assert len(read(strict, b'{"id":"a"}\n{"id":"b"}\n')[0]) == 2
    monkeypatch.setattr(lines, "BLOCK_BYTES", 11)
    data = b'{"id":"a"}\n' * 50 + b'{"id":1}\n' + b'{"id":"a"}\n' * 50
    assert [len(part) for part in read(strict, data, cuts=range(11, len(data), 11))] == [0, 1]


def test_paths_that_meet_are_decided_one_by_one():
    meeting = table(
        {
            "a": "string",
            "b": {"type": "string", "path": "a.b"},
            "n": {"type": "int", "path": "c"},
            "s": {"type": "string", "path": "c"},
        }
    )
    rows, rejects = read(meeting, b'{"a":"x"}\n{"a":{"b":"y"}}\n{"c":1}\n{"c":null}\n')
    assert [row.f0 for row in rows] == [None]
    assert [(reject.field, reject.reason) for reject in rejects] == [
        ("b", 'no object with a member "b"'),
        ("a", "not a string"),
        ("s", "not a string"),
    ]


def test_odd_member_names():
    odd = table({"a": {"type": "int", "path": ["x.y", 'q"', "ü\n"]}, "b": {"type": "int", "path": ["\\"]}})
    rows, rejects = read(odd, json.dumps({"x.y": {'q"': {"ü\n": 1}}, "\\": 2}).encode())
    assert (rejects, [(row.f0, row.f1) for row in rows]) == ([], [(1, 2)])


def test_a_line_beyond_the_bound_is_a_reject_and_the_rest_is_read(monkeypatch):
    for module in (lines, reading):
        monkeypatch.setattr(module, "RECORD_BYTES_MAX", 100)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 50)
    long, just = b'{"id":"%s"}' % (b"x" * 92), b'{"id":"%s"}' % (b"y" * 91)
    long = long + b" " * (101 - len(long))
    assert (len(long), len(just[:-1] + b" }")) == (101, 101)
    data = b'{"id":"a"}\n' + long + b"\n" + long * 30 + b'\r\n{"id":"b"}\n' + just[:100] + b"\r\n" + long
    expected = None
    for size in (1, 3, 64, 1000, 10_000):
        got = read(table({"id": "string"}), data, cuts=range(size, len(data), size))
        expected = expected or got
        assert got == expected
    monkeypatch.setattr(lines, "BLOCK_BYTES", 101)
    assert len(read(table({"id": "string"}), just[:100] + b"\r\n", cuts=[101])[0]) == 1
    rows, rejects = expected
    assert [row.f0 for row in rows] == ["a", "b", "y" * 91]
    assert [(reject.line, reject.at[1], reject.reason) for reject in rejects] == [
        (2, 101, lines.TOO_LONG),
        (3, 3030, lines.TOO_LONG),
        (6, 101, lines.TOO_LONG),
    ]


# What either way makes of a document must be the same, whatever the document.

NUMBER_TEXTS = [
    "0", "-0", "-0.0", "1", "-7", "3.0", "1e3", "1.50", "0.1", "1E-2", "100", "1e400", "-1e400", "1e-400", "5e-324",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9007199254740993",
    "9007199254740993.0", "0.1000000000000000055511151231257827", "1e999999999", "1e-999999999",
    "1e99999999999999999999", "0e99999999999999999999", "1767322800000", "1767322800.5",
    "12345678901234567890123456789012345678", "123456789012345678901234567890123456789", "1e38", "1e39",
    "99999999999999999999e20", "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "1_0", "0x1",
]  # fmt: skip
NUMBERS = (
    st.sampled_from(NUMBER_TEXTS)
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str)
)
STRINGS = st.sampled_from(
    ["", "1.5", "-1.50", "1e5", " 1", "1_0", "NaN", "２", "2026-01-02", "2026-02-30", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5Z",
     "2026-01-02 03:04:05.123456789+05:30", "2026-01-02T03:04:05", "2026-01-02T24:00:00Z", "2026-W01-1T00:00:00Z", "0000-01-01T00:00:00Z",
     "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:60Z", "2026-03-29T02:30:00", "02/01/2026 03:04", "\ud800", "a\x00b", "\U0001f600"]
) | st.text(max_size=5)  # fmt: skip
LITERALS = (
    NUMBERS
    | st.sampled_from(
        ["null", "true", "false", "{}", "[]", '"\\q"', '"\\u00e4"', "nul", '"a', "[1,]", "{,}", "", "1 2"]
    )
    | STRINGS.map(json.dumps)
    | STRINGS.map(lambda text: json.dumps(text, ensure_ascii=False))
)
NAMES = st.sampled_from(
    ["id", "customer", "count", "share", "amount", "paid", "at", "local", "seen", "shipped", "day", "tags", "items", "price", "net", "deep",
     "ints", "floats", "rows", "cells", "other"]
)  # fmt: skip


def objects(values):
    members = st.lists(st.tuples(NAMES.map(json.dumps) | st.just('"\\u0069d"'), values), max_size=6)
    return members.map(lambda pairs: "{" + ", ".join(f"{name}:{value}" for name, value in pairs) + "}")


def lists(values):
    return st.lists(values, max_size=3).map(lambda items: "[" + ",".join(items) + "]")


TYPICAL = {
    "id": STRINGS.map(json.dumps), "customer": objects(LITERALS), "count": NUMBERS, "share": NUMBERS, "amount": NUMBERS | STRINGS.map(json.dumps),
    "at": STRINGS.map(json.dumps), "local": STRINGS.map(json.dumps), "seen": NUMBERS, "shipped": STRINGS.map(json.dumps), "day": STRINGS.map(json.dumps),
    "tags": lists(STRINGS.map(json.dumps)), "ints": lists(NUMBERS), "floats": lists(NUMBERS),
}  # fmt: skip
SHAPED = st.one_of(
    *[value.map(lambda text, name=name: "{" + f'"{name}":{text}' + "}") for name, value in TYPICAL.items()],
    lists(objects(objects(LITERALS))).map(lambda text: '{"items":' + text + "}"),
    lists(objects(lists(LITERALS))).map(lambda text: '{"rows":' + text + "}"),
    objects(lists(NUMBERS)).map(lambda text: '{"deep":' + text + "}"),
)
RECORDS = SHAPED | objects(st.recursive(LITERALS, lambda inner: objects(inner) | lists(inner), max_leaves=6)) | LITERALS
ENCODED = RECORDS.map(lambda text: text.replace("\n", " ").encode("utf-8", "surrogatepass"))
DOCUMENTS = st.lists(ENCODED | st.binary(max_size=8), max_size=4).flatmap(
    lambda records: st.sampled_from([b"\n", b"\r\n", b"\n\n"]).map(lambda end: end.join(records))
)


@settings(max_examples=400, deadline=None)
@given(DOCUMENTS)
def test_the_quick_way_equals_the_deciding_one(document):
    quick, slow = read(ALL, document), read_slowly(ALL, document)
    assert quick == slow
    for row in quick[0]:
        assert row_codec(ALL).decode(row_codec(ALL).encode(row)) == row


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS, st.data())
def test_chunk_boundaries_change_nothing(document, data):
    cuts = data.draw(st.lists(st.integers(0, len(document)), max_size=8))
    block_bytes = data.draw(st.sampled_from([1, 7, 1 << 20]))
    whole = read(ALL, document)
    with patch.object(lines, "BLOCK_BYTES", block_bytes):
        assert read(ALL, document, cuts=cuts) == whole


def standard(data):
    def refuse(_):
        raise ValueError

    try:
        value = json.loads(data.decode(), parse_constant=refuse)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@settings(max_examples=200, deadline=None)
@given(st.lists(ENCODED, max_size=5))
def test_what_is_json_is_as_the_standard_library_has_it(records):
    """One member of any kind makes every well-formed record a row, unless it isn't a string."""
    rows, rejects = read(table({"id": "string"}), b"\n".join(records))
    expected, refused = [], 0
    for record in records:
        value = standard(record)
        if record.strip(b" \t\r\n") == b"":
            continue
        text = value.get("id") if value is not None else 1
        if text is None or (isinstance(text, str) and text.encode("utf-8", "replace").decode() == text):
            expected.append(text)
        else:
            refused += 1
    assert ([row.f0 for row in rows], len(rejects)) == (expected, refused)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_required_field_may_be_neither_missing_nor_null(name):
    entry = FIELDS[name] if isinstance(FIELDS[name], dict) else {"type": FIELDS[name]}
    definition = table({"other": "int", name: {**entry, "required": True}})
    step = entry.get("path", name).split(".")[0].removesuffix("[]")
    for rows, rejects in (read(definition, b'{}\n{"%s":null}\n' % step.encode()), read_slowly(definition, b"{}\n{}\n")):
        assert rows == []
        assert [(reject.field, reject.reason) for reject in rejects] == [(name, "required, but missing or null")] * 2
