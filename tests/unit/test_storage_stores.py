"""Object stores in memory: operations, errors, counting, resuming; what `open_*_store` accepts."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore, S3Store

from bucketdex.errors import (
    AccessDeniedError,
    KeyMissingError,
    NotModifiedError,
    ObjectChangedError,
    PreconditionFailedError,
    StorageError,
    ThrottledError,
    UnreadableObjectError,
)
from bucketdex.storage import CountingStore, GetRequest, Got, ObjectStore, open_data_store, open_index_store
from bucketdex.storage.failures import classify, from_obstore
from bucketdex.storage.obstore_store import ObstoreStore, is_odd
from bucketdex.storage.stores import RESUMES_MAX, resuming


@pytest.fixture
def store() -> ObjectStore:
    return open_index_store("memory://")


def test_what_is_put_is_got(store: ObjectStore) -> None:
    etag = store.put("a/b", b"hello")
    got = store.get(GetRequest("a/b"))
    assert (got.key, got.body, got.etag, got.size) == ("a/b", b"hello", etag, 5)
    assert got.last_modified > 1_600_000_000
    assert store.get(GetRequest("a/b", 1, 3)).body == b"ell"
    assert store.get(GetRequest("a/b", 1, 3)).size == 5
    assert store.get(GetRequest("a/b", 3)).body == b"lo"
    assert store.get(GetRequest("a/b", 3, 100)).body == b"lo"
    assert store.get(GetRequest("a/b", length=2)).body == b"he"
    with pytest.raises(StorageError):
        store.get(GetRequest("a/b", 9, 1))
    with pytest.raises(StorageError, match="memory:///nope"):
        store.get(GetRequest("nope"))


def test_metadata_and_content_type_are_told_apart() -> None:
    inner = MemoryStore()
    inner.put("k", b"x", attributes={"Content-Type": "text/csv", "Cache-Control": "no-store", "owner": "me"})
    got = open_data_store(inner).get(GetRequest("k"))
    assert (got.content_type, got.storage_class, got.metadata) == ("text/csv", "STANDARD", {"owner": "me"})


def test_conditional_requests(store: ObjectStore) -> None:
    first = store.put("k", b"1", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        store.put("k", b"2", if_absent=True)
    with pytest.raises(NotModifiedError):
        store.get(GetRequest("k", if_none_match=first))
    second = store.put("k", b"2", if_match=first)
    with pytest.raises(PreconditionFailedError):
        store.put("k", b"3", if_match=first)
    with pytest.raises(PreconditionFailedError):
        store.get(GetRequest("k", if_match=first))
    with pytest.raises(PreconditionFailedError):
        store.put("missing", b"3", if_match=first)
    assert store.get(GetRequest("k", if_none_match=first)).body == b"2"
    assert store.get(GetRequest("k", if_match=second)).body == b"2"


def test_get_many_keeps_order_and_returns_errors(store: ObjectStore) -> None:
    for i in range(0, 200, 2):
        store.put(f"k{i}", str(i).encode())
    answers = store.get_many([GetRequest(f"k{i}") for i in range(200)])
    assert [a.body if isinstance(a, Got) else type(a) for a in answers] == [
        str(i).encode() if i % 2 == 0 else KeyMissingError for i in range(200)
    ]
    assert store.get_many([]) == []


def test_listing_takes_any_text_as_prefix(store: ObjectStore) -> None:
    keys = ["logs/day=1/a", "logs/day=1/b", "logs/day=10/c", "logs/other", "logs2/x"]
    for key in keys:
        store.put(key, b"12")
    assert [item.key for item in store.list("")] == sorted(keys)
    assert [item.key for item in store.list("logs/day=1")] == keys[:3]
    assert [item.key for item in store.list("logs/day=1/")] == keys[:2]
    assert [item.key for item in store.list("log")] == sorted(keys)
    assert [item.key for item in store.list("logs/", start_after="logs/day=1/b")] == keys[2:4]
    assert list(store.list("none/")) == []
    item = next(store.list("logs/other"))
    assert (item.size, item.etag) == (2, store.get(GetRequest("logs/other")).etag)
    assert store.folders("logs/") == ["day=1", "day=10"]
    assert store.folders("") == ["logs", "logs2"]
    assert store.folders("none/") == []


def test_listing_is_in_order_beyond_one_page(store: ObjectStore) -> None:
    for i in range(2300):
        store.put(f"p/{i}", b"")
    assert [item.key for item in store.list("p/")] == sorted(f"p/{i}" for i in range(2300))


def test_delete_many_ignores_missing_keys(store: ObjectStore) -> None:
    for key in ("a", "b", "c"):
        store.put(key, b"")
    store.delete_many(["a", "missing", "c"])
    store.delete_many([])
    assert [item.key for item in store.list("")] == ["b"]


def test_a_prefix_is_kept_apart_from_the_rest() -> None:
    inner = MemoryStore()
    inner.put("other/k", b"0")
    store = ObstoreStore("memory://x", inner, "my/index/")
    store.put("tables/t/manifest.json", b"1")
    assert [bytes(inner.get("my/index/tables/t/manifest.json").bytes())] == [b"1"]
    assert [item.key for item in store.list("")] == ["tables/t/manifest.json"]
    assert [item.key for item in store.list("tables/", start_after="tables/s")] == ["tables/t/manifest.json"]
    assert store.folders("tables/") == ["t"]
    store.delete_many(["tables/t/manifest.json"])
    assert list(store.list("")) == []


@pytest.mark.parametrize("key", ["", "tr/d/", "/lead", "a//b", "..", "a/../b", ".", "a/./b", "c\x01d", "x\n", "\x7f"])
def test_keys_that_obstore_would_alter_are_refused(store: ObjectStore, key: str) -> None:
    for attempt in (lambda: store.get(GetRequest(key)), lambda: store.open(key), lambda: store.put(key, b"")):
        with pytest.raises(StorageError, match="cannot hold the key"):
            attempt()


@given(st.text(st.sampled_from("ab/.%\n\x00\x7f\x80é\u2028 +*?#\\"), max_size=8))
def test_odd_is_exactly_what_obstore_does_not_reproduce(key: str) -> None:
    inner = MemoryStore()
    try:
        inner.put(key, b"")
        reproduced = [meta["path"] for page in inner.list() for meta in page] == [key]
    except Exception:
        reproduced = False
    assert is_odd(key) is not reproduced


def test_opened_objects_stream_all_of_the_body(store: ObjectStore) -> None:
    body = bytes(range(256)) * 20_000
    store.put("big", body)
    opened = store.open("big")
    assert (opened.info.size, opened.info.body, opened.info.key) == (len(body), b"", "big")
    chunks = list(opened.chunks())
    opened.close()
    assert b"".join(chunks) == body
    assert b"".join(store.open("big").chunks()) == body
    store.put("empty", b"")
    assert list(store.open("empty").chunks()) == []
    with pytest.raises(KeyMissingError):
        store.open("nope")


class BrokenError(Exception):
    """A connection that was reset."""


def breaking(body: bytes, start: int, stop: int) -> Iterator[bytes]:
    for i in range(start, stop):
        yield body[i : i + 1]
    raise BrokenError


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=RESUMES_MAX), st.booleans())
def test_a_broken_body_is_resumed_where_it_broke(body: bytes, breaks: list[int], quietly: bool) -> None:
    cuts = sorted(min(cut, len(body)) for cut in breaks)
    asked = []

    def reader(offset: int) -> Iterator[bytes]:
        stop = cuts.pop(0) if cuts else len(body)
        if quietly or stop == len(body):
            return iter([body[offset:stop]])
        return breaking(body, offset, stop)

    def reopen(request: GetRequest) -> Iterator[bytes]:
        assert (request.key, request.length, request.if_match) == ("k", None, "e")
        asked.append(request.start or 0)
        return reader(asked[-1])

    info = Got("k", b"", "e", len(body), 0.0)
    assert b"".join(resuming(info, reader(0), reopen, (BrokenError,))) == body
    assert asked == sorted(asked)


def test_a_body_may_break_often_as_long_as_it_goes_on() -> None:
    body = bytes(range(5 * RESUMES_MAX))

    def reopen(request: GetRequest) -> Iterator[bytes]:
        offset = request.start or 0
        return breaking(body, offset, min(offset + 1, len(body)))

    info = Got("k", b"", "e", len(body), 0.0)
    assert b"".join(resuming(info, breaking(body, 0, 1), reopen, (BrokenError,))) == body


def test_a_body_that_keeps_breaking_is_an_error() -> None:
    opened = []

    def reopen(request: GetRequest) -> Iterator[bytes]:
        opened.append(request.start)
        return breaking(b"abc", 2, 2)

    with pytest.raises(StorageError, match="breaks off at byte 2 of 3"):
        list(resuming(Got("k", b"", "e", 3, 0.0), breaking(b"abc", 0, 2), reopen, (BrokenError,)))
    assert opened == [2] * RESUMES_MAX


def test_a_replaced_object_is_not_stitched_together() -> None:
    def reopen(request: GetRequest) -> Iterator[bytes]:
        raise PreconditionFailedError("412")

    chunks = resuming(Got("k", b"", "e", 3, 0.0), breaking(b"abc", 0, 2), reopen, (BrokenError,))
    assert [next(chunks), next(chunks)] == [b"a", b"b"]
    with pytest.raises(ObjectChangedError, match="'k' was replaced"):
        next(chunks)


def test_a_body_that_is_too_long_is_an_error() -> None:
    with pytest.raises(StorageError, match="4 bytes instead of 3"):
        list(resuming(Got("k", b"", "e", 3, 0.0), [b"abcd"], lambda request: [], (BrokenError,)))


class FlakyInner:
    """An obstore store whose bodies break after some bytes, and whose object can be replaced meanwhile."""

    def __init__(self, inner: MemoryStore, *, replace: bool = False) -> None:
        self.inner = inner
        self.replace = replace
        self.options: list[object] = []

    def get(self, path: str, options: object = None) -> object:
        self.options.append(options)
        result = self.inner.get(path, options=options)
        if self.replace:
            self.inner.put(path, b"replaced")
        return FlakyResult(result, 1000 if len(self.options) < 3 else 10**9)


class FlakyResult:
    def __init__(self, result: object, limit: int) -> None:
        self.result = result
        self.limit = limit

    def __getattr__(self, name: str) -> object:
        return getattr(self.result, name)

    def stream(self, size: int) -> Iterator[bytes]:
        body = self.result.bytes().to_bytes()
        yield body[: self.limit]
        if len(body) > self.limit:
            raise ConnectionResetError


def test_open_resumes_by_range_and_if_match() -> None:
    inner = MemoryStore()
    body = bytes(range(256)) * 20
    inner.put("k", body)
    flaky = FlakyInner(inner)
    opened = ObstoreStore("memory://", flaky).open("k")
    assert b"".join(opened.chunks()) == body
    etag = opened.info.etag
    assert flaky.options == [
        None,
        {"range": {"offset": 1000}, "if_match": etag},
        {"range": {"offset": 2000}, "if_match": etag},
    ]


def test_open_notices_a_replacement() -> None:
    inner = MemoryStore()
    inner.put("k", bytes(5000))
    opened = ObstoreStore("memory://", FlakyInner(inner, replace=True)).open("k")
    with pytest.raises(ObjectChangedError):
        list(opened.chunks())


@pytest.mark.parametrize(
    ("code", "status", "text", "kind"),
    [
        ("NoSuchKey", 404, "", KeyMissingError),
        ("NoSuchBucket", 404, "", StorageError),
        ("", 404, "", StorageError),
        ("", 304, "", NotModifiedError),
        ("PreconditionFailed", 412, "", PreconditionFailedError),
        ("ConditionalRequestConflict", 409, "", PreconditionFailedError),
        ("InvalidObjectState", 403, "", UnreadableObjectError),
        (
            "InvalidRequest",
            400,
            "The object was stored using a form of Server Side Encryption. The",
            UnreadableObjectError,
        ),
        ("InvalidRequest", 400, "", StorageError),
        ("AccessDenied", 403, "", AccessDeniedError),
        ("SignatureDoesNotMatch", 403, "", AccessDeniedError),
        ("ExpiredToken", 400, "", AccessDeniedError),
        ("KMS.DisabledException", 400, "", AccessDeniedError),
        ("SlowDown", 503, "", ThrottledError),
        ("", 429, "", ThrottledError),
        ("InternalError", 500, "", StorageError),
    ],
)
def test_failures_are_told_apart(code: str, status: int, text: str, kind: type[StorageError]) -> None:
    assert classify(code, status, text) is kind
    answer = (
        f"Server returned non-2xx status code: {status} X: <Error><Code>{code}</Code><Message>{text}</Message></Error>"
    )
    error = from_obstore(RuntimeError(answer + "<Token-0>secret</Token-0>"), "GET", "s3://b/k")
    assert type(error) is kind
    assert "secret" not in str(error)
    assert "GET s3://b/k" in str(error)


def test_a_store_that_does_not_answer_is_a_hint_at_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and doesn't listen
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        with pytest.raises(StorageError, match=r"GET s3://bucket/k: no answer.*endpoint"):
            open_index_store("s3://bucket").with_retries(False).get(GetRequest("k"))
    with pytest.raises(KeyMissingError, match="NotFoundError"):
        open_index_store("memory://").get(GetRequest("k"))


def test_counts(store: ObjectStore) -> None:
    counting = CountingStore(store)
    counting.put("a", b"12345")
    counting.put("b", b"123")
    counting.get(GetRequest("a"))
    counting.get_many([GetRequest("a", 1, 2), GetRequest("b"), GetRequest("nope")])
    with pytest.raises(KeyMissingError):
        counting.get(GetRequest("nope"))
    assert b"".join(counting.open("a").chunks()) == b"12345"
    assert len(list(counting.list(""))) == 2
    counting.delete_many(["a"])
    assert counting.requests == {"put": 2, "get": 6, "list": 1, "delete": 1}
    assert (counting.bytes_out, counting.bytes_in) == (8, 5 + 2 + 3 + 5)
    assert counting.rounds == 8
    assert counting.log[:4] == [("put", "a", 5), ("put", "b", 3), ("get", "a", 5), ("get", "a", 2)]
    assert len(counting.log) == sum(counting.requests.values())
    counting.with_retries(False).get(GetRequest("b"))
    assert counting.requests["get"] == 7
    counting.reset()
    assert (counting.requests, counting.rounds, counting.bytes_in, counting.log) == ({}, 0, 0, [])


def test_counts_are_shared_with_the_variant_without_retries() -> None:
    environment = {"access_key_id": "a", "secret_access_key": "b", "region": "eu-central-1"}
    counting = CountingStore(open_index_store(S3Store("bucket", config=environment)))
    once = counting.with_retries(False)
    assert once is not counting
    assert isinstance(once, CountingStore)
    once._count("get", "k", read=3)
    assert (counting.requests["get"], counting.bytes_in) == (1, 3)


def test_stores_that_cannot_hold_an_index_are_refused(tmp_path: object) -> None:
    for source in (LocalStore(str(tmp_path)), f"file://{tmp_path}"):
        with pytest.raises(StorageError, match="conditional update"):
            open_index_store(source)
    for source in ("", "s3://", "gs://bucket", "bucket"):
        with pytest.raises(StorageError, match="is no store"):
            open_index_store(source)
    with pytest.raises(StorageError, match="dict is not supported"):
        open_index_store({})


def test_memory_urls_are_separate_and_stores_are_shared() -> None:
    first, second = open_index_store("memory://"), open_index_store("memory://")
    first.put("k", b"")
    assert list(second.list("")) == []
    inner = MemoryStore()
    open_index_store(inner).put("k", b"1")
    assert open_data_store(inner).get(GetRequest("k")).body == b"1"
    assert open_index_store(first) is first


def test_s3_is_configured_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:2")
    store = open_index_store("s3://bucket/some/prefix/")
    assert store.url == "s3://bucket/some/prefix"
    config = store._inner.config
    assert (config["bucket"], config["region"], config["endpoint"]) == ("bucket", "eu-west-3", "http://localhost:2")
    assert store._prefix == "some/prefix/"
    assert store._inner.retry_config["max_retries"] == 5
    assert store.with_retries(False)._inner.retry_config["max_retries"] == 0
    with pytest.raises(StorageError) as failure:
        store.with_retries(False).get(GetRequest("k"))
    assert "sesame" not in str(failure.value)
    assert failure.value.__cause__ is not None
