"""Many indexers in processes of their own on one table, against an S3 server with real conditional writes."""

import pytest

from benchmarks.s3server import s3_server
from benchmarks.writers import measured
from benchmarks.writing import Plan

pytestmark = pytest.mark.local

WRITERS = 16


def test_sixteen_writers_lose_nothing() -> None:
    """`measured` ends with the check: rows and sums as plain Python gets them from the bucket, and `verify`."""
    plan = Plan("hot", 10, 2, WRITERS)
    with s3_server():
        ((_, tally),) = measured([plan])
    assert len(tally.commits) == WRITERS * plan.batches
    assert tally.objects == WRITERS * plan.batches * plan.size
    assert tally.lost > 0, "they never met: nothing was tested"
    assert tally.redone > 0, "no two of them wanted the same key"
