"""Whole objects: packed ones, documents, blobs, extractors, values from around the content, and the way back to a record."""

import gzip
import io
import json
import sys
import tracemalloc
import types
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketdex.definition import TableDefinition
from bucketdex.errors import DefinitionError, StorageError
from bucketdex.source import ObjectInfo, check_file, lines, named_packed, original, read_records, reading, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ONE = {"id": "string"}
LINES = b"".join(b'{"id":"%d","pad":"%d"}\n' % (i, i * 7919) for i in range(3000))


def table(fields=ONE, *, name="t", **source):
    entry = {"format": "ndjson", **source}
    if "key" not in entry:
        entry["prefix"] = "o/"
    return TableDefinition.from_dict(name, {"source": entry, "fields": fields})


def read(definition, chunks, **info):
    rows, rejects = [], []
    chunks = [chunks] if isinstance(chunks, bytes) else chunks
    for batch in read_records(definition, ObjectInfo(**{"key": "o/x", **info}), chunks):
        rows += batch.rows
        rejects += batch.rejects
    return rows, rejects


def fetcher(data):
    return lambda start, length: data if start is None else data[start : start + length]


def pieces(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)]


def skippable(payload):
    return b"\x52\x2a\x4d\x18" + len(payload).to_bytes(4, "little") + payload


PACKED = {
    "gzip": gzip.compress(LINES, mtime=0),
    "gzip members": b"".join(gzip.compress(part, mtime=0) for part in (LINES[:50_000], b"", LINES[50_000:])),
    "gzip padded": gzip.compress(LINES, mtime=0) + b"\0" * 1000,
    "gzip stored": gzip.compress(LINES, 0, mtime=0),
    "zstd": zstd.compress(LINES),
    "zstd frames": zstd.compress(LINES[:50_000]) + skippable(b"x") + zstd.compress(b"") + zstd.compress(LINES[50_000:]),
    "zstd skippable first": skippable(b"note") + zstd.compress(LINES),
    "plain": LINES,
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_objects_read_like_plain_ones_wherever_they_are_cut(name, monkeypatch):
    expected = read(table(), LINES)
    assert (len(expected[0]), expected[1]) == (3000, [])
    for size in (1, 1000, 1 << 20):
        assert read(table(), pieces(PACKED[name], size)) == expected
    monkeypatch.setattr(unpack, "PIECE_BYTES", 100)
    assert read(table(), PACKED[name]) == expected


@pytest.mark.parametrize("name", PACKED)
def test_a_record_of_a_packed_object_is_found_again(name):
    rows, _ = read(table(), PACKED[name])
    data, row = PACKED[name], rows[1234]
    for packed in (True, False):
        assert original(table(), row.at, fetcher(data), packed=packed) == {"id": "1234", "pad": str(1234 * 7919)}


@pytest.mark.parametrize("packed", [PACKED["gzip"], PACKED["zstd frames"], PACKED["gzip stored"]])
@pytest.mark.parametrize("lost", [1, 4, 9, 3000])
def test_a_packed_object_cut_short_keeps_what_was_whole(packed, lost):
    rows, rejects = read(table(), packed[:-lost])
    (reject,) = rejects
    assert (reject.kind, reject.at, reject.reason.endswith("is cut short")) == ("object", None, True)
    assert [row.f0 for row in rows] == [str(i) for i in range(len(rows))]
    assert len(rows) >= (
        1500 if packed is PACKED["zstd frames"] else 2999 if lost < 10 else 500
    )  # zstd's blocks are 128 KiB
    assert all(read(table(), pieces(packed[:-lost], size)) == (rows, rejects) for size in (1, 999))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PACKED)), st.data())
def test_damage_is_a_reject_and_never_a_crash_wherever_it_is_cut(name, data):
    damaged = bytearray(PACKED[name])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    got = read(table(), bytes(damaged))
    assert read(table(), pieces(bytes(damaged), data.draw(st.sampled_from([7, 1000, 70_000])))) == got


def test_a_csv_cut_short_keeps_what_was_whole():
    data = b"id,pad\n" + b"".join(b'"%d","x\n%d"\r\n' % (i, i * 7919) for i in range(3000))
    rows, (reject,) = read(table(format="csv"), gzip.compress(data)[:-9])
    assert ([row.f0 for row in rows], reject.kind) == ([str(i) for i in range(len(rows))], "object")
    assert len(rows) >= 2998


def test_part_of_a_line_never_passes_for_a_record():
    """The damage ends where "12345" would read "123"."""
    for source_format, data in (("csv", b"id\n1\n12345"), ("ndjson", b'{"id":"1"}\n{"id":"1"}   ')):
        rows, (reject,) = read(table(format=source_format, max_unpacked_bytes=len(data) - 2), data)
        assert ([row.f0 for row in rows], reject.kind) == (["1"], "too_large")


@pytest.mark.parametrize("tail", [b"garbage", b"\x1f\x8b\x08garbage"])
def test_garbage_after_packed_data_keeps_the_rows(tail):
    for packed in (gzip.compress(LINES), zstd.compress(LINES)):
        rows, (reject,) = read(table(), packed + tail)
        assert (len(rows), reject.kind) == (3000, "object")


def test_a_bomb_is_stopped_at_its_bound_without_being_unpacked():
    bound = 1_000_000
    line = b'{"id":"a"}\n'
    definition = table(max_unpacked_bytes=bound)
    deflate = zlib.compressobj(wbits=31)
    bomb = (
        deflate.compress(line * 1000)
        + b"".join(deflate.compress(b" " * 10_000_000) for _ in range(5))
        + deflate.flush()
    )
    for packed in (bomb, zstd.compress(line * 1000 + b" " * 50_000_000)):
        seen = []
        spy = (seen.append(len(piece)) or piece for piece in unpack.unpack([packed], unpacked_bytes_max=bound))
        with pytest.raises(Exception, match="more than 1000000 bytes unpacked"):
            list(spy)
        assert sum(seen) == bound
        rows, (reject,) = read(definition, packed)
        assert (len(rows), reject.kind, reject.reason) == (1000, "too_large", "more than 1000000 bytes unpacked")
    exact = line * (bound // len(line)) + b" " * (bound % len(line))
    assert len(exact) == bound
    assert read(definition, gzip.compress(exact))[1] == []


def test_an_object_above_the_bound_is_not_read():
    rows, (reject,) = read(table(max_object_bytes=100), iter(lambda: pytest.fail("read"), None), size=101)
    assert (rows, reject.kind, reject.reason) == ([], "too_large", "101 bytes; max_object_bytes is 100")
    assert len(read(table(max_object_bytes=100), b'{"id":"a"}', size=100)[0]) == 1


def test_errors_of_the_store_are_passed_on():
    def chunks():
        yield LINES[:1000]
        raise ConnectionError("reset")

    with pytest.raises(ConnectionError):
        read(table(), chunks())


@pytest.mark.parametrize("data", [b"", b"\n \n", gzip.compress(b"", mtime=0), zstd.compress(b""), b"\xef\xbb\xbf"])
def test_empty_objects(data):
    assert read(table(), data) == ([], [])
    rows, (reject,) = read(table(format="json"), data)
    assert (rows, reject.kind, reject.reason) == ([], "object", "empty: no JSON document")


def test_the_mark_of_a_folder_is_nothing_but_an_object_named_like_one_is_read():
    assert read(table(format="json"), b"", key="o/x/") == ([], [])
    assert len(read(table(format="json"), b'{"id":"a"}', key="o/x/")[0]) == 1


@pytest.mark.parametrize("source_format", ["ndjson", "csv"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_memory_does_not_grow_with_the_object(monkeypatch, source_format, pack):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 8 * 1024)
    monkeypatch.setattr(unpack, "PIECE_BYTES", 8 * 1024)
    monkeypatch.setattr(unpack, "FEED_BYTES", 4 * 1024)
    line = b'{"id":"%07d","pad":"%07d"}\n' if source_format == "ndjson" else b'%07d,"%07d\n"\n'
    head = b"" if source_format == "ndjson" else b"id,pad\n"

    def peak(count):
        packed = pack(head + b"".join(line % (i, i * 7919 % 10**7) for i in range(count)))
        chunks = (packed[i : i + 4000] for i in range(0, len(packed), 4000))
        tracemalloc.start()
        rows = sum(
            len(batch.rows)
            for batch in read_records(table(format=source_format), ObjectInfo(key="o/x"), chunks, batch_rows=100)
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert rows == count
        return most

    peak(100)
    assert peak(12_000) < 1.3 * peak(3_000)


def test_names_say_nothing_but_hint():
    assert [named_packed(key) for key in ("a.gz", "a.zst", "a.gz.json")] == [True, True, False]
    assert len(read(table(), LINES, key="o/x.gz")[0]) == 3000


def test_one_document_is_one_record_without_a_range():
    definition = table({"id": "string", "n": "int"}, format="json")
    data = b'\xef\xbb\xbf{\n "id": "a",\n "n": 1, "more": [1.5]\n}\n'
    (row,), rejects = read(definition, data)
    assert (row.f0, row.f1, row.at, rejects) == ("a", 1, None, [])
    assert original(definition, None, fetcher(data), packed=False) == {"id": "a", "n": 1, "more": [1.5]}
    _, (reject,) = read(definition, b'{"id": "a", "n": "x"}')
    assert (reject.kind, reject.at, reject.line, reject.field, reject.value) == ("record", None, None, "n", "x")


@pytest.mark.parametrize(
    ("records", "wrap"),
    [
        ("[]", b"%s"),
        ("Records[]", b'{"a": [1, {"Records": []}], "Records": %s, "b": "]"}'),
        ("x.y.ü[]", b'{"x": {"y": {"z": {}, "\xc3\xbc": %s}}}'),
        ("x.y.ü[]", b'{"x": {"y": {"\\u00fc" : %s }}}'),
        ("Records[]", b'{"Records": [{"id": "first"}], "Records": %s}'),
    ],
)
def test_records_within_a_document(records, wrap):
    inner = b'[\n{"id": "a"} ,{"id": "b,]}\\"", "x": [[{}]]},\n{"id": 3}, 4,{"id": "\\ud800"},{"x": "\\ud800", "id": "\xc3\xa4"}\n]'
    data = b"\xef\xbb\xbf" + wrap % inner
    definition = table(format="json", records=records)
    rows, rejects = read(definition, data)
    assert [row.f0 for row in rows] == ["a", 'b,]}"', "ä"]
    assert [json.loads(data[row.at[0] : sum(row.at)])["id"] for row in rows] == ["a", 'b,]}"', "ä"]
    assert [(reject.line, reject.field, reject.reason) for reject in rejects] == [
        (3, "id", "not a string"),
        (3, None, "not an object"),
        (3, "id", "not valid Unicode (half a surrogate pair)"),
    ]
    for row in rows:
        assert original(definition, row.at, fetcher(data), packed=False)["id"] == row.f0
    assert read(definition, gzip.compress(data)) == (rows, rejects)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"Records": [{"id": "a"}, {]}', "malformed JSON: Expecting property name enclosed in double quotes (byte 28)"),
        (b'{"Records": [{"id": "a"}', "malformed JSON: Expecting ',' delimiter (byte 25)"),
        (b'{"Records": [{"id": "a"},]}', "malformed JSON: Expecting value (byte 26)"),
        (b'{"Records": []} x', "malformed JSON: Extra data (byte 17)"),
        (b'{"Records": [NaN]}', "malformed JSON: NaN is not JSON"),
        (b'{Records: []}', "malformed JSON: Expecting property name (byte 2)"),
        (b'{"Records" []}', "malformed JSON: Expecting ':' delimiter (byte 12)"),
        (b'{"records": []}', 'no member "Records" in the document'),
        (b"{}", 'no member "Records" in the document'),
        (b"[]", 'no object with a member "Records"'),
        (b'{"Records": {}}', "no list of records there"),
        (b'{"Records": null}', "no list of records there"),
        (b'{"Records": [' + b"[" * 100_000, "nested deeper than 500"),
        (b'{"Records": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "nested deeper than 500"),
        ('{"Records": []}'.encode("utf-16"), "starts with the byte order mark of UTF-16 or UTF-32, but is to be UTF-8"),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_document_that_is_not_as_its_table_says_is_one_reject(data, reason):
    rows, (reject,) = read(table(format="json", records="Records[]"), data)
    assert (rows, reject.kind, reject.reason) == ([], "object", reason)


def test_a_document_without_records_is_none():
    assert read(table(format="json", records="Records[]"), b'{"Records": [ ]}') == ([], [])


def test_documents_are_bounded(monkeypatch):
    monkeypatch.setattr(reading, "DOCUMENT_BYTES_MAX", 20)
    assert len(read(table(format="json"), b'{"id":"12345678901"}')[0]) == 1
    _, (reject,) = read(table(format="json"), b'{"id":"123456789012"}')
    assert reject.kind == "too_large"


def test_many_records_of_a_document_are_batched_and_lines_counted():
    data = b"[" + b",\n".join(b'{"id": %s}' % (b'"x"' if i % 1000 else b"0") for i in range(25_000)) + b"]"
    rows, rejects = read(table(format="json", records="[]"), data)
    assert len(rows) == 24_975
    assert [reject.line for reject in rejects] == [i + 1 for i in range(0, 25_000, 1000)]


def test_a_blob_is_one_row_and_its_body_is_never_touched():
    fields = {
        "size": {"type": "int", "from": "system"}, "owner": {"type": "string", "from": "metadata", "path": "Owner"},
        "class": {"type": "int", "from": "tag"}, "day": {"type": "date", "from": "key"}, "key": {"type": "string", "from": "system"},
        "when": {"type": "timestamp", "from": "system", "path": "last_modified"}, "kind": {"type": "string", "from": "system", "path": "content_type"},
        "etag": {"type": "string", "from": "system"}, "store": {"type": "string", "from": "system", "path": "storage_class"},
    }  # fmt: skip
    definition = table(fields, format="blob", key="o/{day}/{name}.bin")
    (row,), rejects = read(
        definition, iter(lambda: pytest.fail("read"), None), key="o/2026-01-02/a b+%.bin", size=2**40, last_modified=1767322800.25,
        metadata={"owner": "me"}, tags={"class": "7"}, content_type="x/y", etag="e", storage_class="STANDARD",
    )  # fmt: skip
    assert rejects == []
    assert [getattr(row, f"f{i}") for i in range(9)] == [
        2**40, "me", 7, "2026-01-02", "o/2026-01-02/a b+%.bin", "2026-01-02T03:00:00.250000Z", "x/y", "e", "STANDARD",
    ]  # fmt: skip
    assert (row.key, row.at) == ("o/2026-01-02/a b+%.bin", None)
    assert original(definition, None, lambda *_: pytest.fail("read"), packed=False) == {}


def test_values_around_the_content_are_in_every_row_in_declared_order():
    fields = {
        "region": {"type": "string", "from": "key"},
        "id": "string",
        "n": {"type": "int", "from": "tag"},
        "x": "int",
    }
    for source_format, data in (("ndjson", b'{"id":"a","x":1}\n{"x":2}'), ("csv", b"x,id\n1,a\n2,\n")):
        rows, rejects = read(
            table(fields, format=source_format, key="o/{region}/{name}"), data, key="o/eu/x", tags={"n": "5"}
        )
        assert ([(r.f0, r.f1, r.f2, r.f3) for r in rows], rejects) == ([("eu", "a", 5, 1), ("eu", None, 5, 2)], [])


@pytest.mark.parametrize("sensitive", [False, True])
@pytest.mark.parametrize(
    ("origin", "info", "reason"),
    [
        ("key", {"key": "o/secret/x"}, "not a date like 2026-01-31"),
        ("metadata", {"key": "o/a/x", "metadata": {"f": "secret"}}, "not a date like 2026-01-31"),
        ("tag", {"key": "o/a/x", "tags": {"f": "secret"}}, "not a date like 2026-01-31"),
        ("tag", {"key": "o/a/x"}, "required, but missing or null"),
    ],
)
def test_a_value_around_the_content_that_does_not_fit_rejects_the_object(origin, info, reason, sensitive):
    sensitive = sensitive and origin != "key"  # which is refused: a key is shown
    fields = {"f": {"type": "date", "from": origin, "sensitive": sensitive, "required": True}, "id": "string"}
    rows, (reject,) = read(table(fields, key="o/{f}/{name}"), LINES, **info)
    assert (rows, reject.kind, reject.field, reject.reason) == ([], "object", "f", reason)
    assert reject.value == ("secret" if "required" not in reason and not sensitive else None)


@pytest.fixture
def module(monkeypatch):
    module = types.ModuleType("own_format")
    monkeypatch.setitem(sys.modules, "own_format", module)
    reading_cache = sys.modules["bucketdex.source.extractor"].load_extractor
    reading_cache.cache_clear()
    yield module
    reading_cache.cache_clear()


def test_an_extractor_makes_records_of_unpacked_bytes(module):
    def parse(data):
        for part in io.BytesIO(data):
            name, _, count = part.strip().decode().partition("=")
            yield {"id": name, "n": int(count)} if name != "odd" else {"id": 1}
        yield "no record"

    module.parse = parse
    definition = table({"id": "string", "n": "int"}, format="ini", extractor="own_format:parse")
    data = gzip.compress(b"a=1\nodd=0\nb=2\n")
    rows, rejects = read(definition, data)
    assert [(row.f0, row.f1, row.at) for row in rows] == [("a", 1, (0, 0)), ("b", 2, (2, 0))]
    assert [(reject.at, reject.field, reject.reason) for reject in rejects] == [
        ((1, 0), "id", "not a string"),
        ((3, 0), None, "not an object"),
    ]
    assert original(definition, rows[1].at, fetcher(data), packed=True) == {"id": "b", "n": 2}


def test_an_extractor_that_fails_keeps_what_it_gave_and_tells_nothing(module):
    def parse(data):
        yield {"id": "a"}
        raise ValueError("secret")

    module.parse = parse
    rows, (reject,) = read(table(format="ini", extractor="own_format:parse"), b"x")
    assert ([row.f0 for row in rows], reject.kind, reject.reason) == (
        ["a"],
        "object",
        "the extractor failed with ValueError",
    )


@pytest.mark.parametrize("name", ["own_format:nothing", "no_such_module:parse", "own_format:text"])
def test_an_extractor_that_is_not_there_is_the_definitions_fault(module, name):
    module.text = "not a function"
    with pytest.raises(DefinitionError, match=name):
        read(table(format="ini", extractor=name), b"x")


def test_a_record_that_is_gone_is_a_clear_error():
    data = b'{"id":"a"}\n{"id":"b"}\n'
    for at, changed in (((11, 10), b'{"other":"longer"}\n'), ((11, 10), b""), (None, b"[]")):
        with pytest.raises(StorageError, match="no longer holds"):
            original(table(), at, fetcher(changed), packed=False)
    assert original(table(), (11, 10), fetcher(data), packed=False) == {"id": "b"}
    with pytest.raises(StorageError, match="no longer holds"):
        original(table(format="csv"), (3, 3), fetcher(b"id\n1,2"), packed=True)


def test_a_local_file_is_checked_as_if_uploaded(tmp_path):
    definition = table({"id": "string", "region": {"type": "string", "from": "key"}}, key="o/{region}/{name}.ndjson")
    path = tmp_path / "o" / "eu" / "a.ndjson"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"id":"a"}\n{"id":1}\n')
    count, rejects = check_file(definition, path)
    assert (count, [(reject.key, reject.line) for reject in rejects]) == (1, [("o/eu/a.ndjson", 2)])
    other = tmp_path / "b.ndjson"
    other.write_bytes(b'{"id":"a"}\n')
    with pytest.raises(DefinitionError, match="state its key"):
        check_file(definition, other)
    assert check_file(definition, str(other), key="o/us/b.ndjson") == (1, [])
    assert check_file(table(), other) == (1, [])
    other.write_bytes(b"x")
    assert [reject.key for reject in check_file(table(), other)[1]] == ["o/b.ndjson"]
