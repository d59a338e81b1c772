"""Ranges that follow each other in a file, read with one request. Changes with what a request is worth in bytes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bucketdex.errors import StorageError
from bucketdex.storage.stores import GetRequest, Got, ObjectStore


def get_spans(store: ObjectStore, requests: Sequence[GetRequest]) -> list[Got | StorageError]:
    """The answers that `store.get_many(requests)` would give, in one round as well; ranges that touch share a request.

    S3 bills by the request, and a compaction reads block after block. The answer to a part of a range that came short
    is short, and an error is that of all its parts.
    """
    spans = _spans(requests)
    answers: list[Got | StorageError | None] = [None] * len(requests)
    for span, answer in zip(spans, store.get_many([_whole(requests, span) for span in spans]), strict=True):
        for place in span:
            if isinstance(answer, StorageError) or len(span) == 1:
                answers[place] = answer
            else:
                low, high = _range(requests[place])
                first = _range(requests[span[0]])[0]
                answers[place] = msgspec.structs.replace(answer, body=answer.body[low - first : high - first])
    return [answer for answer in answers if answer is not None]


def _spans(requests: Sequence[GetRequest]) -> list[list[int]]:
    """The places of the requests, those together that one range covers without a gap."""
    spans = [[place] for place, request in enumerate(requests) if not _is_range(request)]
    ranges = [place for place, request in enumerate(requests) if _is_range(request)]
    ranges.sort(key=lambda place: (requests[place].key, _range(requests[place])))
    previous: GetRequest | None = None
    for place in ranges:
        request = requests[place]
        if previous is not None and (previous.key, _range(previous)[1]) == (request.key, _range(request)[0]):
            spans[-1].append(place)
        else:
            spans.append([place])
        previous = request
    return spans


def _is_range(request: GetRequest) -> bool:
    conditional = request.if_match is not None or request.if_none_match is not None
    return request.start is not None and request.length is not None and not conditional


def _range(request: GetRequest) -> tuple[int, int]:
    assert request.start is not None and request.length is not None
    return request.start, request.start + request.length


def _whole(requests: Sequence[GetRequest], span: list[int]) -> GetRequest:
    first = requests[span[0]]
    if len(span) == 1:
        return first
    low, high = _range(first)[0], _range(requests[span[-1]])[1]
    return GetRequest(first.key, low, high - low)
