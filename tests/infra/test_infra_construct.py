"""The construct in somebody else's app: what it refuses, what it merges, what it must not depend on."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.infra.test_infra_template import of_type, one

Synth = Callable[..., dict[str, Any]]
REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_signature_is_the_documented_one() -> None:
    from infra import BucketIndex

    parameters = inspect.signature(BucketIndex.__init__).parameters
    assert list(parameters) == [
        "self", "scope", "id", "tables", "data_bucket", "index_bucket", "removal_policy", "max_concurrency",
        "batch_size", "max_batching_window", "backfill_concurrency",
        "inventory_bucket",
        "verify_schedule", "verify_deep_sample", "verify_repair", "alarms", "erase_within",
    ]  # fmt: skip
    assert (parameters["max_concurrency"].default, parameters["batch_size"].default) == (8, 100)
    assert parameters["max_batching_window"].default.to_seconds() == 2


def test_the_index_must_not_be_the_data_bucket(synth: Synth) -> None:
    from aws_cdk import aws_s3 as s3

    def same(stack: Any) -> dict[str, Any]:
        bucket = s3.Bucket(stack, "Both")
        return {"data_bucket": bucket, "index_bucket": bucket}

    def same_name(stack: Any) -> dict[str, Any]:
        return {
            "data_bucket": s3.Bucket.from_bucket_name(stack, "One", "shop"),
            "index_bucket": s3.Bucket.from_bucket_arn(stack, "Two", "arn:aws:s3:::shop"),
        }

    for buckets in (same, same_name):
        with pytest.raises(ValueError, match="must not be the data bucket"):
            synth(buckets)


def test_a_versioned_index_bucket_is_refused(synth: Synth) -> None:
    from aws_cdk import aws_s3 as s3

    with pytest.raises(ValueError, match="must not be versioned"):
        synth(lambda stack: {"index_bucket": s3.Bucket(stack, "Given", versioned=True)})


def test_a_relative_path_of_tables_is_refused(synth: Synth) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        synth(tables="tables")


def test_an_imported_bucket_keeps_the_notifications_of_others(synth: Synth) -> None:
    from aws_cdk import aws_s3 as s3

    template = synth(lambda stack: {"data_bucket": s3.Bucket.from_bucket_name(stack, "Given", "shop-data")})
    assert len(of_type(template, "AWS::S3::Bucket")) == 1, "only the index bucket is made"
    _, notifications = one(template, "Custom::S3BucketNotifications", "Given")
    assert notifications["Properties"]["Managed"] is False
    registration, _ = one(template, "AWS::CloudFormation::CustomResource", "Tables")
    assert registration in notifications["DependsOn"]


def test_our_own_bucket_keeps_the_notifications_of_other_stacks(template: dict[str, Any]) -> None:
    _, notifications = one(template, "Custom::S3BucketNotifications", "DataBucket")
    assert notifications["Properties"]["Managed"] is False


def test_encrypted_buckets_grant_their_key(synth: Synth) -> None:
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3

    def encrypted(stack: Any) -> dict[str, Any]:
        key = kms.Key(stack, "Key")
        return {
            "data_bucket": s3.Bucket(stack, "Given", encryption_key=key),
            "index_bucket": s3.Bucket(stack, "GivenIndex", encryption_key=key),
        }

    template = synth(encrypted)
    for role, expected in (
        ("IndexerRole", {"kms:Decrypt", "kms:GenerateDataKey*"}),
        ("CompactorRole", {"kms:Encrypt"}),
    ):
        granted = {
            action
            for policy in of_type(template, "AWS::IAM::Policy").values()
            if role in json.dumps(policy["Properties"]["Roles"])
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            for action in statement["Action"]
        }
        assert expected <= granted, role


def test_two_indexes_fit_into_one_app(synth: Synth, tables: Path) -> None:
    from infra import BucketIndex

    template = synth(then=lambda stack, _: BucketIndex(stack, "Second", tables=tables) and None)
    assert len(of_type(template, "AWS::SNS::Topic")) == 2


def test_context_and_working_directory_change_nothing(tables: Path, tmp_path: Path, synth: Synth) -> None:
    """The same arguments in another directory, with another context and environment, give the same template."""
    program = f"""
import json, sys
import aws_cdk as cdk
from aws_cdk.assertions import Template
from infra import BucketIndex
stack = cdk.Stack(cdk.App(context={{"tables": "x", "removal_policy": "destroy", "max_concurrency": 2}}), "Shop")
BucketIndex(stack, "Index", tables={str(tables)!r})
print(json.dumps(Template.from_stack(stack).to_json(), sort_keys=True))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env=_environment(tmp_path),
    )  # fmt: skip
    assert json.loads(done.stdout) == synth()


def _environment(tmp_path: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "BUCKETDEX_INDEX": "s3://elsewhere", "PWD": str(tmp_path)}


def test_the_template_passes_cfn_lint(template: dict[str, Any], tmp_path: Path) -> None:
    from cfnlint.api import lint
    from cfnlint.core import get_rules

    # W3005: CDK spells out dependencies that references already imply.
    found = lint(json.dumps(template), get_rules([], ["W3005"], []), ["us-east-1", "eu-central-1"])
    assert [f"{match.rule.id} {match.message}" for match in found] == []
