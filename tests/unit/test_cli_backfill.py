"""`bucketdex backfill start|status|pause|resume|cancel`: the job that a deployment works off."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from enginekit import DEFINITION, Bench, documents

from bucketdex.cli.main import main
from bucketdex.cli.session import Session
from bucketdex.client import Database
from bucketdex.definition import TableDefinition
from bucketdex.engine import Depth, Event

Run = Callable[..., tuple[int, str, str]]


class Aws:
    """CloudFormation and Lambda, as far as a start asks them."""

    def __init__(self) -> None:
        self.invoked: list[dict[str, Any]] = []
        self.outputs = {"IndexBucketName": "index", "BackfillerName": "Shop-Backfiller"}

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803 (as boto3 names it)
        assert StackName == "Shop"
        return {"Stacks": [{"Outputs": [{"OutputKey": n, "OutputValue": v} for n, v in self.outputs.items()]}]}

    def invoke(self, **arguments: Any) -> None:
        self.invoked.append(arguments)


class Queue:
    """Takes all and tells nothing."""

    def send(self, job: str, table: str, due: Any) -> None:
        pass

    def depth(self) -> Depth:
        return Depth(0, 0)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    aws = Aws()
    monkeypatch.setattr(boto3, "client", lambda _: aws)
    return aws


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.engine.define(DEFINITION, managed_by="Shop")
    for i in range(5):
        bench.put(f"orders/{i}", documents(random.Random(i), 1))
    bench.runtime.clock = 4e9
    return bench


@pytest.fixture
def run(bench: Bench, aws: Aws, capsys: pytest.CaptureFixture[str]) -> Run:
    database = Database(bench.index, bench.data, runtime=bench.runtime)

    def run(*arguments: str) -> tuple[int, str, str]:
        group = {"rebuild": ["rebuild"], "table-status": ["status"]}.get(arguments[0], ["backfill", arguments[0]])
        code = main([*group, *arguments[1:]], started=Session(lambda _: database))
        return code, *capsys.readouterr()

    return run


def changed() -> TableDefinition:
    """The definition with one more field, for which every object has to be read again."""
    plain: dict[str, Any] = DEFINITION.to_dict()
    return TableDefinition.from_dict("orders", plain | {"fields": plain["fields"] | {"note": "string"}})


def status(run: Run) -> dict[str, Any]:
    code, out, _ = run("status", "orders", "-f", "json")
    assert code == 0
    told: dict[str, Any] = json.loads(out)
    return told


def test_its_way_from_the_start_to_the_end(run: Run, bench: Bench, aws: Aws) -> None:
    assert run("status", "orders") == (0, "", "table orders has had no backfill\n")
    code, out, err = run("start", "orders", "--rate", "100", "--prefix", "orders/", "--force")
    assert (code, out) == (0, "") and "bucketdex backfill status orders" in err and "15 minutes" not in err
    wake = {"FunctionName": "Shop-Backfiller", "InvocationType": "Event", "Payload": b"{}"}
    assert aws.invoked == [wake]
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and (saved.job.rate, saved.job.prefix, saved.job.force) == (100, "orders/", True)
    code, _, err = run("start", "orders")
    assert code == 1 and "cancel it first" in err

    assert run("pause", "orders")[0] == 0 and status(run)["state"] == "paused"
    assert run("resume", "orders")[0] == 0 and aws.invoked == [wake, wake]
    bench.runtime.clock += 10
    bench.engine.continue_backfills(Queue(), in_time=iter([True, True, False]).__next__)
    told = status(run)
    assert (told["state"], told["pass"], told["sent"], told["left"], told["rate"]) == ("running", 1, 5, 5, 0.5)
    bench.apply(*(f"orders/{i}" for i in range(5)))
    bench.engine.continue_backfills(Queue())
    told = status(run)
    assert (told["state"], told["pass"], told["objects_left"], told["error"]) == ("done", 2, 0, None)
    for command in ("pause", "resume", "cancel"):
        code, _, err = run(command, "orders")
        assert code == 1 and "is done" in err

    assert run("start", "orders")[0] == 0 and run("cancel", "orders")[0] == 0
    assert status(run)["state"] == "cancelled"


def test_a_failed_one_exits_with_1(run: Run, bench: Bench) -> None:
    run("start", "orders")
    bench.engine.continue_backfills(Queue())  # nobody indexes what it sends
    code, out, _ = run("status", "orders")
    assert code == 1 and "see the dead letters" in out


def test_a_dry_run_starts_nothing(run: Run, bench: Bench, aws: Aws) -> None:
    code, out, _ = run("start", "orders", "--dry-run", "-f", "json")
    told = json.loads(out)
    assert (code, told["due"], told["reads_estimated"] > 5, aws.invoked) == (0, 5, True, [])
    assert bench.engine.jobs.load("orders") is None


def test_a_dry_run_covers_what_the_deployment_pays(run: Run) -> None:
    code, out, err = run("start", "orders", "--dry-run", "-f", "json")
    told = json.loads(out)
    assert code == 0 and told["dollars_by_service"].keys() == {"S3", "SQS", "Lambda"}
    assert told["dollars_estimated"] == pytest.approx(sum(told["dollars_by_service"].values()), abs=1e-5)
    assert "S3, SQS, Lambda" in err and "us-east-1" in err
    code, out, err = run("run", "orders", "--dry-run", "-f", "json")
    assert code == 0 and "dollars_by_service" not in json.loads(out) and "by this process" in err


def test_a_dry_run_is_of_what_a_start_would_build(run: Run, bench: Bench, aws: Aws) -> None:
    bench.apply(*(f"orders/{i}" for i in range(5)))
    assert json.loads(run("start", "orders", "--dry-run", "-f", "json")[1])["due"] == 0
    bench.engine.define(changed(), managed_by="Shop")
    assert json.loads(run("start", "orders", "--dry-run", "-f", "json")[1])["due"] == 5
    assert json.loads(run("run", "orders", "--dry-run", "-f", "json")[1])["due"] == 0, "that one is of the live table"
    code, _, err = run("start", "orders", "--dry-run", "--prefix", "orders/1")
    assert code == 1 and "start it without a prefix" in err
    assert bench.engine.jobs.load("orders") is None and aws.invoked == []


@pytest.mark.parametrize("here", [[], ["--here"]])
def test_a_dry_run_of_a_rebuild_counts_everything_and_begins_none(
    here: list[str], run: Run, bench: Bench, aws: Aws
) -> None:
    bench.apply(*(f"orders/{i}" for i in range(5)))
    code, out, err = run("rebuild", "orders", *here, "--dry-run", "-f", "json")
    told = json.loads(out)
    assert (code, told["due"], told["reads_estimated"] > 5) == (0, 5, True)
    assert ("by this process" in err) == bool(here)
    assert bench.engine.successor("orders") is None and bench.engine.jobs.load("orders") is None and aws.invoked == []
    successor = bench.engine.rebuild("orders")
    assert not bench.engine.apply(successor, [Event("orders/1")]).failed
    assert json.loads(run("rebuild", "orders", *here, "--dry-run", "-f", "json")[1])["due"] == 4, "it goes on with that"


def test_what_is_no_report_starts_nothing(run: Run, bench: Bench, aws: Aws) -> None:
    code, out, err = run("start", "orders", "--inventory", "s3://reports/orders")
    assert (code, out, "started" in err) == (1, "", False) and "give the URL of its manifest" in err
    assert bench.engine.jobs.load("orders") is None and aws.invoked == []


def test_where_the_function_cannot_be_told_its_schedule_begins(run: Run, bench: Bench, aws: Aws) -> None:
    del aws.outputs["BackfillerName"]
    code, _, err = run("start", "orders")
    assert code == 0 and "within 15 minutes" in err and "no output BackfillerName" in err
    assert bench.engine.jobs.load("orders") is not None
    run("pause", "orders")
    code, _, err = run("resume", "orders")
    assert code == 0 and "within 15 minutes" in err


def test_a_table_of_no_stack_is_backfilled_here(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    database = Database(bench.index, bench.data, runtime=bench.runtime)
    assert main(["backfill", "start", "orders"], started=Session(lambda _: database)) == 1
    assert "no stack manages table 'orders'" in capsys.readouterr().err
    assert bench.engine.jobs.load("orders") is None


def test_a_rebuild_of_a_deployed_table_is_worked_off_by_its_stack(run: Run, bench: Bench, aws: Aws) -> None:
    bench.apply(*(f"orders/{i}" for i in range(5)))
    code, out, err = run("rebuild", "orders", "--rate", "7")
    assert (code, out) == (0, "") and "backfill status orders" in err and len(aws.invoked) == 1
    job = status(run)
    successor = bench.engine.successor("orders")
    assert (job["target"], job["objects_left"]) == (successor, 5)
    assert run("rebuild", "orders")[0] == 0 and bench.engine.successor("orders") == successor
    assert run("rebuild", "orders", "--here")[1] == "orders is rebuilt\n"
    assert bench.engine.successor("orders") is None and bench.contents() == bench.rebuilt()
    bench.engine.continue_backfills(Queue())
    assert status(run)["state"] == "done"


def test_a_rebuild_that_is_paused_is_refused_with_the_remedy(run: Run, bench: Bench, aws: Aws) -> None:
    assert run("rebuild", "orders", "--rate", "7")[0] == 0
    code, _, err = run("rebuild", "orders", "--rate", "8")
    assert code == 0 and "keeps its rate" in err
    run("pause", "orders")
    woken = len(aws.invoked)
    code, _, err = run("rebuild", "orders")
    assert code == 1 and "is paused: resume it, or cancel it first" in err and "started" not in err
    assert status(run)["state"] == "paused" and len(aws.invoked) == woken
    run("resume", "orders")
    code, _, err = run("rebuild", "orders", "--rate", "7")
    assert code == 0 and "keeps its rate" not in err and status(run)["state"] == "running"


def test_what_a_cancelled_backfill_leaves_is_said_with_the_remedy(run: Run, bench: Bench) -> None:
    """Until somebody acts, each upload is indexed twice."""

    def said() -> list[bool]:
        errs = [run("status", "orders")[2]]
        for form in ("table", "json", "csv"):
            errs.append(run("table-status", "orders", "-f", form)[2])
        return ["indexed twice" in err and "backfill start orders" in err for err in errs]

    bench.apply("orders/1")
    assert said() == [False] * 4
    bench.engine.define(changed(), managed_by="Shop")
    assert said() == [True] * 4, "nobody builds it"
    run("start", "orders")
    assert said() == [False] * 4
    run("pause", "orders")
    assert said() == [False] * 4, "that is somebody's decision"
    code, out, err = run("cancel", "orders")
    assert (code, out) == (0, "the backfill of orders is cancelled\n")
    assert (
        "indexed twice" in err and "backfill start orders" in err and "a deployment of the definition as it was" in err
    )
    assert said() == [True] * 4
    assert run("start", "orders")[0] == 0 and said() == [False] * 4
    run("cancel", "orders")
    bench.engine.define(DEFINITION, managed_by="Shop")
    assert said() == [False] * 4


def test_a_successor_of_a_table_of_no_stack(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    bench.put("orders/1", documents(random.Random(1), 2))
    bench.apply("orders/1")
    bench.engine.define(changed())
    database = Database(bench.index, bench.data, runtime=bench.runtime)
    assert main(["status", "orders"], started=Session(lambda _: database)) == 0
    assert "bucketdex rebuild orders goes on with it" in capsys.readouterr().err


def test_a_cancelled_backfill_takes_no_rebuild_with_it_that_another_process_makes(run: Run, bench: Bench) -> None:
    run("start", "orders")
    successor = bench.engine.rebuild("orders")
    code, _, err = run("cancel", "orders")
    assert code == 0 and bench.engine.successor("orders") == successor
    assert "backfill start orders has it do so; a cancel after that gives it up" in err
    assert run("start", "orders")[0] == 0 and run("cancel", "orders")[2] == ""
    assert bench.engine.successor("orders") is None


def test_a_rebuild_is_given_up_with_its_backfill_and_a_changed_definition_is_not(run: Run, bench: Bench) -> None:
    bench.apply(*(f"orders/{i}" for i in range(5)))
    run("rebuild", "orders")
    code, _, err = run("cancel", "orders")
    assert (code, err) == (0, "")
    assert bench.engine.successor("orders") is None
    bench.engine.define(changed(), managed_by="Shop")
    successor = bench.engine.successor("orders")
    assert run("start", "orders")[0] == 0 and status(run)["target"] == successor
    assert run("cancel", "orders")[0] == 0 and bench.engine.successor("orders") == successor


def test_a_rebuild_of_a_table_of_no_stack(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    bench.put("orders/1", documents(random.Random(1), 2))
    database = Database(bench.index, bench.data, runtime=bench.runtime)
    assert main(["rebuild", "orders"], started=Session(lambda _: database)) == 0
    assert "is rebuilt" in capsys.readouterr().out and bench.contents() == bench.rebuilt()
