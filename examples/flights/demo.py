"""336,776 flights through the whole deployment on this machine: upload, ask, overwrite, delete, and check each answer.

`make demo` runs it, `make demo-stop` deletes what it leaves running. It exits with 1 if an answer differs from that of
plain Python over the same files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import boto3
from answers import Row, monthly, rows
from botocore.config import Config
from objects import Objects, split
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bucketdex import Database, col, local
from bucketdex.cli.output import Format, write_facts, write_rows
from bucketdex.cli.progress import steps
from bucketdex.errors import BucketdexError

UPLOADERS = 16
INDEXED_TIMEOUT_S = 600.0
COMPACTED_TIMEOUT_S = 120.0
LIVE_DELTAS, LIVE_RUNS = 10, 8  # so few wait for the next compaction
POLL_S = 0.5
SAY_S = 10.0
TABLES = ("flights", "flights_ndjson")
PREFIX = "flights/"
COLUMNS = ("time", "carrier", "flight", "tailnum", "origin", "dest", "dep_delay")
SHOWN = 5

TAIL = "N997DL"
DESTINATION = "HNL"
FROM, TO = datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 7, 8, tzinfo=UTC)
CARRIER, MONTH = "B6", "2013-02"
OVERWRITTEN = "flights/JFK/2013-02-08.csv"  # the day a blizzard came
DELETED = "flights/JFK/2013-02-11.csv"
BROKEN = "flights/JFK/2014-01-01.csv"
BROKEN_BODY = (
    b"time_hour,carrier,flight,tailnum,dest,dep_delay,arr_delay,air_time,distance\n"
    b"2014-01-01T10:00:00Z,B6,1,N503JB,FLL,late,0,160,1069\n"
    b"sometime,B6,2,N504JB,MCO,3,0,140,944\n"
    b"2014-01-01T11:00:00Z,B6,3,N505JB,LAX,12,0,330,2475\n"
)


class Demo:
    """The uploads and questions, and the state of the files that the answers are checked against."""

    def __init__(self, deployment: local.Deployment) -> None:
        self._s3 = boto3.client("s3", config=Config(max_pool_connections=UPLOADERS))
        self._bucket = deployment.outputs["DataBucketName"]
        self._db = Database()
        self._objects: Objects = {}
        self._answers: list[Row] = []
        self._wrong = 0

    def run(self) -> bool:
        """Everything, in order. Whether all answers were right."""
        self._clear()
        self._ingest()
        self._lookup()
        self._range()
        before = self._summary("the summary of JetBlue's February")
        self._overwrite()
        self._differs(before, self._summary("the same summary after the overwrite"))
        self._delete()
        self._differs(before, self._summary("the same summary after the delete"))
        self._rejects()
        heading("all answers equal those of plain Python" if not self._wrong else f"{self._wrong} ANSWERS DIFFER")
        return not self._wrong

    def _clear(self) -> None:
        """Deletes what an earlier run uploaded, through the bucket like everything."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=PREFIX)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        if keys:
            heading(f"deleting the {len(keys):,} objects of an earlier run")
            self._at_once(self._remove, keys, "deleting")
            self._wait(lambda: sum(self._counts()) == 0)

    def _ingest(self) -> None:
        heading("splitting the flights into an object an airport and day")
        self._change(split())
        bodies = sum(map(len, self._objects.values()))
        ndjson = sum(key.endswith(".ndjson") for key in self._objects)
        print(f"{len(self._objects):,} objects, {bodies / 1e6:.0f} MB, {ndjson} of them NDJSON, the others CSV")
        heading("uploading")
        began = time.monotonic()
        self._at_once(lambda item: self._upload(*item), self._objects.items(), "uploading")
        print(f"uploaded in {time.monotonic() - began:.1f} s")
        self._wait_for("indexed", lambda: sum(self._counts()), len(self._answers))
        print(f"{len(self._answers):,} flights indexed {time.monotonic() - began:.1f} s after the first upload began")
        began = time.monotonic()
        with steps("compacting"):
            done = self._arrives(self._compacted, COMPACTED_TIMEOUT_S)
        print(f"{'compacted' if done else 'not yet compacted'} {time.monotonic() - began:.1f} s later")

    def _lookup(self) -> None:
        expected = [row for row in self._answers if row["tailnum"] == TAIL]
        for note in ("cold", "warm"):
            heading(f"lookup: every flight of {TAIL} ({note})")
            found = [self._timed(self._db.table(name).where(tailnum=TAIL)) for name in TABLES]
            self._check([*chain(*found)], expected)
        show(found[0])

    def _range(self) -> None:
        heading(f"range: to {DESTINATION} in the first week of July, by time")
        query = self._db.table("flights").where(col.time >= FROM, col.time < TO, dest=DESTINATION).order_by("-time")
        found = self._timed(query)
        expected = [row for row in self._answers if row["dest"] == DESTINATION and FROM <= row["time"] < TO]
        self._check(found, expected)
        self._expect([row["time"] for row in found], sorted((row["time"] for row in expected), reverse=True))
        show(found)

    def _summary(self, title: str) -> Row:
        heading(title)
        summary = self._db.table("flights").summary("monthly")
        found = self._timed(summary.where(carrier=CARRIER, time_month=MONTH))
        self._expect(found, [monthly(self._answers, CARRIER, MONTH)])
        write_facts(found[0])
        return found[0]

    def _overwrite(self) -> None:
        heading(f"overwriting {OVERWRITTEN}: without the flights that were cancelled")
        lines = self._objects[OVERWRITTEN].splitlines(keepends=True)
        place = lines[0].split(b",").index(b"dep_time")
        kept = b"".join(line for line in lines if line.split(b",")[place] != b"NA")
        self._change({OVERWRITTEN: kept})
        self._upload(OVERWRITTEN, kept)
        self._wait_for_key(OVERWRITTEN)

    def _delete(self) -> None:
        heading(f"deleting {DELETED}")
        del self._objects[DELETED]
        self._change({})
        self._remove(DELETED)
        self._wait_for_key(DELETED)

    def _rejects(self) -> None:
        heading(f"uploading {BROKEN}: two of its three lines are broken")
        self._upload(BROKEN, BROKEN_BODY)
        table = self._db.table("flights")
        self._wait(lambda: any(item["_key"] == BROKEN for item in table.rejects()))
        rejects = [item for item in table.rejects() if item["_key"] == BROKEN]
        write_rows(rejects, ("_key", "line", "field", "value", "reason"), Format.TABLE)
        self._expect([(item["line"], item["field"]) for item in rejects], [(2, "dep_delay"), (3, "time")])
        good = self._timed(table.where(_key=BROKEN))
        self._expect([row["flight"] for row in good], [3])

    def _change(self, changed: Objects) -> None:
        self._objects |= changed
        self._answers = list(rows(self._objects))

    def _upload(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)

    def _remove(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    def _counts(self) -> list[int]:
        return [self._db.table(name).where().count() for name in TABLES]

    def _at_once(self, work: Callable[[Any], None], items: Iterable[Any], title: str) -> None:
        todo = list(items)
        with bar() as progress, ThreadPoolExecutor(UPLOADERS) as pool:
            task = progress.add_task(title, total=len(todo))
            for _ in pool.map(work, todo):
                progress.advance(task)

    def _wait_for(self, title: str, indexed: Callable[[], int], wanted: int) -> None:
        """Waits until as many rows are indexed; a bar on a terminal, a line now and then elsewhere."""
        with bar() as progress:
            task = progress.add_task(title, total=max(wanted, 1))

            said = time.monotonic()

            def arrived() -> bool:
                nonlocal said
                now = indexed()
                progress.update(task, completed=now)
                if progress.disable and time.monotonic() - said > SAY_S:
                    said = time.monotonic()
                    print(f"{now:,} of {wanted:,} {title}", flush=True)
                return now == wanted

            self._wait(arrived)

    def _wait_for_key(self, key: str) -> None:
        began = time.monotonic()
        expected = sum(row["_key"] == key for row in self._answers)
        self._wait(lambda: self._db.table("flights").where(_key=key).count() == expected)
        print(f"indexed after {time.monotonic() - began:.1f} s")

    def _compacted(self) -> bool:
        views = [view for name in TABLES for view in self._db.table(name).status()["views"].values()]
        return all(view["runs"] <= LIVE_RUNS and view["lag"] <= LIVE_DELTAS for view in views)

    def _wait(self, arrived: Callable[[], bool]) -> None:
        if not self._arrives(arrived, INDEXED_TIMEOUT_S):
            raise BucketdexError(f"not indexed within {INDEXED_TIMEOUT_S:.0f} s; bucketdex local status names the log")

    def _arrives(self, arrived: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not arrived():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def _timed(self, query: Any) -> list[Row]:
        """Runs a query and prints what it cost."""
        began = time.perf_counter()
        found: list[Row] = query.rows()
        spent_ms = (time.perf_counter() - began) * 1000
        cost = query.cost
        print(
            f"{_many(len(found), 'row')}: {_many(cost.requests, 'S3 request')} in {_many(cost.rounds, 'round trip')}, "
            f"{cost.bytes / 1024:.1f} KiB, {spent_ms:.0f} ms"
        )
        return found

    def _check(self, found: list[Row], expected: list[Row]) -> None:
        """The same rows, in any order."""
        self._expect(*(sorted(map(_comparable, some)) for some in (found, expected)))

    def _expect(self, found: object, expected: object) -> None:
        if found != expected:
            self._wrong += 1
            print(f"WRONG: {_short(found)} instead of {_short(expected)}", file=sys.stderr)

    def _differs(self, before: Row, after: Row) -> None:
        if before == after:
            self._wrong += 1
            print("WRONG: the summary has not changed", file=sys.stderr)


def _comparable(row: Row) -> list[tuple[str, str]]:
    return sorted((name, repr(value)) for name, value in row.items() if name != "_at")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 500 else f"{text[:500]}..."


def heading(text: str) -> None:
    """Starts a part of the output."""
    Console(highlight=False, soft_wrap=True).print(f"\n{text}", style="bold", markup=False)


def show(found: list[Row]) -> None:
    """The first rows."""
    write_rows(found[:SHOWN], COLUMNS, Format.TABLE)
    if len(found) > SHOWN:
        print(f"... and {len(found) - SHOWN:,} more")


def bar() -> Progress:
    """A progress bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def main() -> int:
    """The exit code: 0 if every answer was right."""
    began = time.monotonic()
    heading("deploying on this machine: an emulator, cdk bootstrap, cdk deploy")
    try:
        with steps("deploying") as step:
            deployment = local.deploy(progress=step)
        print(f"deployed in {time.monotonic() - began:.0f} s at {deployment.endpoint}")
        with deployment.environment():
            right = Demo(deployment).run()
    except BucketdexError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{time.monotonic() - began:.0f} s in all. It still runs: to ask it yourself,\n"
        '  eval "$(.venv/bin/bucketdex local status --export)"\n'
        f"  .venv/bin/bucketdex query flights --where tailnum={TAIL} --order-by -time --limit 5\n"
        "and make demo-stop deletes it."
    )
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
