"""Objects to records, rows and rejects: json, ndjson, csv, blob, and a user's own format."""

from bucketdex.source.check import check_file, key_of
from bucketdex.source.object import At, ObjectInfo, RecordBatch, Reject
from bucketdex.source.original import original
from bucketdex.source.read import read_records
from bucketdex.source.unpack import named_packed

__all__ = [
    "At",
    "ObjectInfo",
    "RecordBatch",
    "Reject",
    "check_file",
    "key_of",
    "named_packed",
    "original",
    "read_records",
]
