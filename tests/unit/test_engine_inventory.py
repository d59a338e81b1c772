"""Backfills by a report of S3 Inventory: as good as a listing, for what the report names."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest
from enginekit import DEFINITION, TINY, Bench, documents

from bucketdex.definition import TableDefinition
from bucketdex.engine import Depth, Engine, Event, walk
from bucketdex.errors import AccessDeniedError, BackfillError, KeyMissingError, StorageError
from bucketdex.storage import Listed, ObjectStore, open_data_store

URL = "s3://reports/data/daily/2026-01-02T01-00Z/manifest.json"
COLUMNS = ["Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag"]
ODD = ["orders/a b", "orders/a+b", 'orders/é,"x"', "orders/%2F", "orders/\uffff", "orders/\U00010000"]


class Reported(Bench):
    """A bench and a bucket of reports."""

    def __init__(self, objects: int = 9, seed: int = 1) -> None:
        super().__init__(seed)
        self.reports = open_data_store("memory://")
        self.opened: list[str] = []
        self.random = random.Random(seed)
        for key in [*ODD, *(f"orders/{i:03d}" for i in range(objects))]:
            self.put(key, documents(self.random, 2))
        self.engine = self.another()

    def another(self) -> Engine:
        engine = Engine(self.index, self.data, self.runtime, settings=TINY)
        object.__setattr__(engine._means, "open_store", self.open)
        return engine

    def open(self, url: str) -> ObjectStore:
        self.opened.append(url)
        return self.reports

    def report(self, *more: dict[str, str], columns: list[str] = COLUMNS, files: int = 3, **changes: Any) -> None:
        """Writes a report of the data bucket as it is, in no order, its lines spread over files."""
        lines = [
            {
                "Bucket": "data", "Key": quote_plus(item.key, safe="/"), "IsLatest": "true", "IsDeleteMarker": "false",
                "Size": str(item.size), "ETag": item.etag.strip('"'), "VersionId": "1",
                "LastModifiedDate": datetime.fromtimestamp(item.last_modified, UTC).isoformat().replace("+00:00", "Z"),
            }
            for item in self.data.list("")
        ]  # fmt: skip
        lines += [{**lines[0], **line} for line in more]
        self.random.shuffle(lines)
        for number in range(files):
            text = io.StringIO()
            csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
                [line[name] for name in columns] for line in lines[number::files]
            )
            self.reports.put(f"data/daily/data/{number}.csv.gz", gzip.compress(text.getvalue().encode()))
        manifest = {
            "sourceBucket": "data", "destinationBucket": "arn:aws:s3:::reports", "version": "2016-11-30",
            "fileFormat": "CSV", "fileSchema": ", ".join(columns),
            "files": [{"key": f"data/daily/data/{number}.csv.gz", "size": 1} for number in range(files)],
        }  # fmt: skip
        self.reports.put(URL.removeprefix("s3://reports/"), json.dumps(manifest | changes).encode())


class Queue:
    """Pages in memory."""

    def __init__(self) -> None:
        self.pages: list[tuple[str, list[Listed]]] = []

    def send(self, job: str, table: str, due: Any) -> None:
        if due:
            self.pages.append((table, list(due)))

    def depth(self) -> Depth:
        return Depth(len(self.pages), 0)

    def work_off(self, engine: Engine) -> None:
        while self.pages:
            table, due = self.pages.pop(0)
            assert not engine.apply(table, [Event(item.key, size=item.size) for item in due]).failed


@pytest.mark.parametrize("columns", [COLUMNS, ["Bucket", "Key", "ETag"], ["Bucket", "Key", "LastModifiedDate", "Size"]])
def test_a_report_is_as_good_as_a_listing(columns: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", 4)
    bench = Reported()
    bench.report(columns=columns)
    done = bench.engine.backfill("orders", inventory=URL)
    assert (done.listed, done.applied) == (15, 15)
    assert bench.opened == ["s3://reports", "s3://reports"]
    assert bench.contents() == bench.rebuilt()
    again = bench.engine.backfill("orders", inventory=URL)
    assert (again.unchanged, again.due) == (15, 0)
    bench.runtime.clock += 60
    bench.data.put("orders/001", b'{"id": "new", "created_at": "2026-01-01T00:00:00Z"}\n')  # its event is lost
    bench.report({"Key": "orders/001", "LastModifiedDate": "2100-01-01T00:00:00Z"}, columns=columns)
    assert bench.engine.backfill("orders", inventory=URL).due >= 1
    assert bench.contents() == bench.rebuilt()


def test_a_report_that_tells_no_change_is_refused_unless_all_is_read() -> None:
    bench = Reported(3)
    bench.report(columns=["Bucket", "Key", "Size"])
    with pytest.raises(BackfillError, match="have the inventory hold ETag or LastModifiedDate, or use force"):
        bench.engine.backfill("orders", inventory=URL)
    assert bench.engine.backfill("orders", inventory=URL, force=True).applied == 9
    assert bench.contents() == bench.rebuilt()


def test_old_versions_delete_markers_and_keys_of_others_are_passed_over() -> None:
    bench = Reported(3)
    bench.put("photos/1", [])
    bench.report(
        {"Key": "orders/old", "IsLatest": "false"},
        {"Key": "orders/gone", "IsDeleteMarker": "true"},
    )
    assert bench.engine.backfill("orders", inventory=URL).listed == 9
    assert bench.engine.backfill("orders", inventory=URL, prefix="orders/00", force=True).listed == 3


def test_what_changed_after_the_report_is_looked_at_as_it_is_now() -> None:
    bench = Reported(4)
    bench.report({"Key": "orders/deleted"})
    bench.put("orders/000", documents(bench.random, 3))  # its event is lost
    bench.apply("orders/001")
    bench.data.delete_many(["orders/002"])
    done = bench.engine.backfill("orders", inventory=URL)
    assert not done.failed and done.unchanged == 1
    assert bench.contents() == bench.rebuilt()


def test_a_newer_row_than_the_report_is_not_due() -> None:
    bench = Reported(2)
    bench.report({"Key": "orders/000", "LastModifiedDate": "2001-01-01T00:00:00.000Z", "ETag": "older"})
    bench.apply("orders/000", "orders/001", *ODD)
    assert bench.engine.backfill("orders", inventory=URL).due == 0


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_job_goes_on_in_the_middle_of_a_report(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PAGE_KEYS", 2)
    bench, queue = Reported(), Queue()
    bench.report({"Key": "orders/deleted"})
    bench.runtime.clock = 4e9
    bench.engine.start_backfill("orders", inventory=URL)
    sent = 0
    for _ in range(30):
        engine = bench.another()  # as after a crash
        bench.runtime.clock += 30
        left = iter([True] * steps)
        (job,) = engine.continue_backfills(queue, in_time=lambda left=left: next(left, False)) or [None]
        if job is None:
            break
        assert job.sent >= sent
        sent = job.sent
        queue.work_off(engine)
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and (saved.job.state, saved.job.number, saved.job.sent) == ("done", 1, 16)
    assert bench.contents() == bench.rebuilt()


def test_it_waits_for_the_queue_before_it_is_done() -> None:
    bench, queue = Reported(2), Queue()
    bench.report()
    bench.engine.start_backfill("orders", inventory=URL)
    bench.engine.continue_backfills(queue, in_time=iter([True] * 12 + [False]).__next__)
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and (saved.job.state, saved.job.walked) == ("running", True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fileFormat": "ORC"}, "is in ORC: choose CSV as the inventory's output format"),
        ({"fileFormat": "Parquet"}, "is in Parquet: choose CSV"),
        ({"fileSchema": 7}, "is no manifest of S3 Inventory"),
        ({"fileSchema": "Bucket, Size"}, "has no keys, but Bucket, Size: choose another report"),
        ({"fileSchema": "Bucket, Key, ETag"}, "data/daily/data/0.csv.gz is damaged: it has 8 columns"),
    ],
)
def test_other_reports_are_refused_with_the_remedy(changes: dict[str, Any], said: str) -> None:
    bench, queue = Reported(1), Queue()
    bench.report(**changes)
    with pytest.raises(BackfillError, match=said):
        bench.engine.backfill("orders", inventory=URL)
    if "damaged" not in said:  # which only its lines tell
        with pytest.raises(BackfillError, match=said):
            bench.engine.start_backfill("orders", inventory=URL)
        assert bench.engine.jobs.load("orders") is None, "it isn't started"
    bench.report()
    bench.engine.start_backfill("orders", inventory=URL)
    bench.report(**changes)
    bench.engine.continue_backfills(queue)
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and saved.job.state == "failed" and said.split(":")[0] in str(saved.job.error)
    bench.engine.start_backfill("orders")


def test_a_report_that_is_not_there_ends_it_at_the_start_or_in_a_turn() -> None:
    bench, queue = Reported(1), Queue()
    with pytest.raises(BackfillError, match=f"there is no report {URL}: give the URL of a manifest that is there"):
        bench.engine.start_backfill("orders", inventory=URL)
    bench.report(files=1)
    bench.engine.start_backfill("orders", inventory=URL)
    bench.reports.delete_many(["data/daily/data/0.csv.gz"])  # they expire
    bench.engine.continue_backfills(queue)
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and saved.job.state == "failed" and "use a newer report" in str(saved.job.error)


def test_a_report_that_cannot_be_read_from_here_is_left_to_the_backfiller(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Reported(1)

    def denied(_: object) -> None:
        raise AccessDeniedError("403")

    monkeypatch.setattr(bench.reports, "get", denied)
    assert bench.engine.start_backfill("orders", inventory=URL).inventory == URL
    bench.engine.cancel_backfill("orders")
    with pytest.raises(BackfillError, match="give the URL of its manifest"):
        bench.engine.start_backfill("orders", inventory=URL.removesuffix("/manifest.json"))


def test_a_report_is_taken_where_the_data_bucket_is_not_known() -> None:
    bench = Reported(1)
    bench.report()
    engine = Engine(bench.index, bench.index, bench.runtime, settings=TINY)  # as a Database without one makes it
    object.__setattr__(engine._means, "open_store", bench.open)
    bench.index.url = "s3://index"
    assert engine.start_backfill("orders", inventory=URL).inventory == URL


def test_a_report_of_another_bucket_is_refused() -> None:
    bench = Reported(1)
    bench.report(sourceBucket="other")
    for url in ("s3://data", "s3://data/below"):
        bench.data.url = url
        with pytest.raises(BackfillError, match="is of bucket other, the data in s3://data"):
            bench.engine.backfill("orders", inventory=URL)


def test_data_below_a_prefix_of_its_bucket() -> None:
    bench = Reported(0)
    bench.report({"Key": "below/orders/000"}, {"Key": "elsewhere/orders/000"})
    bench.put("orders/000", documents(bench.random, 2))
    bench.data.url = "s3://data/below"
    done = bench.engine.backfill("orders", inventory=URL)
    assert (done.listed, done.applied) == (1, 1)


@pytest.mark.parametrize(
    "url", ["s3://reports/data", "reports/manifest.json", "https://x/manifest.json", "s3:///manifest.json"]
)
def test_what_is_no_url_of_a_report(url: str) -> None:
    with pytest.raises(BackfillError, match="give the URL of its manifest"):
        Reported(0).engine.backfill("orders", inventory=url)


def test_damage_is_an_error() -> None:
    bench = Reported(3)
    bench.report(files=1)
    key = "data/daily/data/0.csv.gz"
    body = bench.reports.open(key).chunks()
    bench.reports.put(key, b"".join(body)[:-9])
    with pytest.raises(BackfillError, match="is damaged"):
        bench.engine.backfill("orders", inventory=URL)
    bench.reports.delete_many([key])
    with pytest.raises(BackfillError, match=r"0\.csv\.gz of the report is gone: use a newer report"):
        bench.engine.backfill("orders", inventory=URL)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"Size": "12 kB"}, "line 1 of memory://.*/data/daily/data/0.csv.gz is damaged: .*12 kB.*use another report"),
        ({"LastModifiedDate": "yesterday"}, "line 1 of .*yesterday"),
        ({"Key": "orders/%FF"}, "line 1 of .* can't decode byte"),
    ],
)
def test_a_line_that_cannot_be_read_ends_its_backfill_and_no_other(line: dict[str, str], said: str) -> None:
    bench, queue = Reported(0), Queue()
    for item in list(bench.data.list("")):
        bench.data.delete_many([item.key])
    bench.put("orders/1", [])
    bench.report(line)
    bench.data.delete_many(["orders/1"])
    bench.put("zebra/1", documents(bench.random, 1))
    zebra = {"source": {"prefix": "zebra/", "format": "ndjson"}}
    bench.engine.define(TableDefinition.from_dict("zebra", DEFINITION.to_dict() | zebra))
    bench.runtime.clock = 4e9
    bench.engine.start_backfill("orders", inventory=URL)
    bench.engine.start_backfill("zebra")
    bench.engine.continue_backfills(queue, in_time=iter([True] * 20 + [False]).__next__)
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and saved.job.state == "failed"
    assert re.search(said.replace("line 1", "line [12]").replace("0.csv", "[01].csv"), str(saved.job.error))
    assert [table for table, _ in queue.pages] == ["zebra"]


def test_text_that_is_none_is_an_error() -> None:
    bench = Reported(3)
    bench.report(files=1)
    bench.reports.put("data/daily/data/0.csv.gz", b'"data","orders/\xff"\n')
    with pytest.raises(BackfillError, match=r"0\.csv\.gz is damaged after line 0: .* can't decode byte"):
        bench.engine.backfill("orders", inventory=URL)


@pytest.mark.parametrize("place", ["orders/003", "3:0", "0", ":", "-1:0", "0:" + "9" * 5000])
def test_a_key_is_no_place_in_a_report(place: str) -> None:
    bench = Reported(3)
    bench.report()
    with pytest.raises(BackfillError, match="with an inventory, start_after is a file and a line of it"):
        bench.engine.backfill("orders", inventory=URL, start_after=place)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyMissingError("404"), "there is no report s3://reports/.*: give the URL of a manifest that is there"),
        (StorageError("get x: 404 NoSuchBucket"), "there is no report s3://reports/.*"),
        (AccessDeniedError("403"), "may not be read: see the construct's inventory_bucket"),
    ],
)
def test_a_report_that_is_not_there_ends_its_backfill(
    error: StorageError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, queue = Reported(3), Queue()

    def get(_: object) -> None:
        raise error

    bench.report()
    bench.engine.start_backfill("orders", inventory=URL)
    monkeypatch.setattr(bench.reports, "get", get)
    bench.engine.continue_backfills(queue)
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and saved.job.state == "failed" and re.search(said, str(saved.job.error))


def test_messages_of_a_report_that_keep_failing_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, queue = Reported(2), Queue()
    bench.report()
    bench.engine.start_backfill("orders", inventory=URL)
    monkeypatch.setattr(queue, "depth", lambda: Depth(0, 1))
    bench.engine.continue_backfills(queue)
    saved = bench.engine.jobs.load("orders")
    assert saved is not None and saved.job.state == "failed" and "have been failing" in str(saved.job.error)
