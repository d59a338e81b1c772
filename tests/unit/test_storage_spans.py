"""Ranges that touch are read together, and nothing is told of it but the number of requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bucketdex.errors import StorageError
from bucketdex.storage import CountingStore, GetRequest, Got, get_spans, open_index_store

BODIES = {"a": bytes(range(40)), "b": bytes(range(100, 130))}

KEYS = st.sampled_from(["a", "b", "gone"])
RANGES = st.builds(GetRequest, KEYS, st.integers(0, 24), st.integers(1, 5))
WHOLE = st.builds(GetRequest, KEYS)
PINNED = st.builds(lambda key, start: GetRequest(key, start, 3, if_match='"other"'), KEYS, st.integers(0, 20))


def told(answer: Got | StorageError) -> object:
    return type(answer) if isinstance(answer, StorageError) else (answer.key, answer.body, answer.etag)


@given(st.lists(RANGES | WHOLE | PINNED, max_size=12))
def test_the_answers_are_those_of_single_requests(requests: list[GetRequest]) -> None:
    store = CountingStore(open_index_store("memory://"))
    for key, body in BODIES.items():
        store.put(key, body)
    wanted = store.get_many(requests)
    store.reset()
    assert list(map(told, get_spans(store, requests))) == list(map(told, wanted))
    assert store.requests["get"] <= len(requests)


def test_ranges_that_touch_share_a_request_whatever_their_order() -> None:
    store = CountingStore(open_index_store("memory://"))
    store.put("a", BODIES["a"])
    store.reset()
    cut = [GetRequest("a", start, 4) for start in (8, 0, 4, 20)]
    assert [answer.body for answer in get_spans(store, cut) if isinstance(answer, Got)] == [
        BODIES["a"][r.start : r.start + 4] for r in cut if r.start is not None
    ]
    assert store.requests["get"] == 2 and store.rounds == 1
