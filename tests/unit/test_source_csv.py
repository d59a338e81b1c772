"""CSV to rows: the csv module's records with exact ranges, faults that cost no more than their record."""

import csv
import io
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.definition import TableDefinition
from bucketdex.source import ObjectInfo, converter, csv_, csvlines, csvrecords, lines, original, read_records

TEXTS = {"a": "string", "b": "string"}


def table(fields=TEXTS, options=None, **source):
    entry = {"prefix": "o/", "format": "csv", **source, **({"csv": options} if options else {})}
    return TableDefinition.from_dict("t", {"source": entry, "fields": fields})


def read(definition, data, cuts=()):
    places = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(places)]
    rows, rejects = [], []
    for batch in read_records(definition, ObjectInfo(key="o/x", size=len(data)), chunks):
        rows += batch.rows
        rejects += batch.rejects
    return rows, rejects


def pairs(rows):
    return [(row.f0, row.f1) for row in rows]


def ranges(data, rows):
    return [data[row.at[0] : sum(row.at)] for row in rows]


def reasons(rejects):
    return [(reject.line, reject.field, reject.reason) for reject in rejects]


def fetcher(data):
    return lambda start, length: data if start is None else data[start : start + length]


def test_quoted_delimiters_quotes_and_newlines():
    data = b'a,b\r\n"x,y","say ""hi"""\r\n\r\n"two\nlines\r\nand\rthree",z\r\nlast,"one\n"'
    rows, rejects = read(table(), data)
    assert rejects == []
    assert pairs(rows) == [("x,y", 'say "hi"'), ("two\nlines\r\nand\rthree", "z"), ("last", "one\n")]
    assert ranges(data, rows) == [b'"x,y","say ""hi"""', b'"two\nlines\r\nand\rthree",z', b'last,"one\n"']


def test_every_type_is_parsed_strictly():
    fields = {"i": "int", "f": "float", "d": "decimal", "b": "bool", "t": "timestamp", "y": "date", "s": "string"}
    head = b"i,f,d,b,t,y,s\n"
    rows, rejects = read(table(fields), head + b"7,1.5,1.50,true,2026-01-02T03:04:05Z,2026-01-02,x\n,,,,,,\n")
    assert rejects == []
    assert [getattr(rows[0], f"f{i}") for i in range(7)] == [
        7,
        1.5,
        "1.5",
        True,
        "2026-01-02T03:04:05.000000Z",
        "2026-01-02",
        "x",
    ]
    assert [getattr(rows[1], f"f{i}") for i in range(7)] == [None] * 7
    good = ["7", "1.5", "1.5", "true", "2026-01-02T03:04:05Z", "2026-01-02", "x"]
    bad = [("i", " 7"), ("i", "1_0"), ("i", "９"), ("i", "9223372036854775808"), ("f", "nan"), ("f", "1e999"), ("d", "1e999999999"),
           ("d", "NaN"), ("b", "yes"), ("t", "2026-01-02T03:04:05"), ("t", "2026-02-30T00:00:00Z"), ("y", "02.01.2026")]  # fmt: skip
    lines_ = []
    for name, text in bad:
        cells = [text if name == column else ok for column, ok in zip("ifdbtys", good, strict=True)]
        lines_.append(",".join(cells))
    rows, rejects = read(table(fields), head + "\n".join(lines_).encode())
    assert rows == []
    assert [(reject.line, reject.field, reject.value) for reject in rejects] == [
        (i + 2, n, t) for i, (n, t) in enumerate(bad)
    ]


def test_null_values_are_null_and_the_quick_way_agrees():
    fields = {"a": "string", "b": {"type": "int", "required": True}, "c": "string"}
    for nulls in ([], [""], ["", "NA"], ["NA"]):
        data = b'a,b,c\nNA,1,\n,2,NA\n"",3,x\nx,NA,y\n'
        definition = table(fields, {"null_values": nulls})
        rows, rejects = read(definition, data)
        as_null = set(nulls)
        expected = [("NA", 1, ""), ("", 2, "NA"), ("", 3, "x")]
        assert [(r.f0, r.f1, r.f2) for r in rows] == [
            tuple(None if v in as_null else v for v in row) for row in expected
        ]
        reason = "required, but missing or null" if "NA" in nulls else "not a number"
        assert reasons(rejects) == [(5, "b", reason)]


def test_ragged_records_are_rejects_and_the_others_are_kept():
    data = b"a,b\n1,2\n3\n4,5,6\n7,8,\n9,10\n"
    rows, rejects = read(table(), data)
    assert pairs(rows) == [("1", "2"), ("9", "10")]
    assert reasons(rejects) == [
        (3, None, "1 value where there are 2 columns"),
        (4, None, "3 values where there are 2 columns"),
        (5, None, "3 values where there are 2 columns"),
    ]
    assert [reject.value for reject in rejects] == ["3", "4,5,6", "7,8,"]
    assert [data[reject.at[0] : sum(reject.at)] for reject in rejects] == [b"3", b"4,5,6", b"7,8,"]


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (b'1,"open\n', [("2", "x"), ("3", "y")]),
        (b'1,"open\n2,"x"\n', [("2", "x"), ("2", "x"), ("3", "y")]),
        (b'1,"a"b\n', [("2", "x"), ("3", "y")]),
        (b'1,"a" \n', [("2", "x"), ("3", "y")]),
    ],
)
def test_a_broken_quote_costs_the_line_it_is_on(bad, good):
    rows, rejects = read(table(), b"a,b\n" + bad + b"2,x\n3,y\n")
    assert (pairs(rows), [reject.line for reject in rejects]) == (good, [2])


def test_quotes_that_never_close_are_bounded(monkeypatch):
    for module in (csvrecords, csvlines, lines):
        monkeypatch.setattr(module, "RECORD_BYTES_MAX", 100)
    monkeypatch.setattr(csvrecords, "REREAD_BYTES_MAX", 800)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 16)
    data = (
        b'a,b\n1,"open\n'
        + b"2,x\n" * 100
        + b'3,"'
        + b"y" * 97
        + b'"\n4,"'
        + b"z" * 98
        + b'"\n5,"'
        + b"z\n" * 48
        + b'"\n6,"open'
    )
    got = read(table(), data)
    rows, rejects = got
    assert pairs(rows) == [("2", "x")] * 100 + [("5", "z\n" * 48)]
    unclosed = f"{lines.TOO_LONG}; a quote may not close"
    assert reasons(rejects) == [
        (2, None, unclosed),
        (103, None, lines.TOO_LONG),
        (104, None, lines.TOO_LONG),
        (154, None, "a quote that never closes"),
    ]
    for size in (1, 5, 50, 500):
        assert read(table(), data, range(size, len(data), size)) == got
    broken = b"a,b\n" + b'1,"a"b\n' * 1000 + b"1,2\n"
    assert [len(part) for part in read(table(), broken)] == [1, 1000]
    hostile = b"a,b\n" + b'x","\n' * 1000
    rows, rejects = read(table(), hostile)
    assert rejects[-1].kind == "object"
    assert rejects[-1].reason == "too many quotes that never close"


def test_a_header_may_be_given_or_absent_and_columns_in_any_order():
    assert pairs(read(table(), b"b,c,a\n1,2,3\n")[0]) == [("3", "1")]
    assert pairs(read(table(options={"header": ["b", "x", "a"]}), b"1,2,3\n")[0]) == [("3", "1")]
    assert pairs(read(table(options={"header": False}), b"1,2\n")[0]) == [("1", "2")]
    assert pairs(read(table({"a": "string", "b": {"type": "int", "path": "The B"}}), b"The B,a\n1,x\n")[0]) == [
        ("x", 1)
    ]
    assert pairs(read(table(), b"a,z\n1,2\n")[0]) == [("1", None)]


@pytest.mark.parametrize(
    ("fields", "data", "field", "reason"),
    [
        (TEXTS, b"a,b,a\n1,2,3\n", "a", '2 columns are named "a"'),
        (TEXTS, b"c,d\n1,2\n", None, "the header names no column of the table"),
        ({"a": "string", "b": {"type": "string", "required": True}}, b"a\n1\n", "b", 'required, but missing or null: there is no column "b"'),
        (TEXTS, b'"a,b\n1,2\n', None, "the header is a quote that never closes"),
        (TEXTS, b"a\xff,b\n1,2\n", None, "the header is not valid utf-8 (byte 2 of line)"),
        (TEXTS, b"," * 10_000 + b"\n", None, "more than 10000 columns"),
        (TEXTS, "a,b\n1,2\n".encode("utf-16"), None, "starts with the byte order mark of utf-16, but the table's encoding is utf-8"),
        (TEXTS, "a,b\n1,2\n".encode("utf-32"), None, "starts with the byte order mark of utf-32, but the table's encoding is utf-8"),
    ],
)  # fmt: skip
def test_an_object_that_is_no_such_csv_is_one_reject(fields, data, field, reason):
    rows, rejects = read(table(fields), data)
    assert rows == []
    assert [(reject.kind, reject.field, reject.reason) for reject in rejects] == [("object", field, reason)]


def test_columns_of_one_name_that_no_field_reads_do_no_harm():
    data = b"a,x,b,x\n1,2,3,4\n"
    definition = table()
    rows, rejects = read(definition, data)
    assert (pairs(rows), rejects) == ([("1", "3")], [])
    assert original(definition, rows[0].at, fetcher(data), packed=False) == {"a": "1", "b": "3", "x": "4"}


@pytest.mark.parametrize("data", [b"", b"a,b\n", b"a,b", b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbfa,b\r\n"])
def test_no_records_are_no_rejects(data):
    assert read(table(), data) == ([], [])


def test_bytes_of_another_encoding_cost_their_record():
    data = b'a,b\n1,\xe4\n2,x\n"\xff\n",y\n3,\xc3\xa4\n'
    rows, rejects = read(table(), data)
    assert pairs(rows) == [("2", "x"), ("3", "ä")]
    assert reasons(rejects) == [
        (2, None, "not valid utf-8 (byte 3 of line)"),
        (4, None, "not valid utf-8 (byte 2 of line)"),
    ]


ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "latin-1",
    "cp1252",
    "shift_jis",
    "gb18030",
    "euc_kr",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-be",
]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_ranges_in_every_encoding(encoding):
    words = {"shift_jis": "表十ソ", "gb18030": "表ä€", "euc_kr": "가나", "latin-1": "äöü", "cp1252": "ä€ü"}.get(
        encoding, "ä表😀\u2028"
    )
    text = f'a,b\r\n{words},"x\n{words}"\r"{words}",2\n\n3,{words}'
    data = text.encode(encoding)
    definition = table(options={"encoding": encoding})
    rows, rejects = read(definition, data)
    assert rejects == []
    assert pairs(rows) == [(words, f"x\n{words}"), (words, "2"), ("3", words)]
    bare = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(encoding, encoding)
    assert [piece.decode(bare) for piece in ranges(data, rows)] == [
        f'{words},"x\n{words}"',
        f'"{words}",2',
        f"3,{words}",
    ]
    for row in rows:
        assert original(definition, row.at, fetcher(data), packed=False) == {"a": row.f0, "b": row.f1}
    with patch.object(lines, "BLOCK_BYTES", 3):
        assert read(definition, data, range(1, len(data))) == (rows, [])


def test_half_characters_of_wide_encodings():
    definition = table(options={"encoding": "utf-16-le"})
    data = "a,b\n1,x\n2,".encode("utf-16-le") + b"\x00\xd8" + "\n3,z\n4,y".encode("utf-16-le") + b"\x00"
    rows, rejects = read(definition, data)
    assert pairs(rows) == [("1", "x"), ("3", "z")]
    assert reasons(rejects) == [(3, None, "not valid utf-16-le"), (5, None, "not valid utf-16-le")]
    _, (reject,) = read(table(options={"encoding": "utf-32-le"}), b"a\0\0\0,\0\0\0b\0\0\0\n\0\0\0\xff\xff\xff\xff")
    assert (reject.kind, reject.reason) == ("object", "not valid utf-32-le")


@pytest.mark.parametrize("encoding", ["utf-7", "iso2022_jp", "cp037", "hz"])
def test_encodings_whose_line_ends_are_not_ascii_are_refused(encoding):
    rows, (reject,) = read(table(options={"encoding": encoding}), b"a,b\n1,2\n")
    assert (rows, reject.kind, "not supported" in reject.reason) == ([], "object", True)


def test_sensitive_values_stay_out_of_rejects():
    definition = table({"a": {"type": "int", "sensitive": True}, "b": "int"})
    _, rejects = read(definition, b'a,b\nsecret,1\nsecret\n1,oops\n"secret,1\n\xffsecret,1\n')
    assert len(rejects) == 5
    assert "secret" not in repr(rejects)
    assert rejects[2].value == "oops"


def test_wide_records_and_large_fields():
    data = b"a,b\n" + b"x" * 200_000 + b",y\n"
    assert len(read(table(), data)[0][0].f0) == 200_000


# Differential: against the csv module over the same text.

CELLS = st.text(alphabet=st.sampled_from('ab,";\n\r ä\u2028\x0b\x00'), max_size=5)


@st.composite
def written(draw):
    width = draw(st.integers(1, 3))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=6))
    end, quoting = draw(  # the csv module forgets to quote a \r or \n that isn't in its own line end
        st.sampled_from(
            [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]
        )
    )
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end, quoting=quoting).writerows(rows)
    return width, rows, out.getvalue()


def names(width):
    return [f"c{i}" for i in range(width)]


def given_names(width, **options):
    return table(dict.fromkeys(names(width), "string"), {"header": names(width), "null_values": [], **options})


@settings(max_examples=150, deadline=None)
@given(written(), st.data())
def test_what_the_csv_module_writes_is_read_back_wherever_it_is_cut(document, data):
    width, rows, text = document
    encoding = data.draw(st.sampled_from(["utf-8", "utf-16-be"]))
    body = text.encode(encoding)
    definition = given_names(width, encoding=encoding)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=6))
    with patch.object(lines, "BLOCK_BYTES", data.draw(st.sampled_from([1, 5, 1 << 20]))):
        got, rejects = read(definition, body, cuts)
    expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    assert expected == [row for row in rows if row]
    assert (rejects, [[getattr(row, f"f{i}") for i in range(width)] for row in got]) == ([], expected)
    for row in got:
        assert original(definition, row.at, fetcher(body), packed=False) == {
            n: getattr(row, f"f{i}") for i, n in enumerate(names(width))
        }


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"1", b"x", b",", b'"', b"\n", b"\r", b"\r\n", b"\xff", "ä".encode(), b"NA"]), max_size=25
    ),
    st.data(),
)
def test_any_bytes_are_read_without_loss_wherever_they_are_cut(parts, data):
    """Every physical line is in exactly one row or reject, or blank; and the quick conversion changes nothing."""
    body = b"".join(parts)
    definition = table({"a": "int", "b": "string"}, {"header": ["a", "b"], "null_values": ["", "NA"]})
    rows, rejects = read(definition, body)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=6))
    with patch.object(lines, "BLOCK_BYTES", data.draw(st.sampled_from([1, 4, 1 << 20]))):
        assert read(definition, body, cuts) == (rows, rejects)

    def one_by_one(definition, columns):
        return lambda records, ats, key, constants, decide: [
            r for i in range(len(records)) if (r := decide(i)) is not None
        ]

    with patch.object(csv_, "csv_converter", one_by_one):
        slow_rows, slow_rejects = read(definition, body)
    assert (slow_rows, slow_rejects) == (rows, rejects)
    covered = sorted(item.at for item in [*rows, *rejects])
    assert all(a + n <= b for (a, n), (b, _) in pairwise(covered))
    gaps = bytearray(body)
    for start, length in covered:
        gaps[start : start + length] = b"\n" * length
    assert gaps.strip(b"\r\n") == b""


def test_the_memo_is_bounded():
    memo = converter.Memo(int)
    for i in range(3 * converter.MEMO_SIZE_MAX):
        assert memo[str(i)] == i
    assert len(memo) <= converter.MEMO_SIZE_MAX
    assert memo["1".zfill(converter.MEMO_TEXT_MAX + 1)] == 1
    assert "1".zfill(converter.MEMO_TEXT_MAX + 1) not in memo
