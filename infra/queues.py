"""The queues and their failure policy: how long a message hides, how often it is tried, where it goes when given up."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

MAX_RECEIVE_COUNT = 10
# Lack of capacity must never dead-letter. Events that are throttled, or wait for their turn behind many large objects,
# come back every quarter of an hour at most: this lets them do so for most of a day.
EVENT_MAX_RECEIVE_COUNT = 120
VISIBILITY_PER_TIMEOUT = 6
RETENTION = cdk.Duration.days(14)


def dead_letter_queue(scope: Construct, name: str, *, fifo: bool = False) -> sqs.Queue:
    """A queue that only people read: kept as long as SQS keeps anything."""
    return _queue(scope, name, fifo=fifo)


def work_queue(
    scope: Construct,
    name: str,
    *,
    consumer_timeout: cdk.Duration,
    window: cdk.Duration,
    max_receives: int = MAX_RECEIVE_COUNT,
    fifo: bool = False,
) -> tuple[sqs.Queue, sqs.Queue]:
    """A queue for a function with this timeout and batching window, and its dead-letter queue.

    Messages stay hidden for six times the timeout plus the window, as Lambda asks: less would hand a message that
    is still being worked on to a second reader.
    """
    dead = dead_letter_queue(scope, f"{name}DeadLetters", fifo=fifo)
    visibility = cdk.Duration.seconds(VISIBILITY_PER_TIMEOUT * consumer_timeout.to_seconds() + window.to_seconds())
    redrive = sqs.DeadLetterQueue(queue=dead, max_receive_count=max_receives)
    return _queue(scope, name, fifo=fifo, visibility_timeout=visibility, dead_letter_queue=redrive), dead


def _queue(
    scope: Construct,
    name: str,
    *,
    fifo: bool,
    visibility_timeout: cdk.Duration | None = None,
    dead_letter_queue: sqs.DeadLetterQueue | None = None,
) -> sqs.Queue:
    return sqs.Queue(
        scope,
        name,
        fifo=fifo or None,  # CloudFormation knows only `true` or nothing
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        retention_period=RETENTION,
        visibility_timeout=visibility_timeout,
        dead_letter_queue=dead_letter_queue,
    )
