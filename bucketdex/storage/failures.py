"""Which of our errors a store's failure is. Changes when a store is seen to fail in a new way."""

from __future__ import annotations

import re
from typing import Final

from bucketdex.errors import (
    AccessDeniedError,
    KeyMissingError,
    NotModifiedError,
    PreconditionFailedError,
    StorageError,
    ThrottledError,
    UnreadableObjectError,
)

THROTTLING: Final = frozenset(
    {"SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "TooManyRequests", "Throttling", "ThrottlingException"}
)
DENIALS: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})  # answered with status 400
# The prefix of the message of the InvalidRequest (400) that S3 answers when a customer-provided key is needed.
CUSTOMER_KEY: Final = "stored using a form of Server Side Encryption"

_code = re.compile(r"<Code>([A-Za-z0-9.]+)</Code>")
_status = re.compile(r"status code: (\d{3})")


def classify(code: str, status: int, text: str = "") -> type[StorageError]:
    """Our error for S3's error code and HTTP status.

    Only NoSuchKey says that an object is gone: a 404 for a missing bucket, or from a proxy, must not look like a
    deletion. Access and throttling errors aren't the object's fault; archived and customer-key objects are unreadable.
    """
    if code in {"NoSuchKey", "NoSuchVersion"}:
        return KeyMissingError
    if status == 304:
        return NotModifiedError
    if status in {409, 412}:
        return PreconditionFailedError
    if code == "InvalidObjectState" or CUSTOMER_KEY in text:
        return UnreadableObjectError
    if code in THROTTLING or status in {429, 503}:
        return ThrottledError
    if status in {401, 403} or code in DENIALS or code.startswith("KMS."):
        return AccessDeniedError
    return StorageError


def from_obstore(error: Exception, operation: str, where: str) -> StorageError:
    """Our error for one of obstore's. Its own text stays in the cause: S3's answers can quote parts of a request."""
    from obstore import exceptions

    text = str(error)
    code = _first(_code, text)
    status = int(_first(_status, text) or 0)
    if code or status:
        kind = classify(code, status, text)
    elif isinstance(error, (FileNotFoundError, exceptions.NotFoundError)):
        kind = KeyMissingError
    elif isinstance(error, exceptions.NotModifiedError):
        kind = NotModifiedError
    elif isinstance(error, (exceptions.PreconditionError, exceptions.AlreadyExistsError)):
        kind = PreconditionFailedError
    elif isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)):
        kind = AccessDeniedError
    else:
        kind = StorageError
    name = type(error).__name__ if kind is not StorageError else _unanswered(error)
    return kind(_message(operation, where, code, status, name))


def from_boto(error: Exception, operation: str, where: str) -> StorageError:
    """Our error for one of botocore's."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return StorageError(_message(operation, where, "", 0, _unanswered(error)))
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    kind = classify(code, status, error.response.get("Error", {}).get("Message", ""))
    return kind(_message(operation, where, code, status, type(error).__name__))


def _unanswered(error: Exception) -> str:
    return f"no answer ({type(error).__name__}); are endpoint, region and network right?"


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match.group(1) if match else ""


def _message(operation: str, where: str, code: str, status: int, name: str) -> str:
    detail = " ".join(part for part in (str(status or ""), code) if part) or name
    hint = {"NoSuchBucket": ": there is no such bucket", "PermanentRedirect": ": set AWS_REGION to the bucket's region"}
    return f"{operation} {where}: {detail}{hint.get(code, '')}"
