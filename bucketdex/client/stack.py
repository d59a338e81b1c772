"""What a deployed stack says of itself: its outputs, and AWS's errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bucketdex.errors import BucketdexError


@contextmanager
def asking_aws(what: str) -> Iterator[None]:
    """Raises AWS's errors inside as BucketdexError: `what` failed, and why. BucketdexError without boto3."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise BucketdexError(f"{what}: this needs boto3: pip install 'bucketdex[aws]'") from error
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise BucketdexError(f"{what}: {error}") from error


def stack_outputs(name: str) -> dict[str, str]:
    """The outputs of a Bucketdex stack, by name. One request to CloudFormation. BucketdexError for any other stack."""
    with asking_aws(f"stack {name!r} could not be read"):
        import boto3

        stack = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    outputs = {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}
    if "IndexBucketName" not in outputs:
        raise BucketdexError(f"stack {name!r} has no output IndexBucketName: is it a Bucketdex stack?")
    return outputs
