"""Deployment to AWS: the construct `BucketIndex` for anybody's CDK app, and a thin stack around it."""

from infra.bucket_index import BucketIndex
from infra.stack import BucketdexStack

__all__ = ["BucketIndex", "BucketdexStack"]
