"""Hostile and broken records: each is a reject that says why, or a clean row, and costs no other record."""

import json
from unittest.mock import patch

import pytest

from bucketdex.definition import TableDefinition
from bucketdex.source import ObjectInfo, read_records, reading

FIELDS = {
    "s": "string",
    "i": "int",
    "f": "float",
    "d": "decimal",
    "b": "bool",
    "t": "timestamp",
    "y": "date",
    "m": {"type": "int", "path": "m[]"},
}


def table(fields=FIELDS, **source):
    return TableDefinition.from_dict("t", {"source": {"prefix": "o/", "format": "ndjson", **source}, "fields": fields})


def read(definition, data, key="o/x"):
    rows, rejects = [], []
    for batch in read_records(definition, ObjectInfo(key=key), [data]):
        rows += batch.rows
        rejects += batch.rejects
    return rows, rejects


def both(record, definition=None):
    """The row and the reject of a record between two good ones, the same by either way."""
    definition = definition or table()
    data = b"{}\n" + record + b"\n{}\n"
    got = read(definition, data)
    with patch.object(reading, "json_converter", lambda _: None):
        assert read(definition, data) == got
    rows, rejects = got
    assert len(rows) + len(rejects) == 3
    assert len(rows) >= 2
    for reject in rejects:
        assert (reject.key, reject.line, reject.kind) == ("o/x", 2, "record")
        assert data[reject.at[0] : sum(reject.at)] == record
        json.dumps(reject.value).encode()
    return (rows[1], None) if len(rows) == 3 else (None, rejects[0])


GOOD = [
    (b'{"s":"a","s":"b"}', "f0", "b"),
    (b'{"i":"x","i":2}', "f1", 2),
    (b'{"\\u0073":"a"}', "f0", "a"),
    (b'{"s":"\\u0000"}', "f0", "\0"),
    (b'{"x":"\\ud800","s":"a"}', "f0", "a"),
    (b'{"i":-9223372036854775808}', "f1", -(2**63)),
    (b'{"i":9223372036854775807}', "f1", 2**63 - 1),
    (b'{"i":9007199254740993.0}', "f1", 9007199254740993),
    (b'{"i":3e2}', "f1", 300),
    (b'{"f":-0.0}', "f2", 0.0),
    (b'{"f":-0}', "f2", 0.0),
    (b'{"f":1e-400}', "f2", 0.0),
    (b'{"f":1%s}' % (b"0" * 300), "f2", 1e300),
    (b'{"d":-0.0}', "f3", "0"),
    (b'{"d":0e999999999}', "f3", "0"),
    (b'{"d":0e99999999999999999999}', "f3", "0"),
    (b'{"d":100}', "f3", "100"),
    (b'{"d":1.50}', "f3", "1.5"),
    (b'{"d":0.1000000000000000055511151231257827}', "f3", "0.1000000000000000055511151231257827"),
    (b'{"d":12345678901234567890123456789012345678}', "f3", "12345678901234567890123456789012345678"),
    (b'{"d":1e38}', "f3", "1" + "0" * 38),
    (b'{"d":"1.50"}', "f3", "1.5"),
    (b'{"t":"2026-01-02T03:04:05.123456789Z"}', "f5", "2026-01-02T03:04:05.123456Z"),
    (b'{"t":"2026-01-02T03:04:05+14:00"}', "f5", "2026-01-01T13:04:05.000000Z"),
    (b'{"m":[1,null,1,2]}', "f7", [1, 2]),
    (b'{"m":null}', "f7", []),
    (b'{"x":%s}' % (b"[" * 63 + b"]" * 63), "f0", None),
    (b'{"x":"%s"}' % (b"[{" * 1000), "f0", None),
]


@pytest.mark.parametrize(("record", "attribute", "value"), GOOD, ids=range(len(GOOD)))
def test_unusual_but_good(record, attribute, value):
    row, reject = both(record)
    assert reject is None
    assert repr(getattr(row, attribute)) == repr(value)


BAD = [
    (b'{"s":1}', "s", "not a string"),
    (b'{"s":"\\ud800"}', "s", "not valid Unicode (half a surrogate pair)"),
    (b'{"s":{"a":1}}', "s", "not a string"),
    (b'{"i":9223372036854775808}', "i", "beyond 64 bits"),
    (b'{"i":-9223372036854775809}', "i", "beyond 64 bits"),
    (b'{"i":1%s}' % (b"0" * 10_000), "i", "beyond 64 bits"),
    (b'{"i":1e999999999}', "i", "beyond 64 bits"),
    (b'{"i":1e99999999999999999999}', "i", "beyond 64 bits"),
    (b'{"i":1.5}', "i", "not a whole number"),
    (b'{"i":true}', "i", "not a number"),
    (b'{"i":"1"}', "i", "not a number"),
    (b'{"f":1e999}', "f", "beyond the range of a float"),
    (b'{"f":-1e999999999}', "f", "beyond the range of a float"),
    (b'{"f":1%s}' % (b"0" * 400), "f", "beyond the range of a float"),
    (b'{"f":"NaN"}', "f", "not a number"),
    (b'{"d":1e999999999}', "d", "beyond 38 digits or an exponent of 38"),
    (b'{"d":1e-999999999}', "d", "beyond 38 digits or an exponent of 38"),
    (b'{"d":1e99999999999999999999}', "d", "beyond 38 digits or an exponent of 38"),
    (b'{"d":123456789012345678901234567890123456789}', "d", "beyond 38 digits or an exponent of 38"),
    (b'{"d":"NaN"}', "d", "not a number"),
    (b'{"d":"1_0"}', "d", "not a number"),
    (b'{"d":" 1"}', "d", "not a number"),
    (b'{"b":1}', "b", "not true or false"),
    (b'{"t":"2026-01-02T03:04:05"}', "t", "no time zone"),
    (b'{"t":"2026-02-30T03:04:05Z"}', "t", "no such day in the calendar"),
    (b'{"t":"0001-01-01T00:00:00+01:00"}', "t", "outside the calendar (years 0001 to 9999)"),
    (b'{"t":"10000-01-01T00:00:00Z"}', "t", "not a timestamp like 2026-01-31T23:59:59Z"),
    (b'{"t":"2026-01-02T24:00:00Z"}', "t", "no such time of day"),
    (b'{"t":1767322800}', "t", "not a string"),
    (b'{"y":"2026-13-01"}', "y", "no such day in the calendar"),
    (b'{"m":1}', "m", '"m" is not a list'),
    (b'{"m":[1,"x"]}', "m", "not a number"),
    (b'{"m":[[1]]}', "m", "not a number"),
    (b"[]", None, "not an object"),
    (b"1", None, "not an object"),
    (b"null", None, "not an object"),
    (b'{"f":NaN}', None, "malformed JSON: NaN is not JSON"),
    (b'{"x":-Infinity}', None, "malformed JSON: -Infinity is not JSON"),
    (b'{"s":"a"', None, "malformed JSON: Expecting ',' delimiter (character 9)"),
    (b'{"s":"a"}{"s":"b"}', None, "malformed JSON: Extra data (character 10)"),
    (b'{"s":"a\tb"}', None, "malformed JSON: Invalid control character at (character 8)"),
    (b"{'s':1}", None, "malformed JSON: Expecting property name enclosed in double quotes (character 2)"),
    (b'\xef\xbb\xbf{"s":"a"}', None, "malformed JSON: Expecting value (character 1)"),
    (b'{"s":"\xff"}', None, "not valid UTF-8 (byte 7)"),
    (b'{"x":"\xe4"}', None, "not valid UTF-8 (byte 7)"),
    (b'{"x":"\xed\xa0\x80"}', None, "not valid UTF-8 (byte 7)"),
    (b'{"x":%s}' % (b"[" * 64 + b"]" * 64), None, "nested deeper than 64"),
    (b'{"x":%s}' % (b"[" * 200_000 + b"]" * 200_000), None, "nested deeper than 64"),
    (b"[" * 200_000, None, "nested deeper than 64"),
    (b'{"a":' * 200_000, None, "nested deeper than 64"),
]


@pytest.mark.parametrize(("record", "field", "reason"), BAD, ids=range(len(BAD)))
def test_bad(record, field, reason):
    row, reject = both(record)
    assert row is None
    assert reject.field == field
    assert reject.reason.startswith(reason)
    assert reject.value is not None
    assert len(reject.value) <= 200


@pytest.mark.parametrize("depth", [1, 64, 512])
def test_the_bound_of_depth_is_exact_and_no_recursion_is_met(depth):
    definition = table(max_depth=depth)
    fits, exceeds = (b'{"x":' + b"[" * n + b"]" * n + b"}" for n in (depth - 1, depth))
    fits = b"{}" if depth == 1 else fits
    assert both(fits, definition)[1] is None
    assert both(exceeds, definition)[1].reason == f"nested deeper than {depth}"


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff"])
def test_other_byte_order_marks_reject_the_object(mark):
    rows, (reject,) = read(table(), mark + '{"s":"a"}\n'.encode("utf-16-le"))
    assert (rows, reject.kind, reject.line) == ([], "object", None)


def test_a_byte_order_mark_is_passed_over_and_ranges_count_it():
    data = b'\xef\xbb\xbf{"s":"a"}\n{"s":"b"}'
    rows, rejects = read(table(), data)
    assert ([(row.f0, row.at) for row in rows], rejects) == ([("a", (3, 9)), ("b", (13, 9))], [])


@pytest.mark.parametrize(
    "key", ["o/a b+c%2Fd.json", "o/ü/表😀", "o/" + "x" * 1022, "o/a//b", "o/../x", "o/\x01", "o/tr/d/"]
)
def test_any_key_is_kept_as_it_is(key):
    rows, (reject,) = read(table(), b"{}\nx\n", key)
    assert [row.key for row in rows] == [key]
    assert reject.key == key


SECRETS = {
    "ssn": {"type": "int", "sensitive": True},
    "twin": {"type": "date", "path": "ssn"},
    "name": "string",
    "inner": {"type": "string", "path": "person.secret[].x", "sensitive": True},
    "city": {"type": "string", "path": "person.city.name"},
}


@pytest.mark.parametrize(
    "record",
    [
        b'{"ssn":"SECRET"}',
        b'{"ssn":["SECRET"]}',
        b'{"ssn":SECRET}',
        b'{"ssn":1,"name":{"SECRET":1}}',
        b'{"person":["SECRET"]}',
        b'{"person":{"secret":"SECRET"}}',
        b'{"person":{"secret":[{"x":{"SECRET":2}}]}}',
        b'{"person":{"city":["SECRET"]}}',
        b'["SECRET"]',
        b'"SECRET',
        b'{"name":"SECRET\xff"}',
        b'{"name":"SECRET","x":%s}' % (b"[" * 65),
        b"SECRET",
    ],
)
def test_sensitive_values_are_in_no_reject(record):
    for fields in (SECRETS, {name: entry for name, entry in SECRETS.items() if name != "twin"}):
        _, reject = both(record, table(fields))
        assert reject is not None
        assert "SECRET" not in repr(reject)


def test_values_that_are_not_sensitive_are_shown_cut():
    _, reject = both(b'{"ssn":null,"name":%d}' % 7, table(SECRETS))
    assert (reject.field, reject.value) == ("name", "7")
    _, reject = both(b'{"i":"%s"}' % ("ä" * 500).encode())
    assert reject.value == "ä" * 200
    _, reject = both(b'{"i":{"a":[1.50,"\\ud800"]}}')
    assert reject.value == '{"a": ["1.50", "\\ud800"]}'
