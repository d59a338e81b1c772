"""The handlers with the real Powertools and the real engine on stores in memory."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import functions.configuration
from bucketdex.definition import TableDefinition
from bucketdex.engine import Engine, Event, Job, Rounds
from bucketdex.engine import Settings as EngineSettings
from bucketdex.errors import AccessDeniedError, CorruptFileError, TableChangedError, TableNotFoundError
from bucketdex.runtime import Runtime
from bucketdex.storage import (
    CountingStore,
    GetRequest,
    ManifestStore,
    manifest_path,
    open_data_store,
    open_index_store,
)
from bucketdex.storage.paths import delta_path
from bucketdex.views import BlockCache, Snapshot
from functions.backfiller.queue import SqsPageQueue
from functions.indexer.batch import OutOfTimeError
from functions.indexer.events import Message
from functions.indexer.queue import EventQueue
from functions.indexer.routes import Routes
from functions.maintenance_queue import MaintenanceQueue
from tests.unit.test_functions_events import s3_record, sqs_record

ORDERS = TableDefinition.from_dict(
    "orders",
    {
        "source": {"prefix": "orders/", "format": "ndjson"},
        "fields": {"id": "string", "amount": "int"},
        "indexes": {"by_amount": ["amount"]},
    },
    origin="orders.toml",
)


SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event"}


class FakeRuntime(Runtime):
    """A clock that stands still and never waits."""

    def now(self) -> float:
        return 1_000_000.0

    def uniform(self, low: float, high: float) -> float:
        return high

    def sleep(self, seconds: float) -> None:
        pass


@dataclass
class FakeSqs:
    """Remembers what it is told."""

    deleted: list[str] = field(default_factory=list)
    delays: dict[str, int] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    broken: bool = False
    waiting: int = 0

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: N803 (as boto3 names it)
        self._check(1)
        self.deleted.append(ReceiptHandle)

    def change_message_visibility_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> None:  # noqa: N803
        self._check(len(Entries))
        self.delays |= {entry["ReceiptHandle"]: entry["VisibilityTimeout"] for entry in Entries}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self._check(len(Entries))
        self.sent += Entries
        return {}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:  # noqa: N803
        return {"Attributes": {name: str(self.waiting) for name in AttributeNames}}

    def _check(self, entries: int) -> None:
        assert 1 <= entries <= 10, "SQS takes at most ten"
        if self.broken:
            raise ConnectionError("no SQS")


class Context:
    """What Lambda hands over beside the event."""

    function_name = "f"
    memory_limit_in_mb = 128
    invoked_function_arn = "arn:aws:lambda:eu-central-1:1:function:f"
    aws_request_id = "r"

    def __init__(self, milliseconds: int = 900_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@dataclass
class Deployment:
    """A function as deployed, its buckets and queues in memory."""

    sqs: FakeSqs
    index: Any
    data: Any
    engine: Engine
    module: ModuleType

    def call(self, event: dict[str, Any]) -> Any:
        return self.module.handler(event, Context())

    def send(self, *records: dict[str, Any]) -> list[str]:
        answer = self.call({"Records": list(records)})
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    tables = tmp_path / "tables.json"
    tables.write_text(json.dumps({"orders": ORDERS.to_dict()}))
    for name, value in {
        "INDEX_BUCKET": "index",
        "DATA_BUCKET": "data",
        "EVENT_QUEUE_URL": "https://sqs/events",
        "BACKFILL_QUEUE_URL": "https://sqs/pages",
        "MAINTENANCE_QUEUE_URL": "https://sqs/maintenance.fifo",
        "BACKFILLER_NAME": "backfiller",
        "POWERTOOLS_SERVICE_NAME": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(functions.configuration.deployed_tables, "__defaults__", (tables,))
    yield
    for name in ("indexer", "compactor", "registrar", "backfiller", "verifier"):
        sys.modules.pop(f"functions.{name}.handler", None)


def deploy(
    name: str, settings: EngineSettings | None = None, *, engine: Engine | None = None, index: Any = None
) -> Deployment:
    module = importlib.import_module(f"functions.{name}.handler")
    sqs, runtime = FakeSqs(), FakeRuntime()
    index, data = index or open_index_store("memory://"), open_data_store("memory://")
    engine = engine or Engine(index, data, runtime, settings=settings)
    replaced: dict[str, Any] = {
        "engine": engine,
        "manifests": ManifestStore(index, runtime),
        "rounds": Rounds(index, runtime),
        "queues": {name: EventQueue(sqs, runtime, f"https://sqs/{name}") for name in ("events", "pages")},  # type: ignore[arg-type]
        "runtime": runtime,
        "routes": Routes(engine, runtime, functions.configuration.deployed_tables()),
        "queue": SqsPageQueue(sqs, "https://sqs/pages"),  # type: ignore[arg-type]
        "maintenance": MaintenanceQueue(sqs, runtime, "https://sqs/maintenance.fifo"),  # type: ignore[arg-type]
    }
    for part in replaced.keys() & vars(module).keys():
        setattr(module, part, replaced[part])
    return Deployment(sqs, index, data, engine, module)


def sourced(prefix: str, name: str = "orders") -> TableDefinition:
    """The table with another source."""
    return msgspec.structs.replace(ORDERS, name=name, source=msgspec.structs.replace(ORDERS.source, prefix=prefix))


def amounts(engine: Engine, table: str = "orders") -> dict[str, int]:
    """What a query would find: amounts by key."""
    manifest = engine.load(table).manifest
    definition = TableDefinition.from_dict("orders", manifest.definition)
    snapshot = Snapshot(engine._means.index, manifest, definition, BlockCache())
    rows = (json.loads(entry.line) for entry in snapshot.scan("records", None, None))
    return {row["_key"]: row["amount"] for row in rows}


def created(key: str, *, name: str = "m", receives: int = 1, sequencer: str = "1") -> dict[str, Any]:
    event = s3_record("ObjectCreated:Put", key, sequencer=sequencer, size=1)
    return sqs_record({"Records": [event]}, name=name, receives=receives)


def test_a_batch_becomes_one_commit(environment: None, capsys: pytest.CaptureFixture[str]) -> None:
    indexer = deploy("indexer")
    base = indexer.engine.define(ORDERS).manifest.generation
    for number in range(3):
        indexer.data.put(f"orders/{number} +ü", b'{"id": "a", "amount": %d}\n' % number)
    assert indexer.send(*(created(f"orders/{number} +ü", name=str(number)) for number in range(3))) == []
    assert indexer.engine.load("orders").manifest.generation == base + 1
    blobs = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    metrics = {name: value for blob in blobs for name, value in blob.items()}
    assert (metrics["AppliedObjects"], metrics["Rows"], metrics["Commits"]) == ([3.0], [3.0], [1.0])


def test_the_objects_of_a_batch_are_read_side_by_side(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    indexer = deploy("indexer")
    indexer.engine.define(ORDERS)
    names = ["1", "2", "3"]
    for name in names:
        indexer.data.put(f"orders/{name}", b'{"id": "a"}\n')
    reads, all_begun = indexer.data.open, threading.Barrier(len(names), timeout=10)

    def begun(key: str, **options: Any) -> Any:
        all_begun.wait()  # one after the other would never get past this
        return reads(key, **options)

    monkeypatch.setattr(indexer.data, "open", begun)
    assert indexer.send(*(created(f"orders/{name}", name=name) for name in names)) == []


def test_a_poison_object_fails_its_own_message_only(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    indexer = deploy("indexer")
    indexer.engine.define(ORDERS)
    for key in ("orders/good", "orders/denied"):
        indexer.data.put(key, b'{"id": "a"}\n')
    reads = indexer.data.open

    def denied(key: str, **options: Any) -> Any:
        if key == "orders/denied":
            raise AccessDeniedError("403: orders/denied")
        return reads(key, **options)

    monkeypatch.setattr(indexer.data, "open", denied)
    assert indexer.send(
        created("orders/good", name="1"), created("orders/denied", name="2"), sqs_record("?", name="3")
    ) == [
        "3",
        "2",
    ]
    assert indexer.sqs.delays == {"receipt-2": 20, "receipt-3": 20}
    again = indexer.engine.apply("orders", [Event("orders/good", "created", "1")])
    assert again.skipped == {"orders/good"}, "it was indexed"


def test_a_table_that_is_not_registered_fails_visibly(environment: None) -> None:
    assert deploy("indexer").send(created("orders/1", name="1")) == ["1"]


def test_a_table_hears_events_of_its_old_source_until_its_successor_takes_its_place(environment: None) -> None:
    """The bundle has the new source already; events may be older than it."""
    index = CountingStore(open_index_store("memory://"))
    indexer, old = deploy("indexer", index=index), sourced("")
    indexer.engine.define(old, managed_by="Shop")
    for key in ("bills/1", "orders/1"):
        indexer.data.put(key, b'{"id": "a", "amount": 1}\n')
    indexer.engine.apply("orders", [Event("bills/1"), Event("orders/1")])
    indexer.engine.define(ORDERS, managed_by="Shop")
    successor = indexer.engine.successor("orders")
    assert successor is not None
    for key in ("bills/1", "bills/2", "orders/1"):
        indexer.data.put(key, b'{"id": "a", "amount": 22}\n')
    assert indexer.send(*(created(key, name=key) for key in ("bills/1", "bills/2", "orders/1"))) == []
    assert amounts(indexer.engine) == {"bills/1": 22, "bills/2": 22, "orders/1": 22}
    assert amounts(indexer.engine, successor) == {"orders/1": 22}

    index.reset()
    indexer.module.routes.read()
    assert not index.requests, "a further batch costs no request"
    indexer.engine.define(old, managed_by="Shop")  # it is rolled back
    assert (indexer.engine.successor("orders"), amounts(indexer.engine)["bills/2"]) == (None, 22)


def test_a_table_that_cannot_be_read_fails_only_what_may_be_its_own(environment: None, tmp_path: Path) -> None:
    bills = sourced("bills/", "bills")
    (tmp_path / "tables.json").write_text(json.dumps({"orders": ORDERS.to_dict(), "bills": bills.to_dict()}))
    indexer = deploy("indexer")
    for table in (ORDERS, sourced("old/", "bills")):
        indexer.engine.define(table)
    for key in ("old/1", "orders/1"):
        indexer.data.put(key, b'{"id": "a", "amount": 1}\n')
    whole = indexer.index.get(GetRequest(manifest_path("bills"))).body
    indexer.index.put(manifest_path("bills"), b"{")
    assert indexer.send(created("orders/1", name="1"), created("old/1", name="2")) == ["2"]
    indexer.index.put(manifest_path("bills"), whole)
    assert indexer.send(created("old/1", name="2")) == []
    assert (amounts(indexer.engine), amounts(indexer.engine, "bills")) == ({"orders/1": 1}, {"old/1": 1})


def test_failed_messages_return_later_each_time_and_sooner_after_a_lost_race(environment: None) -> None:
    indexer = deploy("indexer", EngineSettings(attempts_max=0))  # gives up at once
    indexer.engine.define(ORDERS)
    assert indexer.send(created("orders/1", name="1"), created("orders/2", name="2", receives=5)) == ["1", "2"]
    assert indexer.sqs.delays == {"receipt-1": 15, "receipt-2": 15}

    unregistered = deploy("indexer")
    unregistered.send(*(created("orders/1", name=str(n), receives=n) for n in range(1, 13)))
    delays = list(unregistered.sqs.delays.values())
    assert delays == sorted(delays) and delays[0] == 20 and delays[-1] == 900
    assert len(delays) == 12, "in tens"


def test_what_was_not_begun_for_lack_of_time_uses_up_few_receives() -> None:
    """Of many large objects at once most have to wait for hours; coming back at once would only count against them."""
    sqs = FakeSqs()
    messages = [Message(str(n), f"receipt-{n}", receives=n, waited_ms=0) for n in (1, 3, 9, 90)]
    failed: dict[str, Exception] = {message.id: OutOfTimeError("not begun") for message in messages}
    EventQueue(sqs, FakeRuntime(), "https://sqs/events").postpone(messages, failed)  # type: ignore[arg-type]
    assert list(sqs.delays.values()) == [20, 80, 900, 900]


def test_the_compactor_is_asked_when_a_view_is_over_its_bound(environment: None) -> None:
    indexer = deploy("indexer", EngineSettings(debt_deltas=2))
    indexer.engine.define(ORDERS)
    for number in range(4):
        indexer.data.put(f"orders/{number}", b'{"id": "a", "amount": 1}\n')
        indexer.send(created(f"orders/{number}"))
    asked = [json.loads(entry["MessageBody"]) for entry in indexer.sqs.sent]
    assert {"table": "orders", "view": "by_amount"} in asked
    by_view: dict[str, set[str]] = {}
    for entry in indexer.sqs.sent:
        by_view.setdefault(json.loads(entry["MessageBody"])["view"], set()).add(entry["MessageGroupId"])
    assert all(len(groups) == 1 for groups in by_view.values())
    assert len(set.union(*by_view.values())) == len(by_view), "one group a view"
    assert len({entry["MessageDeduplicationId"] for entry in indexer.sqs.sent}) == len(by_view), "not at every commit"


def test_pages_go_the_way_of_events_and_to_their_own_queue(
    environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    indexer = deploy("indexer")
    indexer.engine.define(ORDERS)
    for number in range(3):
        indexer.data.put(f"orders/{number}", b'{"id": "a", "amount": 1}\n')
    told: dict[str, FakeSqs] = {}
    for name, queue in indexer.module.queues.items():
        told[name] = queue._client = FakeSqs()
    page = {"backfill": {"job": "1", "table": "orders", "keys": [[f"orders/{number}", 26] for number in range(3)]}}
    lost = {"backfill": {"job": "1", "table": "nothing", "keys": [["orders/1", 1]]}}
    records = [sqs_record(page, name="1"), sqs_record(lost, name="2")]
    records = [record | {"eventSourceARN": "arn:aws:sqs:eu-central-1:1:pages"} for record in records]
    assert indexer.send(*records) == ["2"]
    assert (told["pages"].delays, told["events"].delays) == ({"receipt-2": 20}, {})
    printed = capsys.readouterr().out
    assert '"AppliedObjects":[3.0]' in printed.replace(" ", "") and "Waited" not in printed, "no live event waited"
    assert indexer.engine.load("orders").manifest.generation == 2


def test_the_backfiller_sends_what_is_due_and_stops_in_time(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "now", lambda _: 4_000_000_000.0)  # all objects were there before
    backfiller = deploy("backfiller")
    assert backfiller.call(SCHEDULED) is None
    backfiller.engine.define(ORDERS)
    for number in range(3):
        backfiller.data.put(f"orders/{number}", b'{"id": "a", "amount": 1}\n')
    backfiller.engine.start_backfill("orders")
    backfiller.module.handler(SCHEDULED, Context(milliseconds=backfiller.module.MARGIN_MS))
    assert backfiller.sqs.sent == []
    backfiller.sqs.waiting = 1  # from now on it only waits, until its time is over
    left = iter([900_000, 900_000, 900_000, 0])

    class Passing(Context):
        def get_remaining_time_in_millis(self) -> int:
            return next(left)

    backfiller.module.handler({}, Passing())
    (entry,) = backfiller.sqs.sent
    assert [key for key, _ in json.loads(entry["MessageBody"])["backfill"]["keys"]] == [f"orders/{n}" for n in range(3)]
    saved = backfiller.engine.jobs.load("orders")
    assert saved is not None and (saved.job.state, saved.job.sent, saved.job.walked) == ("running", 3, True)


def test_a_broken_queue_fails_no_message_that_is_done(environment: None) -> None:
    indexer = deploy("indexer", EngineSettings(debt_deltas=0))
    indexer.engine.define(ORDERS)
    indexer.data.put("orders/1", b'{"id": "a"}\n')
    indexer.sqs.broken = True
    assert indexer.send(created("orders/1", name="1", receives=3)) == []


def test_the_compactor_folds_what_it_is_asked_to(environment: None) -> None:
    indexer = deploy("indexer", EngineSettings(debt_deltas=2))
    indexer.engine.define(ORDERS)
    for number in range(6):
        indexer.data.put(f"orders/{number}", b'{"id": "a", "amount": 1}\n')
        indexer.send(created(f"orders/{number}"))
    compactor = deploy("compactor", engine=indexer.engine, index=indexer.index)
    assert "by_amount" in indexer.engine.debt(indexer.engine.load("orders").manifest)
    message = sqs_record({"table": "orders", "view": "by_amount"})
    assert compactor.send(message | {"attributes": {**message["attributes"], "MessageGroupId": "g"}}) == []
    assert "by_amount" not in indexer.engine.debt(indexer.engine.load("orders").manifest)

    assert compactor.call(SCHEDULED) is None
    assert indexer.engine.debt(indexer.engine.load("orders").manifest) == []


def test_a_successor_is_indexed_and_maintained_like_its_table(environment: None) -> None:
    indexer = deploy("indexer", EngineSettings(debt_deltas=2, grace_seconds=-1.0))
    indexer.engine.define(ORDERS)
    indexer.data.put("orders/0", b'{"id": "a", "amount": 1}\n')
    indexer.send(created("orders/0"))
    name = indexer.engine.rebuild("orders")
    for number in range(6):
        indexer.data.put(f"orders/{number}", b'{"id": "a", "amount": 2}\n')
        indexer.send(created(f"orders/{number}"))
    asked = [json.loads(entry["MessageBody"]) for entry in indexer.sqs.sent]
    assert {"table": name, "view": "by_amount"} in asked
    compactor = deploy("compactor", engine=indexer.engine, index=indexer.index)
    compactor.call(SCHEDULED)
    compactor.call(SCHEDULED)
    manifest = indexer.engine.load(name).manifest
    assert manifest.views["by_amount"].runs and not indexer.engine.debt(manifest)
    assert not manifest.garbage
    assert indexer.engine.promote("orders", name)
    compactor.index.delete_many([f"tables/{name}/manifest.json"])
    message = sqs_record({"table": name, "view": "by_amount"})
    assert compactor.send(message | {"attributes": {**message["attributes"], "MessageGroupId": "g"}}) == []


def test_compaction_stops_when_time_runs_out(environment: None) -> None:
    indexer = deploy("indexer", EngineSettings(debt_deltas=0))
    indexer.engine.define(ORDERS)
    indexer.data.put("orders/1", b'{"id": "a"}\n')
    indexer.send(created("orders/1"))
    due = indexer.engine.debt(indexer.engine.load("orders").manifest)
    assert due

    class Late(Context):
        def get_remaining_time_in_millis(self) -> int:
            self.milliseconds //= 4
            return self.milliseconds

    compactor = deploy("compactor", engine=indexer.engine, index=indexer.index)
    compactor.module.handler(SCHEDULED, Late())
    assert indexer.engine.debt(indexer.engine.load("orders").manifest) == due


def test_the_schedule_deletes_what_no_manifest_lists(environment: None) -> None:
    compactor = deploy("compactor", EngineSettings(sweep_generations=1))
    compactor.engine.define(ORDERS)
    for _ in range(3):
        compactor.engine.apply("orders", [Event("orders/none")])
    orphan = delta_path("orders", 0, "0123456789abcdef")
    compactor.index.put(orphan, b"left by a crashed writer")
    compactor.call(SCHEDULED)
    assert [listed.key for listed in compactor.index.list("tables/")] == ["tables/orders/manifest.json"]


def test_the_compactor_erases_within_what_it_is_told(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = "functions.compactor.handler"
    assert importlib.import_module(handler).engine.settings.erase_seconds == EngineSettings().erase_seconds
    sys.modules.pop(handler)
    monkeypatch.setenv("ERASE_SECONDS", "86400")
    assert importlib.import_module(handler).engine.settings.erase_seconds == 86_400


def test_a_failing_table_keeps_no_other_from_its_maintenance(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compactor = deploy("compactor")
    for name in ("bad", "orders"):
        compactor.engine.define(msgspec.structs.replace(ORDERS, name=name))
    collect, collected = compactor.engine.collect, []

    def failing(table: str) -> Any:
        collected.append(table)
        if table == "bad":
            raise AccessDeniedError("403")
        return collect(table)

    monkeypatch.setattr(compactor.engine, "collect", failing)
    with pytest.raises(AccessDeniedError):
        compactor.call(SCHEDULED)
    assert collected == ["bad", "orders"]


def test_a_damaged_file_keeps_no_other_view_from_its_maintenance(environment: None) -> None:
    compactor = deploy("compactor", EngineSettings(delta_rows_max=0, tier_runs=2))
    engine = compactor.engine
    engine.define(ORDERS)
    for number in range(4):
        compactor.data.put(f"orders/{number}", b'{"id": "a", "amount": 1}\n')
        engine.apply("orders", [Event(f"orders/{number}")])
    due = engine.debt(engine.load("orders").manifest)
    assert {"by_amount", "records"} <= set(due)
    damaged = engine.load("orders").manifest.views[due[0]].runs[1].files[0].path
    compactor.index.put(damaged, b"?" * len(compactor.index.get(GetRequest(damaged)).body))
    with pytest.raises(CorruptFileError):
        compactor.call(SCHEDULED)
    assert engine.debt(engine.load("orders").manifest) == due[:1]


def custom_resource(request: str, **fields: Any) -> dict[str, Any]:
    return {
        "RequestType": request,
        "ServiceToken": "arn",
        "ResponseURL": "https://cloudformation/answer",
        "StackId": "stack/1",
        "RequestId": "r",
        "LogicalResourceId": "Tables",
        "ResourceType": "AWS::CloudFormation::CustomResource",
        "ResourceProperties": {"ManagedBy": "Shop", "Tables": ["orders"]},
        **fields,
    }


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What CloudFormation is told."""
    import urllib.request
    from contextlib import nullcontext

    told: list[dict[str, Any]] = []

    def answer(request: urllib.request.Request, timeout: float) -> Any:
        assert (request.method, request.full_url) == ("PUT", "https://cloudformation/answer")
        assert isinstance(request.data, bytes)
        told.append(json.loads(request.data))
        return nullcontext()

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return told


def test_the_registrar_registers_tables_and_answers(environment: None, answers: list[dict[str, Any]]) -> None:
    registrar = deploy("registrar")
    for request in ("Create", "Update"):
        registrar.call(custom_resource(request))
        assert answers[-1]["Status"] == "SUCCESS", answers
    manifest = registrar.engine.load("orders").manifest
    assert (manifest.managed_by, manifest.definition) == ("Shop", ORDERS.to_dict())
    assert {name: answers[0][name] for name in ("StackId", "RequestId", "LogicalResourceId")} == {
        "StackId": "stack/1",
        "RequestId": "r",
        "LogicalResourceId": "Tables",
    }


def test_the_registrar_drops_tables_that_are_gone(environment: None, answers: list[dict[str, Any]]) -> None:
    registrar = deploy("registrar")
    registrar.engine.define(msgspec.structs.replace(ORDERS, name="old"), managed_by="Shop")
    registrar.call(custom_resource("Update", OldResourceProperties={"Tables": ["old", "orders"]}))
    assert answers[-1]["Status"] == "SUCCESS", answers
    assert registrar.engine.load("old").manifest.state == "dropped"
    assert registrar.engine.load("orders").manifest.state == "live"


class FakeBackfiller:
    """Remembers how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@dataclass
class Stack:
    """Deployments of tables, one after the other, as CloudFormation tells the registrar of them."""

    registrar: Deployment
    answers: list[dict[str, Any]]
    before: tuple[TableDefinition, ...] = ()

    def update(self, *tables: TableDefinition) -> str:
        """Deploys these; a rollback is the same with the tables before."""
        before, self.before = self.before, tables
        self.registrar.module.tables = tables  # type: ignore[attr-defined]
        self.registrar.call(
            custom_resource("Update", ResourceProperties=_asked(tables), OldResourceProperties=_asked(before))
        )
        return str(self.answers[-1]["Status"])

    @property
    def woken(self) -> int:
        return int(self.registrar.module.backfiller.woken)

    def job(self, table: str = "orders") -> Job | None:
        saved = self.registrar.engine.jobs.load(table)
        return None if saved is None else saved.job


def _asked(tables: tuple[TableDefinition, ...]) -> dict[str, Any]:
    sources = {table.name: table.source.prefix for table in tables}
    return {"ManagedBy": "Shop", "Tables": sorted(sources), "Sources": sources}


@pytest.fixture
def stack(environment: None, answers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("ANNOUNCED_SECONDS", "600")
    registrar = deploy("registrar")
    registrar.module.backfiller = FakeBackfiller()  # type: ignore[attr-defined]
    return Stack(registrar, answers)


def test_a_rollback_leaves_tables_alone_that_are_not_the_stacks(stack: Stack) -> None:
    engine, data = stack.registrar.engine, stack.registrar.data
    a, b, c, z = (sourced(f"{name}/", name) for name in "abcz")
    assert stack.update(a) == "SUCCESS"
    engine.define(b, managed_by="Other")
    engine.define(z)  # by hand
    data.put("z/1", b'{"id": "a", "amount": 1}\n')
    engine.apply("z", [Event("z/1")])
    assert stack.update(a, b, c, z) == "FAILED"
    assert stack.update(a) == "SUCCESS"
    assert (engine.load("b").manifest.managed_by, engine.load("z").manifest.managed_by) == ("Other", None)
    assert amounts(engine, "z") == {"z/1": 1}
    with pytest.raises(TableNotFoundError):
        engine.load("c")


def test_a_table_that_comes_back_gets_its_objects_back(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 4_000_000_000.0  # all objects were there before
    monkeypatch.setattr(FakeRuntime, "now", lambda _: clock)
    engine, data = stack.registrar.engine, stack.registrar.data
    a, b = sourced("a/", "a"), sourced("b/", "b")
    stack.update(a, b)
    assert (stack.job("b"), stack.woken) == (None, 0), "a new table hears of uploads only"
    data.put("b/1", b'{"id": "a", "amount": 1}\n')
    engine.apply("b", [Event("b/1")])
    stack.update(a)
    assert stack.update(a, b) == "SUCCESS"
    assert (amounts(engine, "b"), stack.woken) == ({}, 1)

    backfiller = deploy("backfiller", engine=engine, index=stack.registrar.index)
    sent = backfiller.sqs.sent
    for seconds, state, pages in ((599, "paused", 0), (1, "running", 1)):
        clock += seconds
        left = iter(range(1, 5))
        monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda _, left=left: next(left, 0) and 900_000)
        backfiller.call(SCHEDULED)
        job = stack.job("b")
        assert job is not None and (job.state, len(sent)) == (state, pages)


def test_a_table_whose_source_changes_is_read_once_its_uploads_are_announced(stack: Stack) -> None:
    engine, data = stack.registrar.engine, stack.registrar.data
    old, new = sourced("old/"), sourced("new/")
    assert stack.update(old) == "SUCCESS"
    for key in ("old/1", "old/2"):
        data.put(key, b'{"id": "a", "amount": 1}\n')
    engine.apply("orders", [Event("old/1"), Event("old/2")])
    stack.update(new)
    first, job = engine.successor("orders"), stack.job()
    assert job is not None and (job.target, job.state, job.started_at) == (first, "paused", 1_000_600.0)

    wider = msgspec.structs.replace(new, fields=(*new.fields, msgspec.structs.replace(new.fields[0], name="more")))
    stack.update(wider)  # another field, announced as before
    job = stack.job()
    assert job is not None and (job.target, job.state) == (engine.successor("orders"), "running")
    assert job.target != first

    data.delete_many(["old/1"])  # nobody hears of it
    for _ in range(2):  # CloudFormation may ask twice
        stack.before = (wider,)
        assert stack.update(old) == "SUCCESS"
        job, live = stack.job(), engine.load("orders").manifest
        assert live.definition == old.to_dict() and live.successor is not None
        assert job is not None and (job.target, job.state, job.started_at) == (live.successor, "paused", 1_000_600.0)
    engine.jobs.resume("orders")
    engine.build_successor("orders")
    assert amounts(engine) == {"old/2": 1}, "what was missed meanwhile is made good"


def test_deleting_the_stack_leaves_the_index(environment: None, answers: list[dict[str, Any]]) -> None:
    registrar = deploy("registrar")
    registrar.call(custom_resource("Create"))
    registrar.call(custom_resource("Delete", PhysicalResourceId="kept"))
    assert (answers[-1]["Status"], answers[-1]["PhysicalResourceId"]) == ("SUCCESS", "kept")
    assert registrar.engine.load("orders").manifest.state == "live"


def test_cloudformation_hears_of_a_failure(environment: None, answers: list[dict[str, Any]]) -> None:
    registrar = deploy("registrar")
    registrar.engine.define(ORDERS, managed_by="AnotherStack")
    registrar.call(custom_resource("Create"))
    assert answers[-1]["Status"] == "FAILED"
    assert "ManagedByStackError" in answers[-1]["Reason"]


def test_a_wrong_deployment_fails_at_cold_start(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_BUCKET")
    with pytest.raises(msgspec.ValidationError, match="data_bucket"):
        importlib.import_module("functions.indexer.handler")


def emitted(out: str) -> list[dict[str, Any]]:
    """The metrics written so far, each with its dimensions."""
    return [json.loads(line) for line in out.splitlines() if '"_aws"' in line]


def verifying(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Deployment:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return deploy("verifier")


def test_the_verifier_tells_what_differs_and_changes_nothing(
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    verifier = verifying(monkeypatch)
    verifier.engine.define(ORDERS)
    verifier.engine.define(
        msgspec.structs.replace(ORDERS, name="empty", source=msgspec.structs.replace(ORDERS.source, prefix="e/"))
    )
    verifier.engine.define(msgspec.structs.replace(ORDERS, name="gone"))
    verifier.engine.drop_table("gone")
    for number in range(5):
        verifier.data.put(f"orders/{number}", b'{"id": "secret", "amount": 1}\n')
    verifier.engine.apply("orders", [Event(f"orders/{number}") for number in range(4)])
    verifier.data.delete_many(["orders/0"])
    verifier.data.put("orders/1", b'{"id": "secret", "amount": 22}\n')
    generation = verifier.engine.load("orders").manifest.generation
    monkeypatch.setattr(verifier.module.metrics.provider, "service", "test")  # as the environment says at a cold start
    assert verifier.call(SCHEDULED) is None
    out = capsys.readouterr().out
    by_table = {blob["table"]: blob for blob in emitted(out) if "table" in blob}
    counts = {name: by_table["orders"][name] for name in ("Missing", "Stale", "Extra", "Wrong", "Verified")}
    assert counts == {"Missing": [1.0], "Stale": [1.0], "Extra": [1.0], "Wrong": [0.0], "Verified": [4.0]}
    assert by_table["orders"]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Bucketdex"
    assert set(by_table["orders"]["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]) == {"service", "table"}
    assert set(by_table) == {"orders", "empty"} and by_table["empty"]["Verified"] == [0.0]
    (total,) = (blob for blob in emitted(out) if "Differences" in blob)
    assert total["Differences"] == [3.0] and total["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
    (told,) = (vars(record) for record in caplog.records if vars(record).get("table") == "orders")
    assert told["differences"] == {"orders/0": "extra", "orders/1": "stale", "orders/4": "missing"}
    assert told["levelname"] == "WARNING" and "secret" not in str(told) + out
    assert verifier.engine.load("orders").manifest.generation == generation
    names = [listed.key for listed in verifier.index.list("") if not listed.key.startswith("tables/")]
    assert names == ["verify/empty.json", "verify/orders.json"]


def test_the_verifier_reads_a_sample_and_repairs_where_it_is_told_to(
    environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verifier = verifying(monkeypatch, VERIFY_DEEP_SAMPLE="1", VERIFY_REPAIR="true")
    verifier.engine.define(ORDERS)
    for number in range(5):
        verifier.data.put(f"orders/{number}", b'{"id": "a", "amount": 1}\n')
    verifier.engine.apply("orders", [Event(f"orders/{number}") for number in range(4)])
    verifier.call(SCHEDULED)
    out = capsys.readouterr().out
    (total,) = (blob for blob in emitted(out) if "Differences" in blob)
    (found,) = (blob for blob in emitted(out) if "Missing" in blob)
    assert (total["Differences"], found["Missing"]) == ([0.0], [1.0]), "what was repaired is told and needs nobody"
    round_ = verifier.module.rounds.load("orders")
    assert (round_.read, round_.repaired, round_.last_key) == (4, 1, None)
    assert round_.finished_at is not None
    assert verifier.engine.verify("orders", deep=True).found == 0


def test_the_verifier_goes_on_where_it_stopped(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With time for one page a run, two tables are walked to their ends, each in its turn."""
    monkeypatch.setattr("bucketdex.engine.walk.PAGE_KEYS", 10)
    clock = iter(range(1_000_000, 2_000_000))
    monkeypatch.setattr(FakeRuntime, "now", lambda _: float(next(clock)))
    verifier = verifying(monkeypatch)
    verifier.engine.define(ORDERS)
    bills = msgspec.structs.replace(
        ORDERS, name="bills", source=msgspec.structs.replace(ORDERS.source, prefix="bills/")
    )
    verifier.engine.define(bills)
    for table in ("orders", "bills"):
        for number in range(35):
            verifier.data.put(f"{table}/{number:02d}", b'{"id": "a"}\n')
        verifier.engine.apply(table, [Event(f"{table}/{number:02d}") for number in range(35)])
    walked: list[tuple[str, str | None]] = []
    verify = verifier.engine.verify

    def noted(table: str, **options: Any) -> Any:
        walked.append((table, options["start_after"]))
        return verify(table, **options)

    monkeypatch.setattr(verifier.engine, "verify", noted)

    class Short(Context):
        """Time enough to begin one table."""

        def get_remaining_time_in_millis(self) -> int:
            self.milliseconds = self.milliseconds - 1 if self.milliseconds > 899_998 else 0
            return self.milliseconds

    for _ in range(8):
        verifier.module.handler(SCHEDULED, Short())
    pages = [None, "09", "19", "29"]
    assert walked == [(table, page and f"{table}/{page}") for page in pages for table in ("bills", "orders")]
    for table in ("orders", "bills"):
        round_ = verifier.module.rounds.load(table)
        assert (round_.objects, round_.last_key, round_.missing) == (35, None, 0)
        assert round_.finished_at is not None and round_.finished_at > round_.started_at
    verifier.index.put("verify/orders.json", b"{")
    verifier.call(SCHEDULED)
    assert verifier.module.rounds.load("orders").objects == 35, "what can't be read is begun anew"


def test_a_table_that_cannot_be_verified_keeps_no_other_from_its_turn(
    environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verifier = verifying(monkeypatch)
    for name in ("bad", "orders"):
        verifier.engine.define(msgspec.structs.replace(ORDERS, name=name))
    verify = verifier.engine.verify

    def failing(table: str, **options: Any) -> Any:
        if table == "bad":
            raise AccessDeniedError("403")
        return verify(table, **options)

    def changed(table: str, **options: Any) -> Any:
        if table == "bad":
            raise TableChangedError("defined anew")
        return verify(table, **options)

    monkeypatch.setattr(verifier.engine, "verify", changed)
    assert verifier.call(SCHEDULED) is None, "a deployment meanwhile is no error"
    capsys.readouterr()
    monkeypatch.setattr(verifier.engine, "verify", failing)
    with pytest.raises(AccessDeniedError):
        verifier.call(SCHEDULED)
    out = capsys.readouterr().out
    assert [blob["table"] for blob in emitted(out) if "table" in blob] == ["orders"]
    assert [listed.key for listed in verifier.index.list("verify/")] == ["verify/orders.json"]
