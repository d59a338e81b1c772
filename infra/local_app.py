"""The app that `bucketdex local deploy` runs: the same stack, with functions that run on this machine."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

import aws_cdk as cdk

from infra.bucket_index import BucketIndex
from infra.bundle import Target, this_machine
from infra.stack import BucketdexStack

LAMBDA_CONCURRENCY_MIN = 2


class LocalBucketIndex(BucketIndex):
    """A `BucketIndex` whose bundles hold this interpreter's wheels: the emulator runs functions with it."""

    target: ClassVar[Target] = this_machine()
    announced_within: ClassVar[cdk.Duration] = cdk.Duration.seconds(0)  # the emulator announces at once


if __name__ == "__main__":
    stack, tables = sys.argv[1:]
    app = cdk.App()
    # Functions share this machine's cores: more at once only start more interpreters, for smaller batches.
    concurrency = max(LAMBDA_CONCURRENCY_MIN, os.cpu_count() or 1)
    BucketdexStack(
        app,
        stack,
        tables=tables,
        construct=LocalBucketIndex,
        max_concurrency=concurrency,
        verify_schedule=cdk.Duration.days(1),
        verify_deep_sample=1.0,
    )
    app.synth()
