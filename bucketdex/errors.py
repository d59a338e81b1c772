"""Every error that Bucketdex raises: one small tree, each message saying what to do."""

from __future__ import annotations

from typing import ClassVar


class BucketdexError(Exception):
    """Base of all errors raised by Bucketdex."""


class DefinitionError(BucketdexError):
    """A table definition is wrong; the message names the file, the entry and the remedy."""


class ManagedByStackError(BucketdexError):
    """A table that a deployed stack manages can only be changed by a deployment."""


class TableNotFoundError(BucketdexError):
    """No such table in this index (or it was dropped)."""

    @classmethod
    def dropped(cls, table: str) -> TableNotFoundError:
        """Of a table that was there before."""
        return cls(f"table {table!r} was dropped: define it again, or deploy it")


class TableChangedError(BucketdexError):
    """The table was defined anew while all of it was walked; run it again."""


class QueryError(BucketdexError):
    """A query is wrong: an unknown field, operator, summary or a value that doesn't fit its type."""


class ScanRequiredError(QueryError):
    """No index serves the query; the message names one that would, and `.allow_scan()`."""


class ViewBuildingError(QueryError):
    """The view that would serve the query is still being built."""


class MultipleRecordsError(QueryError):
    """`get` was asked for the one record of an object that holds several."""


class StorageError(BucketdexError):
    """An object store failed or refused; the cause is kept."""


class KeyMissingError(StorageError):
    """The object does not exist (404)."""


class NotModifiedError(StorageError):
    """The object still has the ETag that the request named (304)."""


class PreconditionFailedError(StorageError):
    """A conditional request was refused (409 or 412). Of a PUT this proves nothing about what landed."""


class AccessDeniedError(StorageError):
    """The store refused access (403, KMS); permissions are to be mended, not the object."""


class ThrottledError(StorageError):
    """The store asked to slow down (503, 429) beyond the bounded retries."""


class UnreadableObjectError(StorageError):
    """The object itself cannot be read: archived storage class or customer-provided encryption key."""


class ObjectChangedError(StorageError):
    """The object was replaced while it was read in several requests; read it again from the start."""


class CorruptFileError(StorageError):
    """A file of the index fails its checksum or counts, or is cut short; the message names it."""

    remedy: ClassVar[str] = (
        "try again; if it stays damaged, bucketdex rebuild makes the table anew from its objects "
        "(bucketdex verify --deep reads every file)"
    )

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.remedy}"


class CorruptManifestError(CorruptFileError):
    """A table's manifest, or a piece of it, can't be read: nothing of the table is known any more."""

    remedy: ClassVar[str] = (
        "try again; if it stays damaged, delete all below tables/<table>/ in the index, "
        "define the table again and backfill it"
    )


class UpgradeRequiredError(BucketdexError):
    """The index was written in a newer format than this version of Bucketdex reads."""


class SnapshotExpiredError(BucketdexError):
    """The snapshot being read is past its grace period; run the query again."""


class CommitGaveUpError(BucketdexError):
    """Too many commits came first; nothing was changed, the batch is to be sent again."""


class BackfillError(BucketdexError):
    """A backfill was asked for what it can't do; the message says what it can."""


class LocalDeploymentError(BucketdexError):
    """The local emulator or the deployment to it failed."""
