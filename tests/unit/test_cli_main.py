"""The commands, on an index in this process."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore
from typer.testing import CliRunner

from bucketdex import local
from bucketdex.cli.main import app, main
from bucketdex.cli.session import Session
from bucketdex.client import Database
from bucketdex.definition import TableDefinition
from bucketdex.errors import LocalDeploymentError, StorageError

ROOT = Path(__file__).parents[2]
ORDERS = [
    ("1", "DE", "120.50", "2026-01-02T10:00:00Z", ["gift", "new"]),
    ("2", "DE", "99", "2026-01-03T10:00:00Z", []),
    ("3", "FR", "100", "2026-01-02T11:00:00Z", ["gift"]),
    ("4", "DE", "100", "2026-01-04T10:00:00Z", ["a, b"]),
]


def body(*orders: tuple[str, str, str, str, list[str]]) -> bytes:
    names = ("id", "country", "amount", "created_at", "tags")
    return b"".join(json.dumps(dict(zip(names, order, strict=True))).encode() + b"\n" for order in orders)


@pytest.fixture(scope="module")
def shop() -> Database:
    data = MemoryStore()
    data.put("orders/a.ndjson", body(*ORDERS[:3]))
    data.put("orders/b.ndjson", body(ORDERS[3]))
    data.put("orders/c.ndjson", b'{"id": "5", "amount": "ten", "created_at": "2026-01-02T10:00:00Z"}\n')
    database = Database(MemoryStore(), data=data)
    table = database.create_table(TableDefinition.load(ROOT / "tables" / "orders.toml"))
    table.reindex(["orders/a.ndjson", "orders/b.ndjson", "orders/c.ndjson"])
    return database


class Ran:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.json]

    @property
    def error(self) -> str:
        """The one line of a failure."""
        assert (self.code, self.out) == (1, ""), self.out
        assert self.err.startswith("error: ") and self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def run(shop: Database, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Ran:
        code = main(arguments, started=Session(lambda _: shop))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def test_query_with_everything(run: Any) -> None:
    ran = run(
        "query", "orders", "--where", "amount >= 100", "--where", "country=DE", "--order-by", "-created_at",
        "--limit", "20", "--format", "json",
    )  # fmt: skip
    assert ran.ids == ["4", "1"]
    assert ran.json[1] == {
        "id": "1", "customer": None, "country": "DE", "amount": "120.5", "tags": ["gift", "new"],
        "created_at": "2026-01-02T10:00:00.000000Z", "email": None, "_key": "orders/a.ndjson",
        "_at": ran.json[1]["_at"],
    }  # fmt: skip


def test_query_limits_and_orders(run: Any) -> None:
    assert run("query", "orders", "-w", "country in (DE, FR)", "-o", "created_at", "-n", "2", "-f", "json").ids == [
        "1",
        "3",
    ]
    assert run("query", "orders", "-w", "country = DE", "-n", "0", "-f", "json").json == []


def test_query_as_csv_and_table(run: Any) -> None:
    arguments = ("query", "orders", "--where", "country=DE", "--order-by", "created_at", "--format")
    read = list(csv.DictReader(io.StringIO(run(*arguments, "csv").out)))
    assert [(row["id"], row["amount"], row["tags"], row["email"]) for row in read] == [
        ("1", "120.5", '["gift", "new"]', ""),
        ("2", "99", "[]", ""),
        ("4", "100", '["a, b"]', ""),
    ]
    lines = run(*arguments, "table").out.splitlines()
    assert lines[0].split() == ["id", "customer", "country", "amount", "tags", "created_at", "email", "_key"]
    assert lines[1].split() == ["1", "DE", "120.5", "gift,", "new", "2026-01-02", "10:00:00", "orders/a.ndjson"]
    assert len(lines) == 4


def test_query_by_a_value_of_many_and_by_key(run: Any) -> None:
    assert run("query", "orders", "-w", "tags = 'a, b'", "-f", "json").ids == ["4"]
    assert run("query", "orders", "-w", "_key = orders/b.ndjson", "-f", "json").ids == ["4"]


def test_query_counts_and_explains(run: Any) -> None:
    assert run("query", "orders", "--where", "country=DE", "--count").out == "3\n"
    assert "by_country" in run("query", "orders", "--where", "country=DE", "--explain").out


def test_a_scan_has_to_be_allowed(run: Any) -> None:
    assert "or read everything by --allow-scan" in run("query", "orders", "--where", "amount > 100").error
    assert run("query", "orders", "--where", "amount > 100", "--allow-scan", "-f", "json").ids == ["1"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("query", "nope"), "nope"),
        (("query", "orders", "--where", "amout > 3"), "did you mean 'amount'"),
        (("query", "orders", "--where", "amount > ten"), "'ten' is no decimal"),
        (("query", "orders", "--where", "country=DE", "--order-by", "nope"), "nope"),
        (("query", "orders", "--limit", "-1"), "--limit"),
        (("query", "orders", "--format", "xml"), "xml"),
        (("query",), "TABLE"),
        (("nope",), "nope"),
        (("get", "orders", "orders/none.ndjson"), "orders/none.ndjson"),
        (("get", "orders", "orders/a.ndjson"), "records"),
        (("summary", "orders", "nope"), "nope"),
        (("summary", "orders", "revenue", "--where", "amount > 3"), "amount"),
        (("rejects", "nope"), "nope"),
        (("status", "nope"), "nope"),
        (("compact", "nope"), "nope"),
        (("check", "/nowhere/x.ndjson", "--table", "orders"), "/nowhere/x.ndjson"),
    ],
)
def test_errors_are_one_line(run: Any, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in run(*arguments).error


def test_get(run: Any) -> None:
    assert run("get", "orders", "orders/b.ndjson", "--format", "json").json["id"] == "4"
    assert "orders/b.ndjson" in run("get", "orders", "orders/b.ndjson").out
    assert [
        row["id"] for row in csv.DictReader(io.StringIO(run("get", "orders", "orders/b.ndjson", "-f", "csv").out))
    ] == ["4"]
    assert sorted(run("get", "orders", "orders/a.ndjson", "--all", "--format", "json").ids) == ["1", "2", "3"]


def test_summary(run: Any) -> None:
    groups = run("summary", "orders", "revenue", "--format", "json").json
    assert [(group["country"], group["created_at_day"], group["orders"], group["revenue"]) for group in groups] == [
        ("DE", "2026-01-02", 1, "120.5"),
        ("DE", "2026-01-03", 1, "99"),
        ("DE", "2026-01-04", 1, "100"),
        ("FR", "2026-01-02", 1, "100"),
    ]
    arguments = ("summary", "orders", "revenue", "--where", "country=DE", "--where", "created_at_day >= 2026-01-03")
    assert [group["created_at_day"] for group in run(*arguments, "-f", "json").json] == ["2026-01-03", "2026-01-04"]
    assert (
        run(*arguments, "--limit", "1", "-f", "csv")
        .out.splitlines()[0]
        .startswith("country,created_at_day,orders,revenue")
    )
    assert len(run(*arguments, "--limit", "1", "-f", "csv").out.splitlines()) == 2


def test_rejects(run: Any) -> None:
    [reject] = run("rejects", "orders", "--format", "json").json
    assert (reject["_key"], reject["field"], reject["value"], reject["line"]) == ("orders/c.ndjson", "amount", "ten", 1)
    assert "orders/c.ndjson" in run("rejects", "orders").out
    assert run("rejects", "orders", "--limit", "0", "-f", "json").json == []


def test_tables_and_status(run: Any) -> None:
    [table] = run("tables", "--format", "json").json
    assert (table["table"], table["keys"], table["summaries"]) == ("orders", "orders/", ["revenue"])
    assert run("status", "orders", "--format", "json").json["generation"] >= 1
    assert "generation" in run("status", "orders").out


def test_compact_changes_no_answer(run: Any) -> None:
    before = run("query", "orders", "-w", "country in DE, FR", "-o", "created_at", "-f", "json").json
    assert run("compact", "orders").code == 0
    assert run("query", "orders", "-w", "country in DE, FR", "-o", "created_at", "-f", "json").json == before


def test_check(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "good.ndjson", tmp_path / "bad.ndjson"
    good.write_bytes(body(*ORDERS))
    bad.write_bytes(body(*ORDERS) + b"{\n")
    definition = str(ROOT / "tables" / "orders.toml")
    ran = run("check", str(good), "--table", definition)
    assert (ran.code, ran.out) == (0, "")
    assert "4 good records, 0 rejects" in ran.err
    ran = run("check", str(bad), "--table", definition, "--format", "json")
    assert ran.code == 1
    assert [(item["_key"], item["line"]) for item in json.loads(ran.out)] == [("orders/bad.ndjson", 5)]
    monkeypatch.chdir(tmp_path)  # no ./tables here: the definition in the index
    assert run("check", "good.ndjson", "--table", "orders").code == 0
    assert "nope" in run("check", "good.ndjson", "--table", "nope").error


def test_check_takes_the_key_from_the_path_or_the_option(run: Any, tmp_path: Path) -> None:
    definition = tmp_path / "logs.toml"
    definition.write_text(
        '[source]\nkey = "logs/{day}/x.json"\nformat = "json"\n[fields]\nday = {type = "date", from = "key"}\n'
    )
    file = tmp_path / "logs" / "2026-01-02" / "x.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    other = tmp_path / "x.json"
    other.write_text("{}")
    assert run("check", str(file), "-t", str(definition)).code == 0
    assert "key" in run("check", str(other), "-t", str(definition)).error
    assert run("check", str(other), "-t", str(definition), "--key", "logs/2026-01-03/x.json").code == 0
    assert run("check", str(other), "-t", str(definition), "--key", "logs/later/x.json").code == 1


def test_where_the_index_is(shop: Database, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str | None] = []

    def opener(index: str | None) -> Database:
        asked.append(index)
        return shop

    main(["tables"], started=Session(opener))
    main(["--index", "s3://a", "tables"], started=Session(opener))
    main(["tables", "--index", "s3://b"], started=Session(opener))
    main(["--index", "s3://a", "tables", "--index", "s3://b"], started=Session(opener))
    assert asked == [None, "s3://a", "s3://b", "s3://b"]


def test_without_an_index(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("BUCKETDEX_INDEX", raising=False)
    assert main(["tables"]) == 1
    assert "BUCKETDEX_INDEX" in capsys.readouterr().err


def test_other_failures_are_one_line_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: Exception) -> str:
        def opener(_: str | None) -> Database:
            raise error

        assert main(["tables"], started=Session(opener)) == 1
        return capsys.readouterr().err

    assert fails(StorageError("no\nanswer")) == "error: no answer\n"
    assert fails(ValueError("odd")) == "error: ValueError: odd\n"
    monkeypatch.setenv("BUCKETDEX_TRACEBACK", "1")
    with pytest.raises(StorageError):
        fails(StorageError("no answer"))


def test_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    def opener(_: str | None) -> Database:
        raise KeyboardInterrupt

    assert main(["tables"], started=Session(opener)) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_leaves_early(tmp_path: Path) -> None:
    """`| head`: no traceback and no message."""
    script = tmp_path / "many.py"
    script.write_text(
        "import sys\n"
        "from bucketdex.cli import manage\n"
        "from bucketdex.cli.main import main\n"
        "from bucketdex.cli.output import Format, write_rows\n"
        "manage.write_rows = lambda *_: write_rows(({'n': n} for n in range(10**6)), ['n'], Format.CSV)\n"
        "class Empty:\n"
        "    def tables(self): return []\n"
        "from bucketdex.cli.session import Session\n"
        "sys.exit(main(['tables'], started=Session(lambda _: Empty())))\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "n\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 1


def test_help_needs_nothing_heavy() -> None:
    code = "import sys\nfrom bucketdex.cli.main import main\nmain(['query', '--help'])\nprint('boto3' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"


def test_as_a_module_and_without_arguments() -> None:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    for arguments in ([], ["--help"]):
        ran = subprocess.run(
            [sys.executable, "-m", "bucketdex", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0
        for command in ("query", "get", "summary", "rejects", "status", "compact", "check", "tables", "local"):
            assert f" {command} " in ran.stdout


def test_the_runner_of_typer() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, "0.1.0\n")


class FakeLocal:
    """The local deployment, as the commands see it."""

    running: local.Deployment | None = None
    deployed: tuple[Any, ...] = ()

    def __init__(self, home: Path) -> None:
        self._home = home

    def start(self, *, port: int | None = None, progress: Any) -> local.Deployment:
        progress("starting")
        self.running = local.Deployment(endpoint=f"http://127.0.0.1:{port or 4566}", pid=1, directory=str(self._home))
        return self.running

    def deploy(self, tables: Path | None = None, *, stack: str = "Bucketdex", progress: Any) -> local.Deployment:
        if tables and not tables.is_dir():
            raise LocalDeploymentError(f"{tables} is no folder\nreally")
        deployment = self.running or self.start(progress=progress)
        deployment.stack, deployment.outputs = stack, {"DataBucketName": "data", "IndexBucketName": "index x"}
        return deployment

    def status(self) -> local.Deployment | None:
        return self.running

    def stop(self) -> bool:
        running, self.running = self.running, None
        return running is not None


def test_local(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeLocal(tmp_path)
    for name in ("start", "deploy", "status", "stop"):
        monkeypatch.setattr(local, name, getattr(fake, name))
    assert "no local deployment runs" in run("local", "status").out
    assert "no local deployment runs" in run("local", "status", "--export").error
    assert "http://127.0.0.1:5001" in run("local", "start", "--port", "5001").out
    assert "is no folder really" in run("local", "deploy", "--tables", "nowhere").error
    assert "data" in run("local", "deploy", "--tables", str(tmp_path), "--stack", "Shop").out
    assert "Shop" in run("local", "status").out
    exported = run("local", "status", "--export").out.splitlines()
    assert "export BUCKETDEX_INDEX='s3://index x'" in exported
    assert run("local", "stop").out.startswith("stopped")
    assert run("local", "stop").out.startswith("nothing to stop")
