"""What the tests of sensitive fields share: values planted wherever a record, its metadata or its tags can hold them, and
a search of whatever was shown, decoded where it is encoded.
"""

from __future__ import annotations

import base64
import binascii
import csv
import gzip
import io
import json
import random
import re
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import IncompleteRead
from typing import Any

from obstore.store import MemoryStore

from bucketdex.client import Database
from bucketdex.definition import TableDefinition
from bucketdex.errors import AccessDeniedError, BucketdexError, StorageError
from bucketdex.runtime import Runtime
from bucketdex.source.unpack import zstd
from bucketdex.storage import GetRequest, Got, Listed, ObjectStore, OpenObject, manifest_path, table_prefix
from bucketdex.storage.stores import Names

MARK = "s3cr3t"  # every planted text has it
NUMBER = "8273645546"  # and every planted number, date and time its digits
WHEN = "2087-06-05"
NEEDLES = (MARK, NUMBER, WHEN, "87-06-05", "2087, 6, 5")

FIELDS: dict[str, Any] = {
    "id": {"type": "int", "required": True},
    "mail": {"type": "string", "sensitive": True},
    "mails": {"type": "string", "path": "contact.mails[]", "sensitive": True},
    "phone": {"type": "string", "path": "contact.phone"},
    "city": {"type": "string", "path": "home.city.name"},
    "street": {"type": "string", "path": "home.city.street", "sensitive": True},
    "pin": {"type": "int", "sensitive": True},
    "salary": {"type": "decimal", "sensitive": True},
    "score": {"type": "float", "sensitive": True},
    "born": {"type": "date", "sensitive": True},
    "seen": {"type": "timestamp", "sensitive": True},
    "well": {"type": "bool", "sensitive": True},
    "twin": {"type": "int", "path": "pin"},
    "owner": {"type": "string", "from": "metadata", "sensitive": True},
    "since": {"type": "date", "from": "metadata", "sensitive": True},
    "label": {"type": "int", "from": "tag", "sensitive": True},
}
INDEXES = {"by_mail": ["mail", "born"], "by_mails": ["mails"], "by_pin": ["pin"], "by_id": ["id"], "by_seen": ["seen"]}
SUMMARIES = {
    "mails": {"group_by": ["mail", "year(seen)"], "measures": {"n": "count()", "top": "max(salary)"}},
    "ids": {"group_by": ["id"], "measures": {"first": "min(mail)", "kinds": "count_distinct(mail)"}},
}
GOOD: dict[str, Any] = {
    "id": 1, "mail": f"good-{MARK}@x", "pin": int(NUMBER), "salary": f"{NUMBER}.25", "score": float(NUMBER),
    "born": WHEN, "seen": f"{WHEN}T01:02:03Z", "contact": {"mails": [f"a-{MARK}", f"b-{MARK}"]},
    "home": {"city": {"name": "Rome", "street": f"{MARK} street"}},
}  # fmt: skip


def definition(name: str, source: dict[str, Any], fields: dict[str, Any] | None = None) -> TableDefinition:
    made = {"source": {"prefix": f"{name}/", **source}, "fields": fields or FIELDS}
    if fields is None:
        made |= {"indexes": INDEXES, "summaries": SUMMARIES}
    return TableDefinition.from_dict(name, made)


def texts(*values: Any) -> dict[str, Any]:
    """Fields of a format without nesting."""
    return {name: entry for name, entry in FIELDS.items() if "." not in str(dict(entry).get("path", ""))}


TABLES = {
    "lines": definition("lines", {"format": "ndjson"}),
    "whole": definition("whole", {"format": "json"}),
    "listed": definition("listed", {"format": "json", "records": "Records[]"}),
    "strict": definition("strict", {"format": "ndjson", "on_error": "reject_object"}),
    "cells": definition("cells", {"format": "csv"}, texts()),
    "blobs": definition(
        "blobs",
        {"format": "blob"},
        {
            name: entry if entry.get("from") else {**entry, "from": "metadata"}
            for name, entry in texts().items()
            if name != "twin"
        },
    ),
}
TABLES["picked"] = definition("picked", {"format": "json", "extractor": "sensitivekit:extract"})
LONG = MARK * 300


def bad_records() -> list[bytes]:
    """Records that don't fit, one way or another, each with something sensitive in it."""
    wrong: dict[str, list[Any]] = {
        "mail": [int(NUMBER), {"x": MARK}, [MARK], True],
        "pin": [MARK, f"{NUMBER}x", float(NUMBER) + 0.5, f"{NUMBER}" * 9, {"x": MARK}, LONG],
        "salary": [MARK, f"{NUMBER}e999", f"{NUMBER}" * 9, [MARK], LONG],
        "score": [MARK, f"{NUMBER}e999", {MARK: 1}],
        "born": [MARK, f"{WHEN}T00:00:00", f"{WHEN[:-2]}99", 5, LONG],
        "seen": [MARK, f"{WHEN}T99:00:00Z", f"{WHEN}T01:02:03", f"{WHEN}T01:02:60Z", int(NUMBER)],
        "well": [MARK, int(NUMBER)],
        "contact": [MARK, [MARK], {"mails": MARK}, {"mails": [[MARK]]}, {"mails": [{"x": MARK}]}, {"phone": {"x": MARK}}],
        "home": [MARK, {"city": MARK}, {"city": [MARK]}, {"city": {"name": {"x": MARK}}}, {"city": {"street": [MARK]}}],
        "id": [None, {"x": MARK}, [MARK]],
    }  # fmt: skip
    made = [json.dumps({**GOOD, name: value}).encode() for name, values in wrong.items() for value in values]
    made.append(json.dumps({name: value for name, value in GOOD.items() if name != "id"}).encode())
    made.append(json.dumps({**GOOD, "pin": "\ud800" + MARK}).encode())
    good = json.dumps(GOOD).encode()
    made += [good[:-1], good[1:], good + b"}", good.replace(b":", b"=", 1), b'"%s' % MARK.encode(), MARK.encode()]
    made += [
        b'"%s"' % MARK.encode(),
        b'["%s"]' % MARK.encode(),
        b"%s" % NUMBER.encode(),
        good.replace(b"good", b"\xff"),
    ]
    made += [
        good.replace(b"good", b"\\x"),
        good.replace(b"good", b"\x01"),
        good[:-1] + b',"deep":' + b"[" * 80 + b"]" * 80 + b"}",
    ]
    return [*made, good[:-1] + b',"n":NaN}', good[:-1] + b',"mail":1}']


def bad_cells() -> bytes:
    columns = [name for name, entry in texts().items() if name != "twin" and "from" not in dict(entry)]
    good = ["1", MARK, NUMBER, NUMBER + ".5", NUMBER, WHEN, f"{WHEN}T01:02:03Z", "true"]
    assert len(good) == len(columns)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerow(good)
    for place in range(2, len(good)):
        writer.writerow([*good[:place], f"x{MARK}{NUMBER}", *good[place + 1 :]])
    writer.writerow(["", *good[1:]])
    writer.writerow(good[:-1])
    writer.writerow([*good, MARK])
    return out.getvalue().encode() + f'1,"{MARK}"{MARK},{NUMBER}\n1,"{MARK}\n{MARK},{MARK}'.encode()


class Torn(Mapping[str, Any]):
    """A record whose members are made when they are asked for, and fail to be."""

    def __getitem__(self, name: str) -> Any:
        raise LookupError(f"{name}: {MARK}")

    def __iter__(self) -> Iterator[str]:
        return iter(GOOD)

    def __len__(self) -> int:
        return len(GOOD)


class Unspeakable:
    """A value that raises when it is shown."""

    def __str__(self) -> str:
        raise RuntimeError(MARK)

    __repr__ = __str__


def quoting() -> Exception:
    """An error that quotes a value in its message, its note, its cause and its cause's context."""
    error = ValueError(f"cannot read {MARK}", {"pin": int(NUMBER)})
    error.add_note(f"the value was {MARK}")
    error.__cause__ = KeyError(MARK)
    error.__cause__.__context__ = UnicodeEncodeError("ascii", MARK, 0, 1, "odd")
    return error


def fail(error: BaseException) -> Any:
    raise error


EXTRACTED: dict[bytes, Callable[[], Any]] = {
    b"good": lambda: [GOOD],
    b"raises": lambda: fail(quoting()),
    b"raises later": lambda: (GOOD if number == 0 else fail(quoting()) for number in range(2)),
    b"raises a KeyError": lambda: {}[MARK],
    b"exits": lambda: fail(SystemExit(f"cannot read {MARK}")),
    b"nothing": lambda: None,
    b"texts": lambda: [MARK, [MARK], int(NUMBER), MARK.encode()],
    b"torn": lambda: [GOOD, Torn()],
    b"unspeakable": lambda: [{**GOOD, name: Unspeakable()} for name in ("id", "mail", "pin", "phone", "contact")],
    b"odd": lambda: [{**GOOD, "mail": MARK.encode()}, {**GOOD, "pin": {MARK}}, {**GOOD, "id": {1: quoting()}}],
}  # fmt: skip


def extract(data: bytes) -> Any:
    """The extractor of table `picked`: does what the object's content asks for."""
    return EXTRACTED[data]()


def packed_and_damaged() -> Iterator[tuple[str, bytes]]:
    """Packed lines and cells, cut short and damaged in the midst of many good records."""
    filler = random.Random(0)
    lines = b"".join(
        json.dumps({**GOOD, "id": number, "note": filler.randbytes(500).hex()}).encode() + b"\n"
        for number in range(600)
    )
    cells = b"id,mail,pin\n" + b"".join(
        b"%d,%s-%s,%s\n" % (number, MARK.encode(), filler.randbytes(500).hex().encode(), NUMBER.encode())
        for number in range(600)
    )
    for name, data in (("lines", lines), ("cells", cells), ("whole", lines)):
        for packing, packed in (("gz", gzip.compress(data, mtime=0)), ("zst", zstd.compress(data))):
            middle = len(packed) // 2
            yield f"{name}/cut.{packing}", packed[:middle]
            yield f"{name}/damaged.{packing}", packed[:middle] + MARK.encode() * 9 + packed[middle + 9 * len(MARK) :]


def objects() -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """(table, key, body, metadata): what gives rows and what gives rejects."""
    good = json.dumps(GOOD).encode()
    fine = {"owner": MARK, "since": WHEN}
    bad = bad_records()
    yield "lines", "lines/good", good + b"\n" + good, fine
    yield "lines", "lines/bad", b"\n".join([good, *bad]), fine
    yield "strict", "strict/bad", b"\n".join([good, *bad]), fine
    for i, record in enumerate(bad):
        yield "whole", f"whole/{i}", record, fine
    yield "listed", "listed/good", b'{"Records":[%s]}' % b",".join([good, *bad[:20]]), fine
    yield "listed", "listed/bad", b'{"Records":["%s",%s' % (MARK.encode(), good), fine
    yield "listed", "listed/none", b'{"Record":"%s"}' % MARK.encode(), fine
    yield "cells", "cells/bad", bad_cells(), fine
    yield "cells", "cells/headless", b"%s\n%s" % (MARK.encode(), NUMBER.encode()), fine
    for table in TABLES:
        for i, metadata in enumerate([{"since": MARK}, {"since": f"{WHEN}x", "owner": MARK}, {"since": LONG}]):
            yield table, f"{table}/metadata{i}", good, metadata
    yield "blobs", "blobs/good", b"", {"id": "1", "mail": MARK, "pin": NUMBER, **fine}
    for name in ("pin", "salary", "score", "born", "seen", "well"):
        yield "blobs", f"blobs/{name}", b"", {"id": "1", name: f"x{MARK}{NUMBER}", **fine}
    yield "blobs", "blobs/missing", b"", {"mail": MARK, **fine}
    for content in EXTRACTED:
        yield "picked", f"picked/{content.decode()}", content, fine
    for key, body in packed_and_damaged():
        yield key.partition("/")[0], key, body, fine


class Impatient(Runtime):
    """Never waits."""

    def sleep(self, seconds: float) -> None:
        pass


def filled() -> tuple[Database, MemoryStore]:
    """Tables of every format with all of it applied, and the data bucket."""
    index, data = MemoryStore(), MemoryStore()
    opened = Database(index, data=data, runtime=Impatient())
    for made in TABLES.values():
        opened.create_table(made)
    keys: dict[str, list[str]] = {}
    for table, key, body, metadata in objects():
        data.put(key, body, attributes=dict(metadata))
        keys.setdefault(table, []).append(key)
    for table, listed in keys.items():
        opened.table(table).reindex(listed)
    return opened, data


def damage(index: ObjectStore, table: str) -> Iterator[None]:
    """Damages what the index keeps of a table, one way after another; it is whole again after the last.

    The manifest names sort keys and holds small deltas; the files hold the rest.
    """
    path = manifest_path(table)
    kept = {listed.key: index.get(GetRequest(listed.key)).body for listed in index.list(table_prefix(table))}
    whole = kept[path]
    for body in (whole[: len(whole) // 2] + f'"{MARK}'.encode(), whole[:-1] + f',"updated_at":"{MARK}"}}'.encode()):
        index.put(path, body)
        yield
    inlined = any("inline" in delta for delta in json.loads(whole).get("deltas", ()))
    for inline in (
        () if not inlined else (f"{MARK} is no base64", base64.b64encode(f"no file but {MARK}".encode()).decode())
    ):
        manifest = json.loads(whole)
        for delta in manifest.get("deltas", ()):
            delta["inline"] = inline
            delta.pop("file", None)
        index.put(path, json.dumps(manifest).encode())
        yield
    index.put(path, whole)
    for spoil in (
        ()
        if len(kept) == 1
        else (lambda body: body[: len(body) // 2], lambda body: body + MARK.encode() * 50, lambda _: LONG.encode())
    ):
        for key, body in kept.items():
            if key != path:
                index.put(key, spoil(body))
        yield
    for key, body in kept.items():
        index.put(key, body)


class Breaking(ObjectStore):
    """A data bucket whose bodies end in the midst of it, with what came of them in the error; some are denied."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner, self.url = inner, inner.url
        self.breaks = True

    def get(self, request: GetRequest) -> Got:
        if self.breaks:
            raise StorageError(f"GET {request.key}: no answer") from IncompleteRead(self.inner.get(request).body, 9)
        return self.inner.get(request)

    def get_many(self, requests: Sequence[GetRequest]) -> list[Got | StorageError]:
        return self.inner.get_many(requests)

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        opened = self.inner.open(key, storage_class=storage_class)
        if self.breaks and key.endswith("good"):
            raise AccessDeniedError(f"GET {key}: 403")
        if not self.breaks:
            return opened
        return OpenObject(opened.info, self._part_of(b"".join(opened.chunks())), opened.close)

    def _part_of(self, body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise StorageError(f"the body breaks off at byte {len(body) // 2}") from IncompleteRead(body, 9)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        return self.inner.put(key, body, if_match=if_match, if_absent=if_absent)

    def delete_many(self, keys: Sequence[str]) -> None:
        self.inner.delete_many(keys)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        return self.inner.list(prefix, start_after=start_after)

    def folders(self, prefix: str) -> Names:
        return self.inner.folders(prefix)

    def tags(self, key: str) -> dict[str, str]:
        return {"label": f"{MARK}{NUMBER}"} if key.endswith("tagged") else {}

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self


class Shown:
    """Everything that somebody or something was shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, *values: object) -> None:
        for value in values:
            if isinstance(value, bytes):
                self.texts.append(value.decode("latin-1"))
            else:
                self.texts += [value if isinstance(value, str) else repr(value), str(value)]

    def error(self, error: BaseException) -> None:
        """An error as logs print it, with causes and notes; the repr of each, and all that one of ours holds."""
        self.texts.append("".join(traceback.format_exception(error)))
        each: BaseException | None = error
        seen: set[int] = set()
        while each is not None and id(each) not in seen:
            seen.add(id(each))
            self.texts.append(repr(each))
            if isinstance(each, BucketdexError):
                self.texts += [*map(repr, each.args), *map(repr, vars(each).values())]
            shown = None if each.__suppress_context__ else each.__context__
            each = shown if each.__cause__ is None else each.__cause__

    def leaks(self) -> list[str]:
        return [text for text in self.texts if any(map(has_needle, decoded(text)))]


def has_needle(text: str) -> bool:
    return any(needle in text for needle in NEEDLES)


ESCAPES = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})")
BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
HEX = re.compile(r"(?:[0-9a-fA-F]{2}){6,}")
BYTES = re.compile(r"\[(?:\d{1,3},\s*){5,}\d{1,3}\]")  # as JSON has bytes that nobody encoded
ZSTD, GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
DEPTH_MAX = 3


def decoded(text: str, depth: int = 0) -> Iterator[str]:
    """A text, and all that it may be an encoding of: escapes, base64, hexadecimal digits, packed bytes, one in another."""
    yield text
    if depth == DEPTH_MAX:
        return
    if (plain := ESCAPES.sub(lambda found: chr(int(found[1] or found[2], 16)), text)) != text:
        yield from decoded(plain, depth + 1)
    for found in BASE64.findall(text):
        bare = found.rstrip("=").translate(str.maketrans("-_", "+/"))
        for start in range(4):  # what stands before it may look like a part of it
            part = bare[start:]
            try:
                data = base64.b64decode(part[: len(part) - (len(part) % 4 == 1)] + "=" * (-len(part) % 4))
            except binascii.Error:
                continue
            yield from _unpacked(data, depth)
    for found in HEX.findall(text):
        yield from _unpacked(bytes.fromhex(found), depth)
    for found in BYTES.findall(text):
        if max(numbers := json.loads(found)) < 256:
            yield from _unpacked(bytes(numbers), depth)
    yield from _unpacked(text.encode("latin-1", "ignore"), depth, given=True)


def _unpacked(data: bytes, depth: int, *, given: bool = False) -> Iterator[str]:
    if not given:
        yield data.decode("latin-1")
    for magic, unpack in ((ZSTD, zstd.ZstdDecompressor), (GZIP, lambda: zlib.decompressobj(wbits=31))):
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            try:
                plain = unpack().decompress(data[at:])
            except (zstd.ZstdError, zlib.error):
                continue
            yield from decoded(plain.decode("latin-1"), depth + 1)
