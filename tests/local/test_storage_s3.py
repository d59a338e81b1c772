"""The stores on S3 itself, as the emulator plays it: conditional updates, odd keys, listings, errors."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import msgspec
import pytest
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from bucketdex.errors import (
    KeyMissingError,
    NotModifiedError,
    PreconditionFailedError,
    StorageError,
    UnreadableObjectError,
)
from bucketdex.local import emulator
from bucketdex.runtime import Runtime
from bucketdex.storage import (
    CountingStore,
    GetRequest,
    Got,
    LogEntry,
    Manifest,
    ManifestStore,
    ObjectStore,
    SwapLostError,
    open_data_store,
    open_index_store,
)

pytestmark = pytest.mark.local

ODD_KEYS = [
    "tr/d/",
    "/lead",
    "a//b",
    "..",
    ".",
    "a/../b",
    "a/./b",
    "c\x01d",
    "x\n",
    "\x7f",
    "//",
    "/",
    "lead//",
    "tab\t/\r",
]
PLAIN_KEYS = [
    "tr/d", "lead", "a/b", "b", "c d", "x", "plus+plus", "at@at", "per%2Fcent%", "uni-é😀/ñ", "n" * 1024, "é" * 512, " ", "#q?x=1&y",
    "*star'()!", "back\\slash", "<>&\"", "~`^{}|[]", "...", "a/.b/..c", "\u2028", "\ufeffbom",
]  # fmt: skip
counter = itertools.count()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of an emulator of this module's own, which the environment points at meanwhile."""
    home = tmp_path_factory.mktemp("emulator")
    deployment = emulator.start(directory=home)
    try:
        with deployment.environment():
            yield boto3.client("s3")
    finally:
        emulator.stop(directory=home)


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"bucket-{next(counter)}"
    client.create_bucket(Bucket=name)
    return name


def test_what_is_put_is_got(bucket: str) -> None:
    for store in (open_index_store(f"s3://{bucket}/some/prefix"), open_data_store(f"s3://{bucket}")):
        etag = store.put("a/b", b"hello")
        got = store.get(GetRequest("a/b", 1, 3))
        assert (got.body, got.size, got.etag) == (b"ell", 5, etag)
        assert got.last_modified > 1_600_000_000
        assert [item.key for item in store.list("a")] == ["a/b"]
        assert b"".join(store.open("a/b").chunks()) == b"hello"
        answers = store.get_many(
            [GetRequest("a/b", if_none_match=etag), GetRequest("no"), GetRequest("a/b", if_match='"x"')]
        )
        assert [type(answer) for answer in answers] == [NotModifiedError, KeyMissingError, PreconditionFailedError]
        with pytest.raises(PreconditionFailedError):
            store.put("a/b", b"x", if_absent=True)
        with pytest.raises(PreconditionFailedError):
            store.put("a/b", b"x", if_match='"x"')
        assert store.put("a/b", b"x", if_match=etag) != etag


def test_every_key_reads_exactly_its_own_object(client: Any, bucket: str) -> None:
    store = open_data_store(f"s3://{bucket}")
    keys = ODD_KEYS + PLAIN_KEYS
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"body of " + key.encode(), Metadata={"name": str(len(key))})
    for key in keys:
        body = b"body of " + key.encode()
        got = store.get(GetRequest(key))
        assert (got.key, got.body, got.size, got.metadata) == (key, body, len(body), {"name": str(len(key))})
        assert store.get(GetRequest(key, 5, 2)).body == b"of"
        assert store.get(GetRequest(key, 5, 2)).size == len(body)
        assert store.get(GetRequest(key, 8, if_match=got.etag)).body == key.encode()
        opened = store.open(key)
        assert opened.info == msgspec.structs.replace(got, body=b"")
        assert store.open(key, storage_class=True).info.storage_class == "STANDARD"
        assert b"".join(opened.chunks()) == body
        opened.close()
        with pytest.raises(NotModifiedError):
            store.get(GetRequest(key, if_none_match=got.etag))
        with pytest.raises(PreconditionFailedError):
            store.get(GetRequest(key, if_match='"other"'))
    listed = [item.key for item in store.list("")]
    assert sorted(listed) == sorted(keys)
    assert listed == sorted(listed, key=str.encode)
    assert [item.key for item in store.list("a/", start_after="a/./b")] == [
        k for k in sorted(keys) if k.startswith("a/") and k > "a/./b"
    ]
    for got in store.get_many([GetRequest(key) for key in keys]):
        assert isinstance(got, Got)
        assert got.body == b"body of " + got.key.encode()


def test_every_key_is_written_and_deleted_alone(client: Any, bucket: str) -> None:
    store = open_data_store(f"s3://{bucket}/pre//fix")
    keys = ODD_KEYS + PLAIN_KEYS[:9]
    etags = {key: store.put(key, key.encode(), if_absent=True) for key in keys}
    assert {item.key: item.etag for item in store.list("")} == etags
    assert client.get_object(Bucket=bucket, Key="pre//fix/tr/d/")["Body"].read() == b"tr/d/"
    with pytest.raises(PreconditionFailedError):
        store.put("a//b", b"x", if_absent=True)
    with pytest.raises(PreconditionFailedError):
        store.put("a//b", b"x", if_match=etags["a/b"])
    store.put("a//b", b"x", if_match=etags["a//b"])
    assert store.get(GetRequest("a/b")).body == b"a/b"
    assert {"a", "lead", "tr", ""} <= set(store.folders(""))
    for gone, left in (("tr/d/", "tr/d"), ("/lead", "lead"), ("a//b", "a/b")):
        store.delete_many([gone, "not/there", "nor//there"])
        with pytest.raises(KeyMissingError):
            store.get(GetRequest(gone))
        assert store.get(GetRequest(left)).body == left.encode()
    store.delete_many(keys)
    assert list(store.list("")) == []


def test_all_of_200_concurrent_updates_hold(bucket: str) -> None:
    index = open_index_store(f"s3://{bucket}")
    manifests = ManifestStore(index, Runtime())
    manifests.create("t", Manifest(1, 1, "t", 0, "c", log=[LogEntry("c", 0, "definition", None)]))

    def commit(number: int) -> None:
        base = manifests.load("t")
        while True:
            manifest = base.manifest
            generation = manifest.generation + 1
            entry = LogEntry(f"c{number}", generation, "commit", b"")
            try:
                manifests.swap(
                    base,
                    msgspec.structs.replace(
                        manifest, generation=generation, commit=entry.id, log=[*manifest.log, entry]
                    ),
                )
                return
            except SwapLostError as lost:
                base = lost.current

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(commit, range(200)))
    final = manifests.load("t").manifest
    assert final.generation == 200
    assert {entry.id for entry in final.log} == {"c"} | {f"c{n}" for n in range(200)}
    assert manifests.tables() == ["t"]


def test_listing_goes_beyond_a_page(bucket: str) -> None:
    stores: list[ObjectStore] = [open_index_store(f"s3://{bucket}"), open_data_store(f"s3://{bucket}")]
    keys = sorted(f"p/{n:04d} +%" for n in range(1100))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: stores[0].put(key, b""), keys))
    for store in stores:
        assert [item.key for item in store.list("p/")] == keys
        assert [item.key for item in store.list("p/", start_after=keys[1000])] == keys[1001:]
        assert [item.key for item in store.list("p/0042 +")] == keys[42:43]
    stores[1].delete_many(keys)
    assert list(stores[0].list("")) == []


def test_what_cannot_be_read_is_told_apart_from_what_is_gone(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="cold", Body=b"x", StorageClass="GLACIER")
    client.put_object(Bucket=bucket, Key="cold//", Body=b"x", StorageClass="GLACIER")
    client.put_object(Bucket=bucket, Key="locked", Body=b"x", SSECustomerAlgorithm="AES256", SSECustomerKey="k" * 32)
    store = open_data_store(f"s3://{bucket}")
    for key in ("cold", "cold//", "locked"):
        for read in (lambda key=key: store.get(GetRequest(key)), lambda key=key: store.open(key)):
            with pytest.raises(UnreadableObjectError, match=key):
                read()
    for key in ("gone", "gone//"):
        with pytest.raises(KeyMissingError):
            store.get(GetRequest(key))
        with pytest.raises(StorageError, match="no such bucket") as failure:
            open_data_store("s3://no-such-bucket").get(GetRequest(key))
        assert not isinstance(failure.value, KeyMissingError)


def test_the_storage_class_is_told_where_it_is_asked_for(client: Any, bucket: str) -> None:
    store = CountingStore(open_data_store(f"s3://{bucket}"))
    for key in ("k", "k//"):
        client.put_object(Bucket=bucket, Key=key, Body=b"body", StorageClass="STANDARD_IA")
        opened = store.open(key, storage_class=True)
        assert opened.info.storage_class == "STANDARD_IA"
        assert b"".join(opened.chunks()) == b"body"
    assert store.open("k").info.storage_class == ""
    assert store.requests == {"get": 3}


def test_tags(client: Any, bucket: str) -> None:
    store = open_data_store(f"s3://{bucket}")
    for key in ("k", "k//"):
        client.put_object(Bucket=bucket, Key=key, Body=b"", Tagging="team=a%20b&x=")
        assert store.tags(key) == {"team": "a b", "x": ""}
    with pytest.raises(KeyMissingError):
        store.tags("gone")


def test_a_big_object_streams(bucket: str) -> None:
    store = CountingStore(open_data_store(f"s3://{bucket}"))
    body = bytes(range(256)) * 40_000
    for key in ("big", "big//"):
        store.put(key, body)
        chunks = list(store.open(key).chunks())
        assert b"".join(chunks) == body
        assert len(chunks) > 2
    assert store.requests == {"put": 2, "get": 2}
    assert store.bytes_in == 2 * len(body)


def test_a_configured_store_is_taken_over_with_its_prefix_and_credentials(client: Any, bucket: str) -> None:
    endpoint = client.meta.endpoint_url
    given = S3Store(
        bucket,
        prefix="team/a",
        endpoint=endpoint,
        region="us-east-1",
        client_options={"allow_http": True},
        credential_provider=Boto3CredentialProvider(boto3.Session()),
    )
    store = open_data_store(given)
    for key in ("k", "k//"):
        store.put(key, key.encode())
        assert client.get_object(Bucket=bucket, Key=f"team/a/{key}")["Body"].read() == key.encode()
        assert store.with_retries(False).get(GetRequest(key)).body == key.encode()
    assert store.url == f"s3://{bucket}/team/a"


def test_credentials_of_a_profile_are_used(bucket: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = open_data_store(f"s3://{bucket}")
    for key in ("k", "k//"):
        store.put(key, b"1")
        assert store.get(GetRequest(key)).body == b"1"
