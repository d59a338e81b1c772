"""The app that `bucketdex local deploy` runs: the same stack, with functions that run on this machine."""

from __future__ import annotations

import sys
from typing import ClassVar

import aws_cdk as cdk

from infra.bucket_index import BucketIndex
from infra.bundle import Target, this_machine
from infra.stack import BucketdexStack


class LocalBucketIndex(BucketIndex):
    """A `BucketIndex` whose bundles hold this interpreter's wheels: the emulator runs functions with it."""

    target: ClassVar[Target] = this_machine()


if __name__ == "__main__":
    stack, tables = sys.argv[1:]
    app = cdk.App()
    BucketdexStack(app, stack, tables=tables, construct=LocalBucketIndex)
    app.synth()
