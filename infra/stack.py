"""A stack that holds one `BucketIndex` and the outputs that clients look up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aws_cdk as cdk
from constructs import Construct

from infra.bucket_index import BucketIndex


class BucketdexStack(cdk.Stack):
    """One indexed bucket as a stack of its own; `Database.from_stack(name)` reads its outputs.

    options: those of `BucketIndex`.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,  # noqa: A002 (as CDK names it)
        *,
        tables: str | Path,
        construct: type[BucketIndex] = BucketIndex,
        **options: Any,
    ) -> None:
        super().__init__(scope, id, description="Bucketdex: an S3 bucket that answers questions")
        self.index = construct(self, "Index", tables=tables, **options)
        for name, value in self.index.outputs.items():
            cdk.CfnOutput(self, name, value=value)
