"""`python -m benchmarks.backfill --objects 100000`: a deployed backfill under live traffic, on the emulator.

Deploys a stack of its own, uploads objects that no event tells of, and has the deployment index them while others are
uploaded at a steady rate; counts every request that the emulator logs, and prices them as AWS would.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import boto3
import msgspec

from benchmarks import cost
from benchmarks.lag import Lags, share
from bucketdex import Database, local
from bucketdex.runtime import system_runtime
from bucketdex.storage import CountingStore, ManifestStore, open_data_store, open_index_store

STACK = "AtSize"
TABLE = "orders"
UPLOADS_AT_ONCE = 16
ALONE_S = 40.0  # of uploads without a backfill, before it and after it
READS, WRITES = ("GET", "HEAD"), ("PUT", "POST", "LIST")
REQUEST = re.compile(r"DEBUG \[\w+\] (\w+) (\S*) -> service=(\w+)")


class Counts(NamedTuple):
    """What the log tells of a stretch of time: requests by service and kind, sums of the functions' metrics."""

    requests: Counter[tuple[str, str]]
    metrics: Counter[str]


class Log:
    """The emulator's log: each request a line, each batch of metrics another."""

    def __init__(self, path: Path, buckets: dict[str, str]) -> None:
        self._path, self._buckets, self._at = path, buckets, path.stat().st_size

    def since_last(self) -> Counts:
        """What was logged since the last call."""
        requests: Counter[tuple[str, str]] = Counter()
        metrics: Counter[str] = Counter()
        with self._path.open("rb") as log:
            log.seek(self._at)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                text = line.decode(errors="replace")
                if text.startswith("{") and '"_aws"' in text:
                    metrics.update(_sums(text))
                elif found := REQUEST.search(text):
                    requests[self._kind(*found.groups())] += 1
        return Counts(requests, metrics)

    def _kind(self, method: str, path: str, service: str) -> tuple[str, str]:
        bucket, _, key = path.lstrip("/").partition("/")
        if service != "s3":
            return service, method
        return self._buckets.get(bucket, "other"), "LIST" if method == "GET" and not key else method


def _sums(text: str) -> dict[str, int]:
    plain: dict[str, Any] = msgspec.json.decode(text)
    return {name: int(sum(value)) for name, value in plain.items() if isinstance(value, list)}


def bodies(objects: int) -> Iterator[bytes]:
    """As many small orders as asked for, one an object."""
    return islice(cycle(body for _, body in cost.orders()), objects)


def measure(objects: int, rate: float, home: str) -> Iterator[str]:
    """Runs it all; yields what it finds, a line at a time."""
    os.environ["LOG_LEVEL"] = "DEBUG"  # the emulator then logs each request
    deployment = local.deploy(cost.TABLES, stack=STACK, directory=home, progress=_told)
    outputs = deployment.outputs
    with deployment.environment():
        index = CountingStore(open_index_store(f"s3://{outputs['IndexBucketName']}"))
        data = open_data_store(f"s3://{outputs['DataBucketName']}")
        s3, bucket = boto3.client("s3"), outputs["DataBucketName"]
        wired = s3.get_bucket_notification_configuration(Bucket=bucket)
        wired.pop("ResponseMetadata")
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        began = time.monotonic()
        keys = (f"orders/old/{number:08}.ndjson" for number in range(objects))
        with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
            for _ in pool.map(data.put, keys, bodies(objects)):
                pass
        yield f"{objects:,} objects uploaded, unannounced, in {time.monotonic() - began:.0f} s"
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wired)

        body = next(bodies(1))
        manifests = ManifestStore(index, system_runtime())
        lags = Lags(lambda key: data.put(key, body) and None, manifests, index, TABLE)
        yield _said("live events before it", _alone(lags, rate, "orders/live/before-"))

        log = Log(deployment.log, {outputs["IndexBucketName"]: "index", bucket: "data"})
        log.since_last()
        index.reset()
        table = Database(index, data).table(TABLE)
        job = table.backfill_job()
        began = time.monotonic()
        job.start()
        ended: list[float] = []
        looked = began

        def over() -> bool:
            nonlocal looked
            if time.monotonic() > looked + 1:
                looked = time.monotonic()
                status = job.status() or {}
                _told(f"{looked - began:.0f} s, pass {status['pass']}, {status['sent']:,} sent")
                if status["state"] != "running":
                    ended.append(looked)
            return bool(ended)

        during = lags.run(rate, over, "orders/live/during-")
        took = ended[0] - began
        counts, mine = log.since_last(), index.requests
        status = job.status() or {}
        passes, speed = status["pass"], objects / took
        yield f"the backfill: {status['state']} after {took:.0f} s, {speed:.0f} objects/s, {passes} passes"
        yield _said("live events beside it", during)
        yield from _told_of(counts, mine, objects, len(during))
        yield _said("live events after it", _alone(lags, rate, "orders/live/after-"))
        found = table.verify(settle_seconds=1.0)
        yield f"verify: {found.objects:,} objects, {found.found} differ"


def _alone(lags: Lags, rate: float, prefix: str) -> list[float]:
    ends = time.monotonic() + ALONE_S
    return lags.run(rate, lambda: time.monotonic() > ends, prefix)


def _said(what: str, lags: list[float]) -> str:
    p50, p95 = share(lags, 0.5), share(lags, 0.95)
    return f"{what}: lag p50 {p50:.1f} s, p95 {p95:.1f} s, most {share(lags, 1):.1f} s, of {len(lags)}"


def _told_of(counts: Counts, mine: Counter[str], objects: int, live: int) -> Iterator[str]:
    """Counted requests without our own, and what AWS would ask for them."""
    requests, metrics = counts
    ours = {("index", "GET"): mine["get"], ("data", "PUT"): live}
    by_functions = {
        kind: count - ours.get(kind, 0) for kind, count in requests.items() if kind[0] in ("index", "data", "sqs")
    }
    shown = ", ".join(f"{service} {method} {count:,}" for (service, method), count in sorted(by_functions.items()))
    yield f"requests of the functions: {shown}"
    names = ("AppliedObjects", "SkippedObjects", "Commits", "Redone", "FailedMessages", "CompactionSteps")
    yield "the functions tell: " + ", ".join(f"{name} {metrics[name]:,}" for name in names)
    reads = sum(count for (service, method), count in by_functions.items() if service != "sqs" and method in READS)
    writes = sum(count for (service, method), count in by_functions.items() if service != "sqs" and method in WRITES)
    sqs = sum(count for (service, _), count in by_functions.items() if service == "sqs")
    sqs += 2 * (metrics["Messages"] // 3 + 1)  # Lambda's own: each batch is received, and deleted
    waiting_s = ((reads + writes) / cost.CONCURRENT_GETS + 3 * metrics["Commits"]) * cost.S3_REQUEST_S
    lambda_s = waiting_s + (reads + writes) * cost.S3_REQUEST_CPU_S + 0.2e-3 * metrics["AppliedObjects"]
    dollars = {
        "S3": reads * cost.GET + writes * cost.PUT,
        "SQS": sqs * cost.SQS_REQUEST,
        "Lambda": lambda_s * cost.LAMBDA_GB * cost.LAMBDA_GB_SECOND + metrics["Commits"] * cost.LAMBDA_REQUEST,
    }
    parts = ", ".join(f"{name} ${value:.4f}" for name, value in dollars.items())
    total = sum(dollars.values())
    yield f"on AWS, about: ${total:.4f} ({parts}); a million objects ${total / (objects + live) * 1e6:.2f}"


def _told(step: str) -> None:
    print(f"... {step}", file=sys.stderr, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=5.0, help="uploads a second meanwhile (default 5)")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="bucketdex-") as home:
        try:
            for line in measure(options.objects, options.rate, home):
                print(line, flush=True)
        finally:
            local.stop(directory=home)


if __name__ == "__main__":
    main()
