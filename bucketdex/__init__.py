"""Bucketdex makes an S3 bucket answer questions. What a user imports; changes with the public surface.

Everything is imported when it is first used, so that `import bucketdex` is quick and needs no boto3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bucketdex.client import Database, Query, Table
    from bucketdex.definition import TableDefinition
    from bucketdex.errors import (
        AccessDeniedError,
        BackfillError,
        BucketdexError,
        CommitGaveUpError,
        CorruptFileError,
        CorruptManifestError,
        DefinitionError,
        KeyMissingError,
        LocalDeploymentError,
        ManagedByStackError,
        MultipleRecordsError,
        NotModifiedError,
        ObjectChangedError,
        PreconditionFailedError,
        QueryError,
        ScanRequiredError,
        SnapshotExpiredError,
        StorageError,
        TableChangedError,
        TableNotFoundError,
        ThrottledError,
        UnreadableObjectError,
        UpgradeRequiredError,
        ViewBuildingError,
    )
    from bucketdex.query.expression import col

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "BackfillError",
    "BucketdexError",
    "CommitGaveUpError",
    "CorruptFileError",
    "CorruptManifestError",
    "Database",
    "DefinitionError",
    "KeyMissingError",
    "LocalDeploymentError",
    "ManagedByStackError",
    "MultipleRecordsError",
    "NotModifiedError",
    "ObjectChangedError",
    "PreconditionFailedError",
    "Query",
    "QueryError",
    "ScanRequiredError",
    "SnapshotExpiredError",
    "StorageError",
    "Table",
    "TableChangedError",
    "TableDefinition",
    "TableNotFoundError",
    "ThrottledError",
    "UnreadableObjectError",
    "UpgradeRequiredError",
    "ViewBuildingError",
    "__version__",
    "col",
]

_MODULES = {
    "Database": "bucketdex.client",
    "Query": "bucketdex.client",
    "Table": "bucketdex.client",
    "TableDefinition": "bucketdex.definition",
    "col": "bucketdex.query.expression",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bucketdex' has no attribute {name!r}")
    value = getattr(import_module(_MODULES.get(name, "bucketdex.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
