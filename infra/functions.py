"""The Lambda functions' shape: runtime, size, role, logs, tracing."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.bundle import Bundle

LOG_RETENTION = logs.RetentionDays.ONE_MONTH


def function(
    scope: Construct,
    name: str,
    bundle: Bundle,
    *,
    environment: Mapping[str, str],
    timeout: cdk.Duration,
    memory_mb: int,
) -> lambda_.Function:
    """The function `functions/<name>` on arm64 and Python 3.13, traced, with a log group of its own.

    Its role may write that log group and traces, and nothing else: callers grant what its work needs.
    """
    title = name.capitalize()
    log_group = logs.LogGroup(scope, f"{title}Logs", retention=LOG_RETENTION, removal_policy=cdk.RemovalPolicy.DESTROY)
    role = iam.Role(scope, f"{title}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    log_group.grant_write(role)
    return lambda_.Function(
        scope,
        title,
        description=f"Bucketdex {name}",
        runtime=lambda_.Runtime.PYTHON_3_13,
        architecture=lambda_.Architecture.ARM_64,
        handler=f"functions.{name}.handler.handler",
        code=lambda_.Code.from_asset(str(bundle.archive), asset_hash=bundle.hash),
        role=role,
        timeout=timeout,
        memory_size=memory_mb,
        tracing=lambda_.Tracing.ACTIVE,
        log_group=log_group,
        logging_format=lambda_.LoggingFormat.JSON,
        environment={"POWERTOOLS_SERVICE_NAME": f"bucketdex-{name}", **environment},
    )


def grant_index(bucket: s3.IBucket, grantee: iam.IGrantable, *, write: bool = False, delete: bool = False) -> None:
    """Reading an index: GetObject, and ListBucket without which a missing object answers 403 instead of 404.

    Only what the engine does: writers also put, the compactor also deletes garbage. A bucket encrypted with a KMS
    key grants its use.
    """
    actions = ["s3:GetObject"] + ["s3:PutObject"] * write + ["s3:DeleteObject"] * delete
    iam.Grant.add_to_principal(grantee=grantee, actions=actions, resource_arns=[bucket.arn_for_objects("*")])
    iam.Grant.add_to_principal(grantee=grantee, actions=["s3:ListBucket"], resource_arns=[bucket.bucket_arn])
    if bucket.encryption_key:
        if write:
            bucket.encryption_key.grant_encrypt_decrypt(grantee)
        else:
            bucket.encryption_key.grant_decrypt(grantee)


def grant_put(bucket: s3.IBucket, grantee: iam.IGrantable, pattern: str) -> None:
    """Writing the objects of these keys, and no others."""
    iam.Grant.add_to_principal(
        grantee=grantee, actions=["s3:PutObject"], resource_arns=[bucket.arn_for_objects(pattern)]
    )
    if bucket.encryption_key:
        bucket.encryption_key.grant_encrypt(grantee)


def grant_data(bucket: s3.IBucket, grantee: iam.IGrantable, *, tags: bool) -> None:
    """Reading source objects, and their tags where a table indexes one; never writing."""
    actions = ["s3:GetObject"] + ["s3:GetObjectTagging"] * tags
    iam.Grant.add_to_principal(grantee=grantee, actions=actions, resource_arns=[bucket.arn_for_objects("*")])
    grant_list(bucket, grantee)
    if bucket.encryption_key:
        bucket.encryption_key.grant_decrypt(grantee)


def grant_list(bucket: s3.IBucket, grantee: iam.IGrantable) -> None:
    """Listing a bucket; its objects stay closed."""
    iam.Grant.add_to_principal(grantee=grantee, actions=["s3:ListBucket"], resource_arns=[bucket.bucket_arn])
