"""Stores on S3: an index bucket, and a data bucket whose keys are anybody's. Changes with S3's interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from bucketdex.storage.failures import from_boto
from bucketdex.storage.obstore_store import CHUNK_BYTES, ObstoreStore, is_odd
from bucketdex.storage.s3_settings import S3Settings
from bucketdex.storage.stores import GetRequest, Got, Listed, Names, ObjectStore, OpenObject, resuming

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef


class S3IndexStore(ObstoreStore):
    """An index bucket on S3. Its keys are ours, so obstore serves every operation."""

    _storage_class = ""  # obstore drops S3's header

    def __init__(self, settings: S3Settings, *, retries: bool = True) -> None:
        super().__init__(
            f"s3://{settings.bucket}/{settings.prefix}".rstrip("/"), settings.obstore(retries), settings.prefix
        )
        self._settings = settings
        self._retries = retries

    def with_retries(self, enabled: bool) -> ObjectStore:
        return self if enabled == self._retries else type(self)(self._settings, retries=enabled)


class S3DataStore(S3IndexStore):
    """A data bucket on S3: every key means exactly its own object.

    Keys that obstore's paths don't reproduce go through boto3, and so do listings (one such key would fail obstore's),
    folders, tags and deletes. boto3 is imported when the first of them is asked for.
    """

    def __init__(self, settings: S3Settings, *, retries: bool = True) -> None:
        super().__init__(settings, retries=retries)
        self._boto_lock = Lock()

    @cached_property
    def _boto_client(self) -> S3Client:
        return self._settings.boto()

    @property
    def _boto(self) -> S3Client:
        with self._boto_lock:  # sessions are not safe to share while a client is made; clients are
            return self._boto_client

    def get(self, request: GetRequest) -> Got:
        if not self._needs_boto(request.key):
            return super().get(request)
        try:
            answer = self._get(request)
            return _got(request.key, answer, answer["Body"].read())
        except Exception as error:
            raise self._boto_failure(error, "GET", request.key) from error

    def open(self, key: str, *, storage_class: bool = False) -> OpenObject:
        if not storage_class and not self._needs_boto(key):
            return super().open(key)

        def read(request: GetRequest) -> GetObjectOutputTypeDef:
            try:
                return self._get(request)
            except Exception as error:
                raise self._boto_failure(error, "GET", key) from error

        first = read(GetRequest(key))
        info = _got(key, first, b"")

        def reopen(request: GetRequest) -> Iterator[bytes]:
            return read(request)["Body"].iter_chunks(CHUNK_BYTES)

        chunks = resuming(info, first["Body"].iter_chunks(CHUNK_BYTES), reopen, (Exception,))
        return OpenObject(info, chunks, first["Body"].close)

    def put(self, key: str, body: bytes, *, if_match: str | None = None, if_absent: bool = False) -> str:
        if not self._needs_boto(key):
            return super().put(key, body, if_match=if_match, if_absent=if_absent)
        assert not (if_match is not None and if_absent)
        condition: dict[str, Any] = {}
        if if_match is not None:
            condition["IfMatch"] = if_match
        elif if_absent:
            condition["IfNoneMatch"] = "*"
        try:
            answer = self._boto.put_object(Bucket=self._settings.bucket, Key=self._key(key), Body=body, **condition)
        except Exception as error:
            raise self._boto_failure(error, "PUT", key) from error
        return answer["ETag"]

    def delete_many(self, keys: Sequence[str]) -> None:
        odd = [key for key in keys if self._needs_boto(key)]
        super().delete_many([key for key in keys if not self._needs_boto(key)])
        for key in odd:  # one by one: the XML of a bulk delete cannot hold control characters
            try:
                self._boto.delete_object(Bucket=self._settings.bucket, Key=self._key(key))
            except Exception as error:
                raise self._boto_failure(error, "DELETE", key) from error

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[Listed]:
        after: dict[str, Any] = {} if start_after is None else {"StartAfter": self._key(start_after)}
        cut = len(self._settings.prefix)
        try:
            pages = self._boto.get_paginator("list_objects_v2").paginate(
                Bucket=self._settings.bucket, Prefix=self._key(prefix), **after
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    modified = item["LastModified"].timestamp()
                    yield Listed(item["Key"][cut:], item["Size"], item["ETag"], modified)
        except Exception as error:
            raise self._boto_failure(error, "LIST", prefix) from error

    def folders(self, prefix: str) -> Names:
        names = []
        try:
            pages = self._boto.get_paginator("list_objects_v2").paginate(
                Bucket=self._settings.bucket, Prefix=self._key(prefix), Delimiter="/"
            )
            for page in pages:
                names += [item["Prefix"][len(self._key(prefix)) : -1] for item in page.get("CommonPrefixes", ())]
        except Exception as error:
            raise self._boto_failure(error, "LIST", prefix) from error
        return sorted(names)

    def tags(self, key: str) -> dict[str, str]:
        try:
            answer = self._boto.get_object_tagging(Bucket=self._settings.bucket, Key=self._key(key))
        except Exception as error:
            raise self._boto_failure(error, "GET tags of", key) from error
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    def _get(self, request: GetRequest) -> GetObjectOutputTypeDef:
        options: dict[str, Any] = {}
        if request.length is not None:
            start = request.start or 0
            options["Range"] = f"bytes={start}-{start + request.length - 1}"
        elif request.start:
            options["Range"] = f"bytes={request.start}-"
        if request.if_match is not None:
            options["IfMatch"] = request.if_match
        if request.if_none_match is not None:
            options["IfNoneMatch"] = request.if_none_match
        return self._boto.get_object(Bucket=self._settings.bucket, Key=self._key(request.key), **options)

    def _needs_boto(self, key: str) -> bool:
        return is_odd(self._key(key))

    def _key(self, key: str) -> str:
        return self._settings.prefix + key

    def _boto_failure(self, error: Exception, operation: str, key: str) -> Exception:
        return from_boto(error, operation, f"{self.url}/{key}")


def _got(key: str, answer: GetObjectOutputTypeDef, body: bytes) -> Got:
    whole = answer.get("ContentRange", "").rpartition("/")[2]
    return Got(
        key,
        body,
        answer["ETag"],
        int(whole) if whole.isdecimal() else answer["ContentLength"],
        answer["LastModified"].timestamp(),
        metadata=dict(answer.get("Metadata", {})),
        content_type=answer.get("ContentType", ""),
        storage_class=answer.get("StorageClass", "STANDARD"),
    )
