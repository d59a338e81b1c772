"""The command line as a person runs it: processes against the deployed stack."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest

from tests.local.conftest import TABLES, Pipeline

KEY = "orders/cli.ndjson"


def bucketdex(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with this process's environment, which means the emulator."""
    command = [sys.executable, "-m", "bucketdex", *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def uploaded(pipeline: Pipeline) -> Pipeline:
    common = {"customer": {"id": "cli"}, "country": "PT", "quantity": 1}
    pipeline.put(
        KEY,
        {"id": "cli-1", "amount": "100", **common},
        {"id": "cli-2", "amount": "12.34", **common},
        {"id": "cli-3", "amount": "many", **common},
    )
    pipeline.settle()
    return pipeline


def test_queries(uploaded: Pipeline) -> None:
    ran = bucketdex("query", "orders", "--where", "country=PT", "--where", "amount >= 100", "--format", "json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [(row["id"], row["amount"], row["_key"]) for row in json.loads(ran.stdout)] == [("cli-1", "100", KEY)]
    ran = bucketdex(
        "query", "orders", "--where", "country=PT", "--order-by", "-amount", "--limit", "1", "--format", "csv"
    )
    assert [row["id"] for row in csv.DictReader(io.StringIO(ran.stdout))] == ["cli-1"]
    ran = bucketdex("rejects", "orders", "--format", "json")
    assert (KEY, "amount", "many") in [(row["_key"], row["field"], row["value"]) for row in json.loads(ran.stdout)]
    ran = bucketdex("summary", "orders", "revenue", "--where", "country=PT", "--format", "json")
    assert [group["orders"] for group in json.loads(ran.stdout)] == [2]


def test_the_index_may_be_an_option(uploaded: Pipeline) -> None:
    index = os.environ["BUCKETDEX_INDEX"]
    assert bucketdex("tables", BUCKETDEX_INDEX="").returncode == 1
    ran = bucketdex("tables", "--index", index, "--format", "json", BUCKETDEX_INDEX="")
    assert {table["table"] for table in json.loads(ran.stdout)} == {path.stem for path in TABLES.glob("*.toml")}


def test_status_and_compaction(uploaded: Pipeline) -> None:
    before = bucketdex("query", "orders", "--where", "country=PT", "--order-by", "amount", "--format", "csv").stdout
    assert bucketdex("compact", "orders").returncode == 0
    assert (
        bucketdex("query", "orders", "--where", "country=PT", "--order-by", "amount", "--format", "csv").stdout
        == before
    )
    status = json.loads(bucketdex("status", "orders", "--format", "json").stdout)
    assert status["managed_by"] == "Pipeline"
    assert status["rejects"] >= 1


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("query", "nope"), {}),
        (("query", "orders", "--where", "amount > 3"), {}),
        (("query", "orders", "--where", "amount >"), {}),
        (("tables",), {"BUCKETDEX_INDEX": "s3://no-such-bucket-of-ours"}),
        (("status", "orders"), {"BUCKETDEX_INDEX": "s3://no-such-bucket-of-ours"}),
        (("tables",), {"BUCKETDEX_INDEX": "file:///tmp"}),
        (("status", "orders"), {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}),
    ],
)
def test_errors_are_one_line_and_exit_code_1(
    uploaded: Pipeline, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    ran = bucketdex(*arguments, **variables)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1, ran.stderr
