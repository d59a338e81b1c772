"""What a backfill costs on AWS, about: its requests, its functions' time, and public prices. Changes with prices, and
with what a commit takes.

Formulas, not measurements: docs/deployment.md has one to compare with, and a test counts a job's requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple

from bucketdex.engine.turn import POLL_S, page_keys
from bucketdex.engine.walk import PAGE_KEYS
from bucketdex.storage import Listed

MESSAGE_KEYS: Final = 100  # of a page's message, at most
MESSAGE_BYTES: Final = 32 * 2**20  # of the objects that it names
MESSAGES_A_COMMIT: Final = 2  # indexers take up to three at once; a queue often hands out fewer
OBJECTS_A_SECOND: Final = 600.0  # that a deployment indexes without a rate, while the backfiller waits

# In US dollars, us-east-1, without free tiers.
WRITE: Final = 0.005 / 1_000  # PUT or LIST
READ: Final = 0.0004 / 1_000
QUEUE_REQUEST: Final = 0.40 / 1e6
FIFO_REQUEST: Final = 0.50 / 1e6
GB_SECOND: Final = 0.0000133334  # of Lambda, arm64
INVOCATION: Final = 0.20 / 1e6 + 4_000 / 1e9 * 0.50  # with 4,000 bytes of logs

INDEXER_GB, BACKFILLER_GB = 1769 / 1024, 0.5
TURN_S: Final = 840.0
REQUEST_S, REQUEST_CPU_S, OBJECT_CPU_S = 0.025, 0.00014, 0.0002
REQUESTS_AT_ONCE: Final = 32
ROUNDS_A_COMMIT: Final = 3


class Pages(NamedTuple):
    """What a walk over the table found. `messages`: in how many a deployment sends it."""

    listed: int
    due: int
    messages: int


class Shape(NamedTuple):
    """What of a table decides what an object costs: views to fold, and whether its tags are asked for."""

    views: int
    tags: bool


class Estimate(NamedTuple):
    """About what a backfill takes. `reads` are GETs, `writes` PUTs and LISTs of S3."""

    reads: int
    writes: int
    queue_requests: int
    dollars: dict[str, float]  # by service


def in_process(found: Pages, shape: Shape, *, batch_keys: int) -> Estimate:
    """Of a backfill in this process, so many keys a commit: S3 alone, one pass over the listing."""
    reads, writes = _indexing(found, ceil(found.due / batch_keys), shape)
    pages = found.listed // PAGE_KEYS + 1
    reads, writes = reads + 2 * pages, writes + pages
    return Estimate(reads, writes, 0, {"S3": reads * READ + writes * WRITE})


def deployed(found: Pages, shape: Shape, *, rate: float | None, passes: int, lists: int) -> Estimate:
    """Of a backfill that the deployment works off, from its start to its end. `lists`: passes that go through the
    listing, not a report.

    A step of the backfiller is a conditional GET and a PUT of the job, a look at the queue, and a GET or two of the
    index beside each page. While it waits it is paid for, and looks at the job and the queue every two seconds.
    """
    keys = page_keys(rate) or PAGE_KEYS
    commits = ceil(found.messages / (MESSAGES_A_COMMIT if keys > MESSAGE_KEYS else 1))  # small pages come one by one
    folds = commits * shape.views // 20
    pages = found.listed // keys + 1
    reads, writes = _indexing(found, commits, shape)
    waited_s = found.due / min(rate or OBJECTS_A_SECOND, OBJECTS_A_SECOND)
    looks = passes * pages + ceil(waited_s / POLL_S)
    reads += looks + 2 * passes * pages
    writes += passes * pages + lists * (found.listed // PAGE_KEYS + 1)
    asked = found.messages // 10 + looks + 2 * commits  # sends, looks; each batch is received, and deleted
    busy_s = ((reads + writes) / REQUESTS_AT_ONCE + ROUNDS_A_COMMIT * commits) * REQUEST_S
    busy_s += (reads + writes) * REQUEST_CPU_S + found.due * OBJECT_CPU_S
    dollars = {
        "S3": reads * READ + writes * WRITE,
        "SQS": asked * QUEUE_REQUEST + 3 * folds * FIFO_REQUEST,
        "Lambda": (busy_s * INDEXER_GB + waited_s * BACKFILLER_GB) * GB_SECOND
        + (commits + folds + ceil(waited_s / TURN_S)) * INVOCATION,
    }
    return Estimate(reads, writes, asked + 3 * folds, dollars)


def messages_of(due: Sequence[Listed], rate: float | None) -> int:
    """In how many messages a deployment sends a page, about."""
    keys = min(MESSAGE_KEYS, page_keys(rate) or MESSAGE_KEYS)
    return max(ceil(len(due) / keys), min(len(due), ceil(sum(listed.size for listed in due) / MESSAGE_BYTES)))


def _indexing(found: Pages, commits: int, shape: Shape) -> tuple[int, int]:
    """Reads and writes of applying what is due. A commit is two PUTs; of objects of one record, compaction writes about
    a run and a manifest for every 20 commits and view.
    """
    reads = found.due * (2 if shape.tags else 1) + commits * (2 + shape.views)
    return reads, commits * 2 + commits * shape.views // 10
