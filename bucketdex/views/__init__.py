"""What a view is: its sort keys, how its lines fold, and how one generation of it is read."""

from bucketdex.views.cache import BlockCache
from bucketdex.views.changes import changes
from bucketdex.views.snapshot import Entry, Snapshot, current_view
from bucketdex.views.spec import OBJECTS, RECORDS, REJECTS, View, values_views, view_of, views_of

__all__ = [
    "OBJECTS",
    "RECORDS",
    "REJECTS",
    "BlockCache",
    "Entry",
    "Snapshot",
    "View",
    "changes",
    "current_view",
    "values_views",
    "view_of",
    "views_of",
]
