"""The command line shows no value of a sensitive field but in the rows of a query: in no message, table, JSON or CSV, and
in no traceback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from sensitivekit import GOOD, MARK, NUMBER, TABLES, WHEN, Breaking, Impatient, Shown, damage, filled, objects

from bucketdex.cli.main import main
from bucketdex.cli.session import Session
from bucketdex.client import Database
from bucketdex.client.deadletters import DeadLetters
from bucketdex.query.expression import col
from bucketdex.storage import open_data_store
from tests.unit.test_cli_backfill import Aws
from tests.unit.test_client_deadletters import DEAD, OUTPUTS, Queues, event

WHERES = [
    f"mail = {MARK}", f"mail in ({MARK}, {MARK})", f"mail between {MARK} and {MARK}", f"mail like '{MARK}%'",
    f"mail contains {MARK}", f"pin >= {NUMBER}", f"born < {WHEN}", f"seen = {WHEN}T00:00:00Z", f"salary = {NUMBER}.5",
]  # fmt: skip
WRONG_WHERES = [
    f"mail ~ {MARK}", f"mail in ({MARK}", f"mail = '{MARK}", f"mail between {MARK}", f"pin = {MARK}", f"pin = {NUMBER}x",
    f"salary = {MARK}", f"born = {WHEN}x", f"seen = {MARK}", f"well = {MARK}", f"mial = {MARK}", f"mail {MARK}",
    f"pin = {NUMBER * 4}", f"id = 1 and mail in ({MARK}", f"email == '{MARK}'", f"'mail' {MARK}",
]  # fmt: skip


MISUSED = [
    ("query", "lines", "--where", "mail", "=", MARK), ("query", "lines", "--where", "mail = x", MARK),
    ("query", "lines", "--where", "pin", "=", f"-{NUMBER}"), ("summary", "lines", "mails", "-w", "mail", "=", MARK),
    ("query", "lines", "--limit", MARK), ("query", "lines", "--mail", MARK), ("query", f"--mail={MARK}", "lines"),
]  # fmt: skip


ROWS = ("get", "summary")  # what they print is what was asked for


class Terminal:
    """Runs commands and keeps what they print, and what they raise where errors are let through."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        filled_, data = filled()
        self.index, self.data = filled_._context.index, Breaking(open_data_store(data))
        self.data.breaks = False
        self.shown = Shown()
        self.codes: list[int] = []
        self.open()

    def open(self) -> Database:
        """The database anew, with nothing in memory."""
        self.database = Database(self.index, self.data, runtime=Impatient())
        return self.database

    def run(self, *arguments: str) -> str:
        """What the command printed. It runs once more with BUCKETDEX_TRACEBACK if it fails."""
        code = main(arguments, started=Session(lambda _: self.database))
        self.codes.append(code)
        printed = self._capsys.readouterr()
        assert printed.out.strip() or printed.err.strip()
        self.shown.add(printed.err, *([] if arguments[0] in ROWS and not code else [printed.out]))
        if code:
            with self._monkeypatch.context() as patch:
                patch.setenv("BUCKETDEX_TRACEBACK", "1")
                try:
                    main(arguments, started=Session(lambda _: self.database))
                except Exception as error:
                    self.shown.error(error)
            again = self._capsys.readouterr()
            self.shown.add(again.out, again.err)
        return printed.out + printed.err


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Terminal]:
    """A terminal that has shown nothing in the end."""
    monkeypatch.chdir(tmp_path)
    terminal = Terminal(capsys, monkeypatch)
    yield terminal
    assert len(terminal.shown.texts) > 10
    assert terminal.shown.leaks() == []


def test_conditions(terminal: Terminal) -> None:
    run, codes = terminal.run, terminal.codes
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
    for arguments in MISUSED:
        run(*arguments)
    run("status", "lines")
    run("status", "lines", "--format", "json")
    run("tables")


def test_rejects_and_checks(terminal: Terminal, tmp_path: Path) -> None:
    run = terminal.run
    for table in TABLES:
        for form in ("table", "json", "csv"):
            run("rejects", table, "--format", form)
    for number, (table, key, body, _) in enumerate(objects()):
        if number % 5 == 0 or table in ("lines", "cells", "picked"):
            (tmp_path / "file").write_bytes(body)
            run("check", "file", "--table", table, "--key", key, "--format", "json")


def test_repairs(terminal: Terminal) -> None:
    """Of an index that agrees; of objects that are new, changed and gone; of a bucket whose bodies break off."""
    run = terminal.run
    for name in TABLES:
        for new in ("new", "tagged"):
            terminal.data.put(f"{name}/{new}", json.dumps(GOOD).encode())
        keys = terminal.database.table(name).where(col.id.is_not_null()).allow_scan().keys()
        terminal.data.delete_many(keys[:1])
        for key in keys[1:2]:
            terminal.data.put(key, f"not what it was: {MARK}".encode())
        for form in ("table", "json", "csv"):
            assert f"{name}/new" in run("verify", name, "--format", form)
        assert '"missing": 2' in run("verify", name, "--deep", "--format", "json")
        run("reindex", name, *keys[:2], f"{name}/good", "foreign", f"{name}/none")
        assert f"{name}/new" in run("verify", name, "--deep", "--repair")
        for arguments in (
            ("backfill", "run", name, "--force"),
            ("backfill", "run", name, "--dry-run"),
            ("rebuild", name),
        ):
            run(*arguments)
            assert terminal.codes[-1] == 0
        terminal.data.breaks = True
        run("verify", name)
        run("verify", name, "--deep", "--repair")
        failing = [run("backfill", "run", name, "--force"), run("reindex", name, f"{name}/new", f"{name}/good")]
        run("rebuild", name)
        assert name == "blobs" or all("breaks off" in told for told in failing)
        terminal.data.breaks = False


def test_a_damaged_index(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files hold the values, and none of them is told when they can't be read."""
    monkeypatch.setattr(boto3, "client", lambda _: Aws())
    Path("file").write_bytes(json.dumps(GOOD).encode())
    damaged = 0
    for name in ("listed", "picked"):
        terminal.open()
        if name == "listed":
            terminal.run("compact", name)
        terminal.database._context.engine.define(TABLES[name], managed_by="Shop")
        for _ in damage(terminal.index, name):
            commands = [
                ("status", name), ("rejects", name), ("query", name, "--allow-scan", "--where", f"mail contains {MARK}9"),
                ("summary", name, "mails"), ("get", name, f"{name}/good"), ("check", "file", "--table", name), ("tables",),
                ("verify", name, "--deep", "--repair"), ("backfill", "start", name), ("backfill", "status", name),
                ("backfill", "cancel", name), ("backfill", "run", name, "--dry-run"), ("compact", name),
            ]  # fmt: skip
            for command in commands:
                terminal.open()
                damaged += "error: " in terminal.run(*command)
    assert damaged > 30


LETTERS: list[object] = [
    f"no JSON but {MARK}", json.dumps(GOOD), MARK, f'["{MARK}"', {"Records": MARK}, {"Records": [{"s3": MARK}]},
    {"Records": [{"s3": {"object": {"key": 5, "mail": MARK}}}]}, {"backfill": MARK}, {"table": "lines", "mail": MARK},
    {"backfill": {"table": "lines", "keys": [["lines/a", 1, MARK]]}}, {"Type": "Notification", "Message": MARK},
    {"Type": "Notification", "Message": json.dumps(GOOD), "Subject": MARK}, [MARK], {"table": "lines", "view": "by_mail"},
    {**event("lines/a"), "mail": MARK},
]  # fmt: skip


def test_dead_letters(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another producer sent to the queues by mistake, such as the records themselves."""
    sqs = Queues()
    letters = DeadLetters(OUTPUTS, sqs, table_of=lambda key: key.partition("/")[0])  # type: ignore[arg-type]
    monkeypatch.setattr(DeadLetters, "from_stack", lambda _: letters)
    said = {"mail": {"DataType": "String", "StringValue": MARK}}
    ids = []
    for name, url in DEAD.items():
        group = "g" if url.endswith(".fifo") else None
        ids += [sqs.add(url, body, attributes=said, group=group and f"g{n}") for n, body in enumerate(LETTERS)]
        for form in ("table", "json", "csv"):
            terminal.run("dlq", "list", "--queue", name, "--format", form)
    sqs.refuse = lambda action, body: MARK in body and action == "send"
    assert "refused" in terminal.run("dlq", "redrive", "--all")
    terminal.run("dlq", "redrive", "--id", ids[0], "--format", "json")
    sqs.refuse = lambda action, body: MARK in body
    for form in ("table", "json", "csv"):
        terminal.run("dlq", "drop", "--id", ids[1], "--format", form)
    terminal.run("dlq", "drop")
    sqs.refuse = lambda action, body: False
    terminal.run("dlq", "drop", "--yes")
    terminal.run("dlq", "list")
