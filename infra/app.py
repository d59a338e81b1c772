"""The app that `cdk deploy` runs: this checkout's tables in one stack."""

from __future__ import annotations

from pathlib import Path

import aws_cdk as cdk

from infra.stack import BucketdexStack

TABLES = Path(__file__).resolve().parents[1] / "tables"

if __name__ == "__main__":
    app = cdk.App()
    BucketdexStack(app, "Bucketdex", tables=TABLES)
    app.synth()
