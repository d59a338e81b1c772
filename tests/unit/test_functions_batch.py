"""One batch of messages: one commit a table, and no message's failure costs another's success."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketdex.engine import ApplyResult, Event
from bucketdex.errors import CommitGaveUpError, TableNotFoundError, ThrottledError
from functions.indexer.batch import Batch, OutOfTimeError
from functions.indexer.events import Message

ALONE = 1000


class Table:
    """Records what is applied; keys that begin with `bad` fail, `crash` fails everything it comes with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    def apply(self, table: str, events: list[Event]) -> ApplyResult:
        keys = [event.key for event in events]
        self.calls.append((table, keys))
        if any(key.startswith("crash") for key in keys):
            raise CommitGaveUpError("others came first")
        failed: dict[str, Exception] = {key: ThrottledError(key) for key in keys if key.startswith("bad")}
        return ApplyResult(generation=1, applied=set(keys) - set(failed), failed=failed, commits=1)


def message(name: str, *keys: str, table: str = "orders", receives: int = 1, size: int = 1) -> Message:
    events = tuple((table, Event(key=key, kind="created", sequencer="1", size=size)) for key in keys)
    return Message(name, f"receipt-{name}", receives, 0, events)


def run(
    *messages: Message, time_left: Callable[[], bool] = lambda: True
) -> tuple[Table, dict[str, Exception], list[str]]:
    table, settled = Table(), list[str]()
    batch = Batch(
        table.apply, alone_bytes=ALONE, settle=lambda message: settled.append(message.id), time_left=time_left
    )
    batch.run(messages)
    return table, batch.failed, settled


def test_a_batch_is_one_commit_for_each_table() -> None:
    table, failed, _ = run(message("1", "a"), message("2", "b", table="photos"), message("3", "c"))
    assert table.calls == [("orders", ["a", "c"]), ("photos", ["b"])]
    assert failed == {}


def test_a_failing_object_fails_only_the_messages_that_name_it() -> None:
    _, failed, _ = run(message("1", "a"), message("2", "bad"), message("3", "bad"), message("4", "b", "bad2"))
    assert set(failed) == {"2", "3", "4"}
    assert isinstance(failed["2"], ThrottledError)


def test_the_same_key_in_two_tables_is_not_mixed_up() -> None:
    _, failed, _ = run(message("1", "bad"), message("2", "bad", table="photos"), message("3", "good", table="photos"))
    assert set(failed) == {"1", "2"}


def test_a_commit_that_gave_up_fails_its_table_only() -> None:
    _, failed, _ = run(message("1", "crash"), message("2", "a"), message("3", "b", table="photos"))
    assert set(failed) == {"1", "2"}
    assert isinstance(failed["2"], CommitGaveUpError)


@pytest.mark.parametrize("suspicious", [{"receives": 2}, {"size": ALONE + 1}])
def test_a_repeated_or_large_message_is_handled_alone_and_last(suspicious: dict[str, int]) -> None:
    table, failed, settled = run(message("1", "crash", **suspicious), message("2", "a"), message("3", "b"))
    assert table.calls == [("orders", ["a", "b"]), ("orders", ["crash"])]
    assert set(failed) == {"1"}
    assert settled == [], "only what is done is deleted early"


def test_messages_handled_alone_are_deleted_one_by_one_the_least_suspicious_first() -> None:
    table, _, settled = run(
        message("1", "c", receives=9), message("2", "a", receives=2), message("3", "bad", receives=3)
    )
    assert table.calls == [("orders", ["a"]), ("orders", ["bad"]), ("orders", ["c"])]
    assert settled == ["2", "1"]


def test_a_message_is_not_begun_without_time_to_finish_it() -> None:
    table, failed, _ = run(message("1", "a", receives=2), message("2", "b"), time_left=lambda: False)
    assert table.calls == [("orders", ["b"])]
    assert isinstance(failed["1"], OutOfTimeError)


def test_pages_of_a_successor_that_is_gone_are_done() -> None:
    def gone(table: str, events: list[Event]) -> ApplyResult:
        raise TableNotFoundError(table)

    batch = Batch(gone, alone_bytes=ALONE, settle=lambda _: None, time_left=lambda: True)
    batch.run([message("1", "a", table="orders+0123"), message("2", "b")])
    assert set(batch.failed) == {"2"}


def test_what_is_no_event_fails_and_costs_nobody_else() -> None:
    broken = message("1")._replace(error=ValueError("no S3 event"))
    table, failed, _ = run(broken, message("2", "a"), message("3"))
    assert table.calls == [("orders", ["a"])]
    assert set(failed) == {"1"}


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(["a", "b", "bad", "bad2"]), max_size=3), st.integers(1, 3)), max_size=8)
)
def test_exactly_the_messages_with_a_failing_key_fail(drawn: list[tuple[list[str], int]]) -> None:
    messages = [message(str(number), *keys, receives=receives) for number, (keys, receives) in enumerate(drawn)]
    _, failed, settled = run(*messages)
    expected = {m.id for m in messages if any(event.key.startswith("bad") for _, event in m.events)}
    assert set(failed) == expected
    assert set(settled) == {m.id for m in messages if m.receives > 1} - expected
