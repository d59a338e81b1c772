"""Which events of which keys the data bucket announces, within S3's rules for notification filters."""

from __future__ import annotations

import string
from collections.abc import Iterable

from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_notifications as s3_notifications
from aws_cdk import aws_sns as sns
from constructs import IConstruct, IDependable

from bucketdex.definition import TableDefinition, literal_prefixes

# Each means "look at this key"; expiry by lifecycle is no ObjectRemoved event.
EVENTS = (
    s3.EventType.OBJECT_CREATED,
    s3.EventType.OBJECT_REMOVED,
    s3.EventType.LIFECYCLE_EXPIRATION,
    s3.EventType.OBJECT_RESTORE_COMPLETED,
)
CONFIGURATIONS_MAX = 100  # S3's limit for a bucket
# A filter takes other characters only encoded, in ways documented loosely: a prefix is cut before the first of them.
UNENCODED = frozenset(string.ascii_letters + string.digits + "/-_.")


def filter_prefixes(tables: Iterable[TableDefinition]) -> list[str]:
    """The fewest prefixes that cover every key of the tables; none begins another, which S3 would refuse.

    A prefix may cover more than the tables claim (the indexer ignores such keys), never less. "" is every key.
    """
    cut = {_plain(prefix) for prefix in literal_prefixes(tables)}
    kept: list[str] = []
    for prefix in sorted(cut):  # a prefix sorts before all that it begins
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def subscriptions(tables: Iterable[TableDefinition]) -> list[tuple[s3.EventType, str]]:
    """Every (event type, key prefix) to announce. Tagging counts only where a table has a tag field.

    With more than S3's limit of them the filters give way: the whole bucket is announced.
    """
    known = list(tables)
    tagged = [table for table in known if has_tags(table)]
    pairs = [(event, prefix) for event in EVENTS for prefix in filter_prefixes(known)]
    pairs += [(s3.EventType.OBJECT_TAGGING, prefix) for prefix in filter_prefixes(tagged)]
    if len(pairs) <= CONFIGURATIONS_MAX:
        return pairs
    return [(event, "") for event in dict.fromkeys(event for event, _ in pairs)]


def announced(table: TableDefinition) -> str:
    """What a table needs to be announced; while that stays the same, it misses no event."""
    keys = table.source.key or table.source.prefix or ""
    return f"{keys} and tags" if has_tags(table) else keys


def has_tags(table: TableDefinition) -> bool:
    """Whether a field of the table comes from the objects' tags."""
    return any(field.source == "tag" for field in table.fields)


def announce(
    bucket: s3.IBucket, topic: sns.ITopic, tables: Iterable[TableDefinition], *, after: Iterable[IDependable]
) -> None:
    """Makes the bucket send the tables' events to the topic, once all of `after` is deployed.

    Through CDK's notification resource for every bucket, ours or imported: it merges instead of replacing what
    others have set.
    """
    destination = s3_notifications.SnsDestination(topic)
    for event, prefix in subscriptions(tables):
        filters = [s3.NotificationKeyFilter(prefix=prefix)] if prefix else []
        bucket.add_event_notification(event, destination, *filters)
    resource: IConstruct | None = bucket.node.try_find_child("Notifications")
    if resource is not None:
        resource.node.add_dependency(*after)


def _plain(prefix: str) -> str:
    for position, character in enumerate(prefix):
        if character not in UNENCODED:
            return prefix[:position]
    return prefix
