"""The functions show no value of a sensitive field: in no log, metric, trace, answer, or note of what they are at."""

from __future__ import annotations

import io
import json
import logging
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from aws_xray_sdk import global_sdk_config
from aws_xray_sdk.core.recorder import AWSXRayRecorder
from obstore.store import MemoryStore
from sensitivekit import GOOD, MARK, TABLES, Breaking, Shown, damage, objects

from bucketdex.engine import Engine, Job
from bucketdex.storage import GetRequest, ObjectStore, SwapLostError, Versioned, open_data_store, open_index_store
from tests.unit.test_functions_events import sqs_record
from tests.unit.test_functions_handlers import (
    SCHEDULED,
    Context,
    Deployment,
    FakeRuntime,
    created,
    custom_resource,
    deploy,
    environment,  # noqa: F401 (a fixture)
)


class Segments:
    """Takes what X-Ray would be sent, as text."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send_entity(self, segment: Any) -> None:
        self.sent.append(segment.serialize())


class Passing(Context):
    """Time that passes whenever it is looked at."""

    def get_remaining_time_in_millis(self) -> int:
        self.milliseconds -= 5_000
        return self.milliseconds


class Observed:
    """Everything that the functions tell: logs as Powertools and others print them, metrics, traces, answers."""

    def __init__(self, segments: Segments, recorder: AWSXRayRecorder, lines: io.StringIO) -> None:
        self.segments, self.lines = segments, lines
        self._recorder = recorder
        self.answers: list[object] = []
        self.failures: list[Exception] = []

    def call(self, function: Deployment, event: dict[str, Any]) -> None:
        """Runs a function as Lambda does: a failure is printed."""
        self._recorder.begin_segment("lambda")
        try:
            self.answers.append(function.module.handler(event, Passing()))
        except Exception as error:
            self.failures.append(error)
        finally:
            self._recorder.end_segment()


@pytest.fixture
def observed(
    environment: None,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Observed]:
    """What is told meanwhile; nothing of it was sensitive in the end."""
    import functions.configuration
    import functions.observability as observability

    tables = tmp_path / "sensitive.json"
    tables.write_text(json.dumps({name: made.to_dict() for name, made in TABLES.items()}))
    monkeypatch.setattr(functions.configuration.deployed_tables, "__defaults__", (tables,))
    monkeypatch.setenv("VERIFY_DEEP_SAMPLE", "1")
    monkeypatch.setenv("VERIFY_REPAIR", "true")
    segments, recorder, lines = Segments(), AWSXRayRecorder(), io.StringIO()
    enabled = global_sdk_config.sdk_enabled()
    global_sdk_config.set_sdk_enabled(True)
    recorder.configure(emitter=segments, sampling=False, service="test")
    monkeypatch.setattr(observability.tracer, "disabled", False)
    monkeypatch.setattr(observability.tracer, "provider", recorder)
    monkeypatch.setattr(FakeRuntime, "now", lambda _: 4_000_000_000.0)  # all objects were there before
    stream, others = logging.StreamHandler(lines), logging.StreamHandler(lines)
    stream.setFormatter(observability.logger.registered_formatter)
    observability.logger.addHandler(stream)
    observability.logger.setLevel("DEBUG")
    logging.getLogger().addHandler(others)
    observed = Observed(segments, recorder, lines)
    try:
        yield observed
    finally:
        logging.getLogger().removeHandler(others)
        observability.logger.removeHandler(stream)
        observability.logger.setLevel("INFO")
        global_sdk_config.set_sdk_enabled(enabled)
    printed = capsys.readouterr()
    shown = Shown()
    shown.add(printed.out, printed.err, lines.getvalue(), *segments.sent, observed.answers)
    for error in observed.failures:
        shown.error(error)
    assert shown.leaks() == []
    assert lines.getvalue() and any("handler" in sent for sent in segments.sent)


class Stack:
    """All functions on one pair of buckets."""

    def __init__(self) -> None:
        self.objects = MemoryStore()
        self.data = Breaking(open_data_store(self.objects))
        self.data.breaks = False
        self.index: ObjectStore = open_index_store("memory://")
        self.engine = Engine(self.index, self.data, FakeRuntime())
        for made in TABLES.values():
            self.engine.define(made, managed_by="Shop")

    def put(self, key: str, body: bytes, metadata: dict[str, str]) -> None:
        self.objects.put(key, body, attributes=dict(metadata))

    def function(self, name: str) -> Deployment:
        return deploy(name, engine=self.engine, index=self.index)

    def filled(self) -> Stack:
        keys: dict[str, list[str]] = {}
        for table, key, body, metadata in objects():
            self.put(key, body, metadata)
            keys.setdefault(table, []).append(key)
        for table, listed in keys.items():
            self.engine.reindex(table, listed)
        return self

    def notes(self, folder: str) -> list[bytes]:
        """What functions keep in the index bucket of what they are at."""
        return [self.index.get(GetRequest(listed.key)).body for listed in self.index.list(folder)]


FOREIGN: list[object] = [
    f"no JSON but {MARK}", f'{{"mail": "{MARK}"', json.dumps(GOOD), f'"{MARK}"', {"Records": MARK}, {"Records": [MARK]},
    {"Records": [{"s3": MARK}]}, {"Records": [{"s3": {"object": {"mail": MARK}}}]}, {"backfill": MARK},
    {"backfill": {"mail": MARK}}, {"backfill": {"table": "lines", "keys": [{"mail": MARK}]}}, {"table": "lines", "mail": MARK},
]  # fmt: skip


def test_the_indexer(observed: Observed) -> None:
    """Uploads of all kinds, messages of another producer, bodies that break off, a damaged index."""
    stack = Stack()
    indexer = stack.function("indexer")
    for number, (_, key, body, metadata) in enumerate(objects()):
        stack.put(key, body, metadata)
        observed.call(indexer, {"Records": [created(key, name=str(number), receives=1 + number % 2)]})
    for number, body in enumerate(FOREIGN):
        observed.call(indexer, {"Records": [sqs_record(body, name=f"foreign {number}")]})
    stack.data.breaks = True
    for name in TABLES:
        records = [created(f"{name}/{key}", name=key, sequencer="2") for key in ("good", "metadata0", "bad", "tagged")]
        observed.call(indexer, {"Records": records})
    stack.data.breaks = False
    for name in ("lines", "picked"):
        for _ in damage(stack.index, name):
            observed.call(indexer, {"Records": [created(f"{name}/good", sequencer="3")]})
    assert not observed.failures
    assert observed.lines.getvalue().count("message failed") > 20
    assert "breaks off" in observed.lines.getvalue()


def test_the_compactor(observed: Observed) -> None:
    """A schedule, and messages by others, over an index that is whole and one that is damaged."""
    stack = Stack().filled()
    compactor = stack.function("compactor")
    observed.call(compactor, SCHEDULED)
    for body in [*FOREIGN, {"table": "lines", "view": "by_mail"}]:
        message = sqs_record(body)
        attributes = {**message["attributes"], "MessageGroupId": "g"}
        observed.call(compactor, {"Records": [message | {"attributes": attributes}]})
        observed.call(compactor, {"Records": [message | {"attributes": attributes}, created("lines/good")]})
    for name in ("lines", "picked"):
        for _ in damage(stack.index, name):
            observed.call(compactor, SCHEDULED)
    assert "maintenance failed" in observed.lines.getvalue() and "message failed" in observed.lines.getvalue()
    assert observed.failures


def test_the_verifier(observed: Observed) -> None:
    """It reads all of the objects and repairs: of an index that agrees, of changed objects, of what can't be read."""
    stack = Stack().filled()
    verifier = stack.function("verifier")
    observed.call(verifier, SCHEDULED)
    for name in TABLES:
        for key in ("new", "tagged"):
            stack.put(f"{name}/{key}", json.dumps(GOOD).encode(), {"owner": MARK, "since": MARK})
        stack.put(f"{name}/metadata0", f"not what it was: {MARK}".encode(), {"owner": MARK})
    observed.call(verifier, SCHEDULED)
    assert '"repaired":3' in observed.lines.getvalue().replace(" ", "")
    stack.data.breaks = True
    observed.call(verifier, SCHEDULED)
    assert "breaks off" in observed.lines.getvalue() and "403" in observed.lines.getvalue()
    stack.data.breaks = False
    for name in ("lines", "picked"):
        for _ in damage(stack.index, name):
            observed.call(verifier, SCHEDULED)
    assert "verification failed" in observed.lines.getvalue() and observed.failures
    kept = stack.notes("verify/")
    assert len(kept) == len(TABLES)
    observed.answers += [body.decode() for body in kept]


def test_the_backfiller(observed: Observed) -> None:
    """Jobs that go through, and jobs that fail by a damaged index, a queue that is broken, a bucket that is."""
    stack = Stack().filled()
    backfiller = stack.function("backfiller")
    for name in TABLES:
        stack.engine.start_backfill(name, force=True)
    observed.call(backfiller, SCHEDULED)
    assert backfiller.sqs.sent
    notes: list[str] = []

    def begin_anew(name: str) -> None:
        """As a start does, but for its look at the table, which may be damaged."""
        jobs = stack.engine.jobs
        jobs.save(jobs.load(name), Job(id="1", table=name, target=name, started_at=1.0, updated_at=1.0, force=True))

    for name in ("lines", "picked"):
        for _ in damage(stack.index, name):
            begin_anew(name)
            observed.call(backfiller, SCHEDULED)
            notes += [body.decode() for body in stack.notes("backfills/")]
    backfiller.sqs.broken = True
    begin_anew("cells")
    observed.call(backfiller, SCHEDULED)
    notes += [body.decode() for body in stack.notes("backfills/")]
    errors = {json.loads(note).get("error") for note in notes} - {None}
    assert any("is not a manifest" in error for error in errors) and any("no SQS" in error for error in errors)
    observed.answers += notes


def test_the_registrar(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deployments over an index that is whole and one that is damaged; what CloudFormation is told."""
    told: list[bytes] = []

    def answer(request: urllib.request.Request, timeout: float) -> Any:
        assert isinstance(request.data, bytes)
        told.append(request.data)
        return nullcontext()

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    stack = Stack().filled()
    registrar = stack.function("registrar")
    observed.call(registrar, custom_resource("Create"))
    for name in ("lines", "picked"):
        for _ in damage(stack.index, name):
            observed.call(registrar, custom_resource("Update", OldResourceProperties={"Tables": [name, "gone"]}))
    statuses = [json.loads(body)["Status"] for body in told]
    assert statuses.count("FAILED") > 4 and "SUCCESS" in statuses
    assert "registration failed" in observed.lines.getvalue()
    observed.answers += [body.decode() for body in told]


def test_a_trace_has_nothing_of_an_error_but_its_message(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors hold more than they say: the manifest that came first, the text that a parser stopped at."""
    stack = Stack().filled()
    lost = SwapLostError(Versioned(stack.engine.load("picked").manifest, "etag"))
    parser = json.JSONDecodeError("Expecting value", json.dumps(GOOD), 0)
    for error in (lost, parser):
        for name in ("verifier", "compactor", "backfiller"):
            function = stack.function(name)

            def failing(*_: Any, failure: Exception = error, **options: Any) -> Any:
                raise failure

            for method in ("verify", "manifests", "continue_backfills"):
                monkeypatch.setattr(stack.engine, method, failing)
            observed.call(function, SCHEDULED)
    assert len(observed.failures) == 6
    observed.failures.clear()  # it is the functions that must not show what these hold
