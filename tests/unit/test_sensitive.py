"""Values of sensitive fields are nowhere but in the index's own files and in the rows of a query.

They are planted where records, metadata and tags can hold them, as good values and as rejects of every kind. Then all
that people and machines are shown is searched: rejects, logs, metrics, traces, errors with their causes, explanations,
command lines, reprs.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from bucketdex.cli.main import main
from bucketdex.cli.session import Session
from bucketdex.client import Database
from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event
from bucketdex.errors import BucketdexError, DefinitionError
from bucketdex.query.expression import Expression, col
from bucketdex.source import ObjectInfo, check_file, read_records
from bucketdex.storage import open_data_store, open_index_store
from functions.indexer.events import Message
from tests.unit.test_functions_handlers import SCHEDULED, created, deploy, environment  # noqa: F401 (a fixture)

MARK = "s3cr3t"  # every planted text has it
NUMBER = "8273645546"  # and every planted number, date and time its digits
WHEN = "2087-06-05"
NEEDLES = (MARK, NUMBER, WHEN, "87-06-05")

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


class Shown:
    """Everything that somebody or something was shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, *values: object) -> None:
        for value in values:
            self.texts += [value if isinstance(value, str) else repr(value), str(value)]

    def error(self, error: BaseException) -> None:
        """An error as logs print it: with its causes, and whatever repr tells."""
        self.texts += ["".join(traceback.format_exception(error)), repr(error), *map(str, error.args)]

    def leaks(self) -> list[str]:
        return [text for text in self.texts if any(needle in text for needle in NEEDLES)]


@pytest.fixture(scope="module")
def database() -> Database:
    """Tables of every format with all of it applied."""
    index, data = MemoryStore(), MemoryStore()
    opened = Database(index, data=data)
    for made in TABLES.values():
        opened.create_table(made)
    keys: dict[str, list[str]] = {}
    for table, key, body, metadata in objects():
        data.put(key, body, attributes=dict(metadata))
        keys.setdefault(table, []).append(key)
    for table, listed in keys.items():
        opened.table(table).reindex(listed)
    return opened


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
    shown.add(lines.summary("mails").where(mail=MARK), lines.status(), database)
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
    calls: list[Callable[[], object]] = [
        lambda: summary.get(mail=MARK),
        lambda: summary.get(mail=MARK.encode(), seen_year="2087"),
        lambda: summary.where(mail=int(NUMBER)).rows(),
        lambda: summary.where(col.salary == MARK).rows(),
        lambda: lines.where(mail=MARK).group_by("mail").aggregate(x=f"sum(mail, {1})"),
        lambda: lines.where(mail=MARK).page(token="x"),
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


WHERES = [
    f"mail = {MARK}", f"mail in ({MARK}, {MARK})", f"mail between {MARK} and {MARK}", f"mail like '{MARK}%'",
    f"mail contains {MARK}", f"pin >= {NUMBER}", f"born < {WHEN}", f"seen = {WHEN}T00:00:00Z", f"salary = {NUMBER}.5",
]  # fmt: skip
WRONG_WHERES = [
    f"mail ~ {MARK}", f"mail in ({MARK}", f"mail = '{MARK}", f"mail between {MARK}", f"pin = {MARK}", f"pin = {NUMBER}x",
    f"salary = {MARK}", f"born = {WHEN}x", f"seen = {MARK}", f"well = {MARK}", f"mial = {MARK}", f"mail {MARK}",
    f"pin = {NUMBER * 4}", f"id = 1 and mail in ({MARK}", f"email == '{MARK}'", f"'mail' {MARK}",
]  # fmt: skip


def test_the_command_line_shows_none(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = Session(lambda _: database)
    shown = Shown()
    codes = []

    def run(*arguments: str) -> None:
        codes.append(main(arguments, started=session))
        printed = capsys.readouterr()
        shown.add(printed.out, printed.err)
        assert printed.out.strip() or printed.err.strip()

    for text in WHERES:
        run("query", "lines", "--where", text, "--explain")
        run("query", "lines", "--where", text, "--count", "--allow-scan")
        run("query", "lines", "--where", text, "--where", "city = x")
    assert set(codes) <= {0, 1} and 0 in codes
    codes.clear()
    for text in WRONG_WHERES:
        run("query", "lines", "--where", text)
    for text in (f"mail = {MARK}", f"mail ~ {MARK}", f"born = {WHEN}"):
        run("summary", "lines", "mails", "--where", text, "--where", "seen_year = x")
    assert 1 in codes
    for table in TABLES:
        for form in ("table", "json", "csv"):
            run("rejects", table, "--format", form)
    for number, (table, key, body, _) in enumerate(objects()):
        if number % 5 == 0 or table in ("lines", "cells"):
            (tmp_path / "file").write_bytes(body)
            run("check", "file", "--table", table, "--key", key, "--format", "json")
    run("status", "lines")
    run("tables")
    assert shown.leaks() == []


class FakeTraces:
    """What Powertools would send to X-Ray."""

    def __init__(self) -> None:
        self.kept: list[object] = []

    @contextmanager
    def in_subsegment(self, name: str) -> Iterator[FakeTraces]:
        self.kept.append(name)
        yield self

    def put_annotation(self, **given: object) -> None:
        self._keep(given)

    def put_metadata(self, **given: object) -> None:
        self._keep(given)

    def _keep(self, given: dict[str, object]) -> None:
        for value in given.values():
            self.kept += [value, getattr(value, "__dict__", "")]
            if isinstance(value, BaseException):
                self.kept.append("".join(traceback.format_exception(value)))


def test_logs_metrics_and_traces_of_the_functions_show_none(
    environment: None,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import functions.configuration
    import functions.observability as observed

    tables = tmp_path / "sensitive.json"
    tables.write_text(json.dumps({name: made.to_dict() for name, made in TABLES.items()}))
    monkeypatch.setattr(functions.configuration.deployed_tables, "__defaults__", (tables,))
    traces = FakeTraces()
    monkeypatch.setattr(observed.tracer, "disabled", False)
    monkeypatch.setattr(observed.tracer, "provider", traces)
    lines = io.StringIO()
    stream = logging.StreamHandler(lines)
    stream.setFormatter(observed.logger.registered_formatter)
    observed.logger.addHandler(stream)
    observed.logger.setLevel("DEBUG")
    try:
        told = run_functions()
    finally:
        observed.logger.removeHandler(stream)
        observed.logger.setLevel("INFO")
    printed = capsys.readouterr()
    shown = Shown()
    shown.add(printed.out, printed.err, lines.getvalue(), traces.kept, told)
    assert shown.leaks() == []
    assert "message failed" in lines.getvalue() and "maintenance failed" in lines.getvalue()
    assert "_aws" in printed.out and '"Rejects"' in printed.out
    assert any("handler" in str(kept) for kept in traces.kept)


def run_functions() -> object:
    """Uploads, a damaged index, a store that fails with what it was given, a schedule: what there is to log of."""
    store = MemoryStore()
    indexer = deploy("indexer", engine=None)
    data = open_data_store(store)
    engine = Engine(indexer.index, data, indexer.engine._runtime)
    indexer.module.engine = engine
    for made in TABLES.values():
        engine.define(made)
    answers: list[object] = []
    for number, (_, key, body, metadata) in enumerate(objects()):
        store.put(key, body, attributes=dict(metadata))
        answers.append(indexer.send(created(key, name=str(number), receives=1 + number % 2)))
    for listed in list(indexer.index.list("tables/lines/views/"))[:2]:
        indexer.index.put(listed.key, f"damaged {MARK}".encode())
    compactor = deploy("compactor", engine=engine, index=indexer.index)
    compactor.call(SCHEDULED)
    path = "tables/lines/manifest.json"
    indexer.index.put(path, json.dumps({"format": 1, "reader": 1, "table": MARK, "log": MARK}).encode())
    store.put("lines/last", json.dumps(GOOD).encode())
    answers.append(indexer.send(created("lines/last", name="last")))
    with pytest.raises(BucketdexError):
        compactor.call(SCHEDULED)
    return answers


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
