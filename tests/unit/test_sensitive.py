"""Values of sensitive fields are nowhere but in the index's own files and in the rows of a query.

They are planted where records, metadata and tags can hold them, as good values and as rejects of every kind. Then all
that people and machines are shown is searched: rejects, logs, metrics, traces, errors with their causes, explanations,
command lines, reprs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sensitivekit import (
    EXTRACTED,
    GOOD,
    MARK,
    NUMBER,
    TABLES,
    WHEN,
    Shown,
    definition,
    filled,
    objects,
    quoting,
)

from bucketdex.client import Database
from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event
from bucketdex.errors import BucketdexError, DefinitionError, StorageError
from bucketdex.query.expression import Expression, col
from bucketdex.source import ObjectInfo, check_file, original, read_records
from bucketdex.source.unpack import zstd
from bucketdex.storage import open_data_store, open_index_store
from functions.indexer.events import Message


@pytest.fixture(scope="module")
def database() -> Database:
    """Tables of every format with all of it applied."""
    return filled()[0]


def test_the_search_would_find_them(database: Database) -> None:
    shown = Shown()
    shown.add(database.table("lines").where(id=1).rows())
    assert shown.leaks()
    assert all(any(needle in text for text in shown.texts) for needle in (MARK, NUMBER))
    shown = Shown()
    try:
        raise ValueError("outer") from ValueError(MARK)
    except ValueError as error:
        shown.error(error)
    assert shown.leaks()
    noted = ValueError("outer")
    noted.add_note(MARK)
    attributed = StorageError("outer")
    attributed.body = MARK  # type: ignore[attr-defined]
    for told in (noted, attributed, UnicodeDecodeError("utf-8", MARK.encode(), 0, 1, "odd"), quoting()):
        shown = Shown()
        shown.error(told)
        assert shown.leaks(), told


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64encode(b"before it " + MARK.encode() + b" after it"),
        b"path/in/base64/" + base64.urlsafe_b64encode(b"\xff\xfe\xfd" + MARK.encode()).rstrip(b"="),
        base64.b64encode(b"file" + zstd.compress(MARK.encode() * 9)),
        b"file" + zstd.compress(MARK.encode() * 9),
        json.dumps({"bytes": list(zstd.compress(MARK.encode() * 9))}).encode(),
        b"0x" + MARK.encode().hex().encode(),
        b"".join(b"\\u%04x" % byte for byte in MARK.encode()),
        b"".join(b"\\x%02x" % byte for byte in MARK.encode()),
    ],
)
def test_the_search_would_find_them_encoded(encoded: bytes) -> None:
    shown = Shown()
    shown.add(encoded)
    assert shown.leaks()


def test_rejects_show_none(database: Database) -> None:
    shown = Shown()
    count, fields = 0, set()
    for name in TABLES:
        rejects = database.table(name).rejects()
        count += len(rejects)
        fields |= {reject["field"] for reject in rejects}
        shown.add(rejects)
    assert shown.leaks() == []
    assert count > 150
    assert {"mail", "mails", "pin", "salary", "score", "born", "seen", "well", "since", "id", None} <= fields


def test_a_check_before_the_upload_shows_none(tmp_path: Path) -> None:
    shown = Shown()
    for table, key, body, _ in objects():
        path = tmp_path / "file"
        path.write_bytes(body)
        shown.add(check_file(TABLES[table], path, key=key)[1])
    for tags in ({"label": MARK}, {"label": f"{NUMBER}x"}):
        info = ObjectInfo(key="lines/tagged", tags=tags)
        batches = list(read_records(TABLES["lines"], info, [json.dumps(GOOD).encode()]))
        assert batches[0].rejects
        shown.add(batches[0].rejects)
    assert shown.leaks() == []


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ({"home": "int", "street": {"type": "string", "path": "home.street", "sensitive": True}}, {"home": MARK}),
        (
            {"inner": {"type": "int", "path": "home.x"}, "home": {"type": "string", "sensitive": True}},
            {"home": {"x": MARK}},
        ),
        ({"city": {"type": "int", "path": "home.city"}, "home": {"type": "string", "sensitive": True}}, {"home": MARK}),
    ],
)
def test_what_stands_where_a_sensitive_value_might_is_not_shown(fields: dict[str, Any], record: dict[str, Any]) -> None:
    made = definition("meeting", {"format": "ndjson"}, fields)
    (batch,) = read_records(made, ObjectInfo(key="meeting/a"), [json.dumps(record).encode()])
    shown = Shown()
    shown.add(batch.rejects)
    assert len(batch.rejects) == 1 and shown.leaks() == []


def test_an_extractor_that_fails_is_told_of_without_what_it_says() -> None:
    """In the rejects, and when a record is asked for again: the extractor's own errors quote what they like."""
    shown = Shown()
    reasons, refused = set(), 0
    for content in EXTRACTED:
        batches = list(read_records(TABLES["picked"], ObjectInfo(key="picked/a"), [content]))
        shown.add([batch.rejects for batch in batches])
        reasons |= {reject.reason for batch in batches for reject in batch.rejects}
        for number in range(5):
            try:
                assert original(TABLES["picked"], (number, 0), lambda *_, body=content: body, packed=False)  # type: ignore[misc]
            except StorageError as error:
                refused += 1
                shown.error(error)
    assert shown.leaks() == []
    assert {f"the extractor failed with {name}" for name in ("ValueError", "KeyError", "SystemExit")} <= reasons
    assert "its members can't be read (LookupError)" in reasons and refused > 30


def test_records_that_are_gone_show_none() -> None:
    database, data = filled()
    shown = Shown()
    refused = 0
    for name in TABLES:
        for row in database.table(name).where(col.id.is_not_null()).allow_scan().rows()[::50]:
            key = row["_key"]
            for body in (MARK.encode(), b"", f'"{MARK}'.encode(), b"\xff" + MARK.encode(), b"raises", b"torn"):
                at = row.get("_at")
                try:
                    original(TABLES[name], at, lambda *_, body=body: body, packed=False)  # type: ignore[misc]
                except StorageError as error:
                    refused += 1
                    shown.error(error)
            data.put(key, f"replaced by {MARK}".encode())
            try:
                assert database.table(name).where(_key=key).allow_scan().records() == [{}], "a blob's is empty"
            except BucketdexError as error:
                refused += 1
                shown.error(error)
    assert shown.leaks() == []
    assert refused > 100


CONDITIONS: list[Callable[[], Expression]] = [
    lambda: col.mail == f"{MARK}",
    lambda: col.mail != f"{MARK}",
    lambda: col.mail.in_([MARK, f"{MARK}2"]),
    lambda: col.mail.not_in([f"{MARK}{n}" for n in range(9)]),
    lambda: col.mail.between(MARK, f"{MARK}z"),
    lambda: col.mail.like(f"{MARK}%"),
    lambda: col.mail.startswith(MARK),
    lambda: col.mail.contains(MARK),
    lambda: col.mail.regexp_match(f"{MARK}[0-9]"),
    lambda: ~(col.mail == MARK) & (col.pin >= int(NUMBER)) | (col.born < WHEN),
    lambda: col.mails == MARK,
    lambda: col.salary > f"{NUMBER}.5",
    lambda: col.seen == f"{WHEN}T00:00:00Z",
    lambda: col.owner == MARK,
    lambda: (col.mail == MARK) & (col.id == 1) | (col.pin == int(NUMBER)) & (col.score < float(NUMBER)),
]
WRONG: list[Callable[[], Expression]] = [
    lambda: col.mail == MARK.encode(),
    lambda: col.mail == int(NUMBER),
    lambda: col.mail.in_([MARK, [MARK]]),
    lambda: col.pin == MARK,
    lambda: col.pin == f"{NUMBER}{NUMBER}{NUMBER}",
    lambda: col.pin == int(NUMBER) ** 9,
    lambda: col.salary == MARK,
    lambda: col.salary == f"{NUMBER}e999",
    lambda: col.score == MARK,
    lambda: col.born == MARK,
    lambda: col.born == f"{WHEN[:-2]}99",
    lambda: col.seen == MARK,
    lambda: col.seen == f"{WHEN}T99:00:00Z",
    lambda: col.seen == f"{WHEN}T01:02:03+99:99",
    lambda: col.well == MARK,
    lambda: col.pin.like(MARK),
    lambda: col.mail.like(f"{MARK}\\", escape="\\"),
    lambda: col.mail.regexp_match(f"(?P<{MARK}>x)(?P<{MARK}>y)"),
    lambda: col.mail.regexp_match(f"(?P={MARK})"),
    lambda: col.mail.regexp_match(f"[{MARK}"),
    lambda: col.mail.startswith(MARK.encode()),  # type: ignore[arg-type]
    lambda: col.mial == MARK,
]


def test_explanations_and_reprs_show_none(database: Database) -> None:
    shown = Shown()
    lines = database.table("lines")
    for make in CONDITIONS:
        condition = make()
        query = lines.where(condition).allow_scan()
        shown.add(condition, [condition], query, query.order_by("mail"), query.explain(), query.explain().text)
        shown.add(query.group_by("mail"), vars(query.explain()))
        query.count()
    shown.add(lines, lines.where(mail=MARK, pin=[int(NUMBER)]).explain(), lines.summary("mails"))
    shown.add(lines.summary("mails").where(mail=MARK), lines.status(), database, lines.definition)
    shown.add(lines.backfill_job(), lines.where(mail=MARK).cost, lines.verify(deep=True), lines.reindex(["lines/good"]))
    assert shown.leaks() == []


def test_errors_of_queries_show_none_in_any_cause(database: Database) -> None:
    shown = Shown()
    lines = database.table("lines")
    for make in WRONG:
        with pytest.raises(BucketdexError) as caught:
            lines.where(make()).allow_scan().rows()
        shown.error(caught.value)
    for make in CONDITIONS:
        try:
            lines.where(make()).order_by("city").rows()
        except BucketdexError as error:  # ScanRequiredError
            shown.error(error)
    summary = lines.summary("mails")
    token = lines.where(col.mail.startswith("good")).page(1).next_token
    assert token is not None
    held = Shown()
    held.add(token)
    assert held.leaks(), "a token holds a sort key: its own errors mustn't show it"
    calls: list[Callable[[], object]] = [
        lambda: summary.get(mail=MARK),
        lambda: summary.get(mail=MARK.encode(), seen_year="2087"),
        lambda: summary.where(mail=int(NUMBER)).rows(),
        lambda: summary.where(col.salary == MARK).rows(),
        lambda: lines.where(mail=MARK).group_by("mail").aggregate(x=f"sum(mail, {1})"),
        lambda: lines.where(mail=MARK).page(token="x"),
        lambda: lines.where(mail=MARK).page(token=base64.b64encode(MARK.encode()).decode()),
        lambda: lines.where(mail=MARK).page(token=base64.b64encode(f'[1,["{MARK}"]]'.encode()).decode()),
        lambda: lines.where(mail=MARK).page(token=token),
        lambda: lines.where(mail=MARK).order_by("mails").rows(),
        lambda: lines.where(mail=MARK).limit(-1),
        lambda: lines.put({"mail": MARK, "pin": {1j}}),
        lambda: lines.put({"mail": MARK, "score": float("nan")}),
        lambda: lines.put([MARK]),
    ]
    for call in calls:
        with pytest.raises(BucketdexError) as caught:
            call()
        shown.error(caught.value)
    assert shown.leaks() == []
    assert len(shown.texts) > 100


@pytest.mark.parametrize("origin", ["key", "system"])
def test_a_sensitive_field_from_what_is_shown_is_refused(origin: str) -> None:
    with pytest.raises(DefinitionError, match="wherever its object is named"):
        TableDefinition.from_dict(
            "t",
            {
                "source": {"key": "t/{mail}/{name}", "format": "ndjson"},
                "fields": {
                    "id": "string",
                    "mail": {"type": "string", "from": origin, "path": "key" if origin == "system" else "mail",
                             "sensitive": True},
                },
            },
        )  # fmt: skip


def test_what_the_engine_passes_around_shows_none() -> None:
    """Structs that an error message or a log could show whole."""
    index, data = open_index_store("memory://"), open_data_store("memory://")
    engine = Engine(index, data)
    made = TABLES["lines"]
    engine.define(made)
    data.put("lines/good", json.dumps(GOOD).encode())
    event = Event("lines/good", "created", "1", 5)
    result = engine.apply("lines", [event])
    message = Message("m", "r", 1, 0, events=(("lines", event),))
    shown = Shown()
    shown.add(event, result, made, message, engine.collect("lines"), engine.verify("lines", deep=True))
    assert shown.leaks() == []
