"""Backfill and verify against S3 itself, as the emulator plays it: listings in pages, odd keys, times, ETags."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from bucketdex import Database, Table, TableDefinition
from bucketdex.engine import Difference
from bucketdex.local import emulator

pytestmark = pytest.mark.local

DATA, INDEX = "repair-data", "repair-index"
ODD_KEYS = [
    "", "/", "/lead", "a//b", "..", "a/../b", "c\x01d", "c\x01", "c", "x\n", "\x7f", "plus+plus", "per%2Fcent%",
    "é" * 500, "\U00010000", "\uffff", "\ufeffbom", " ", "#q?x=1&y", "<>&\"", "tab\t/\r",
]  # fmt: skip
KEYS = [f"t/{key}" for key in [*ODD_KEYS, *(f"{i:04d}" for i in range(1_010))]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("emulator")
    deployment = emulator.start(directory=home)
    try:
        with deployment.environment():
            client = boto3.client("s3")
            for bucket in (DATA, INDEX):
                client.create_bucket(Bucket=bucket)
            yield client
    finally:
        emulator.stop(directory=home)


@pytest.fixture(scope="module")
def table(client: Any) -> Table:
    def put(key: str) -> None:
        client.put_object(Bucket=DATA, Key=key, Body=b'{"n": %d}' % len(key))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, KEYS))
    definition = {
        "source": {"prefix": "t/", "format": "json"},
        "fields": {"n": "int", "team": {"type": "string", "from": "metadata"}},
        "indexes": {"by_n": ["n"]},
    }
    return Database(f"s3://{INDEX}", f"s3://{DATA}").create_table(TableDefinition.from_dict("t", definition))


def test_every_object_is_listed_and_indexed_once(table: Table) -> None:
    done = table.backfill()
    assert (done.listed, done.applied, done.failed) == (len(KEYS), len(KEYS), {})
    again = table.backfill()
    assert (again.unchanged, again.due) == (len(KEYS), 0), "a listing and a GET tell the same ETag and time"
    assert sorted(table.keys()) == sorted(KEYS) and table.count() == len(KEYS)
    found = table.verify(deep=True)
    assert found.is_good and found.read == len(KEYS) and found.found == 0


def test_lost_events_are_found_and_repaired(client: Any, table: Table) -> None:
    table.backfill()
    client.put_object(Bucket=DATA, Key="t/c\x01", Body=b'{"n": -1}')
    client.put_object(Bucket=DATA, Key="t/\ue000", Body=b'{"n": -2}')
    for key in ("t/0000", "t/\U00010000", "t/"):
        client.delete_object(Bucket=DATA, Key=key)
    expected = [("t/", "extra"), ("t/0000", "extra"), ("t/c\x01", "stale"), ("t/\ue000", "missing")]
    expected.append(("t/\U00010000", "extra"))
    assert table.verify(settle_seconds=0.1).differences == [Difference(key, kind) for key, kind in expected]
    assert table.verify(repair=True, settle_seconds=0.1).is_good
    assert table.verify(deep=True, settle_seconds=0.1).found == 0
    assert sorted(row["n"] for row in table.allow_scan().order_by("n").limit(2)) == [-2, -1]


def test_a_copy_that_changes_only_metadata(client: Any, table: Table) -> None:
    table.backfill()
    before = client.head_object(Bucket=DATA, Key="t/0005")
    time.sleep(1.1)  # S3 tells times in whole seconds
    client.copy_object(
        Bucket=DATA, Key="t/0005", CopySource={"Bucket": DATA, "Key": "t/0005"}, MetadataDirective="REPLACE",
        Metadata={"team": "red"},
    )  # fmt: skip
    assert client.head_object(Bucket=DATA, Key="t/0005")["ETag"] == before["ETag"]
    assert table.backfill().applied == 1
    assert table.get("t/0005")["team"] == "red"
