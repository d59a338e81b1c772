"""Pages of keys on their way through SQS: what the backfiller sends is what the indexer reads, within SQS's bounds."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.engine import Depth, Event
from bucketdex.errors import StorageError
from bucketdex.storage import Listed
from functions.backfiller.queue import SqsPageQueue
from functions.pages import BODY_BYTES_MAX, KEYS_MAX, OBJECT_BYTES_MAX, page_bodies
from tests.unit.test_functions_events import read

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
SIZES = st.sampled_from([0, 1, 5_000, OBJECT_BYTES_MAX // 3, OBJECT_BYTES_MAX, 10 * OBJECT_BYTES_MAX])


def listed(key: str, size: int = 1) -> Listed:
    return Listed(key, size, "e", 1.0)


class FakeSqs:
    """Takes what SQS would, and refuses the rest."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.calls = 0
        self.refuse: set[str] = set()
        self.attributes: dict[str, str] = {}
        self.broken = False

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        if self.broken:
            raise ConnectionError("no SQS")
        assert 1 <= len(Entries) <= 10 and len({entry["Id"] for entry in Entries}) == len(Entries)
        assert sum(len(entry["MessageBody"].encode()) for entry in Entries) <= 256 * 1024
        for entry in Entries:
            assert re.fullmatch(r"[\x20-\x7e]+", entry["MessageBody"]), "SQS refuses some characters"
        self.calls += 1
        self.bodies += [entry["MessageBody"] for entry in Entries]
        return {"Failed": [{"Id": name, "Message": "no"} for name in self.refuse]}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:  # noqa: N803
        return {"Attributes": {name: self.attributes[name] for name in AttributeNames}}


@given(st.lists(st.tuples(KEYS, SIZES), max_size=250))
def test_what_is_sent_is_what_is_read(drawn: list[tuple[str, int]]) -> None:
    sqs = FakeSqs()
    SqsPageQueue(sqs, "https://sqs/pages").send("j", "orders+1", [listed(*each) for each in drawn])  # type: ignore[arg-type]
    messages = [read(body) for body in sqs.bodies]
    events = [event for message in messages for event in message.events]
    assert events == [("orders+1", Event(key, "other", size=size)) for key, size in drawn]
    for message in messages:
        sizes = [event.size or 0 for _, event in message.events]
        assert message.is_page and not message.error and 1 <= len(sizes) <= KEYS_MAX
        assert len(sizes) == 1 or sum(sizes) <= OBJECT_BYTES_MAX


def test_pages_of_the_worst_keys_stay_within_a_message() -> None:
    worst = [listed(f"{number:04}" + "\x01" * 1_020) for number in range(150)]
    bodies = list(page_bodies("j", "orders", worst))
    assert all(len(body) <= BODY_BYTES_MAX for body in bodies)
    assert sum(len(json.loads(body)["backfill"]["keys"]) for body in bodies) == 150
    sqs = FakeSqs()
    SqsPageQueue(sqs, "https://sqs/pages").send("j", "orders", worst)  # type: ignore[arg-type]
    assert sqs.calls == len(bodies)


def test_a_page_of_a_listing_is_one_request() -> None:
    sqs = FakeSqs()
    queue = SqsPageQueue(sqs, "https://sqs/pages")  # type: ignore[arg-type]
    queue.send("j", "orders", [listed(f"orders/{number:06}") for number in range(1_000)])
    assert (sqs.calls, len(sqs.bodies)) == (1, 10)
    queue.send("j", "orders", [])
    assert sqs.calls == 1


def test_what_sqs_does_not_take_is_an_error() -> None:
    sqs = FakeSqs()
    queue = SqsPageQueue(sqs, "https://sqs/pages")  # type: ignore[arg-type]
    sqs.refuse = {"0"}
    with pytest.raises(StorageError, match="1 pages were not accepted: no"):
        queue.send("j", "orders", [listed("a")])
    sqs.broken = True
    with pytest.raises(StorageError, match="no SQS"):
        queue.send("j", "orders", [listed("a")])


def test_the_depth_counts_what_is_hidden_and_what_is_delayed() -> None:
    sqs = FakeSqs()
    sqs.attributes = {
        "ApproximateNumberOfMessages": "3",
        "ApproximateNumberOfMessagesDelayed": "4",
        "ApproximateNumberOfMessagesNotVisible": "5",
    }
    assert SqsPageQueue(sqs, "https://sqs/pages").depth() == Depth(7, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "page",
    [None, 7, {}, {"table": "orders"}, {"keys": []}, {"table": "orders", "keys": ["a"]}, {"table": "o", "keys": 1}],
)
def test_a_page_that_says_nothing_fails(page: Any) -> None:
    message = read({"backfill": page})
    assert message.error is not None and message.events == ()
