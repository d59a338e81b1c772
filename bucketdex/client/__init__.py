"""What a user imports: Database, Table and the queries they make."""

from bucketdex.client.changes import Changes
from bucketdex.client.database import Database
from bucketdex.client.paging import Page
from bucketdex.client.query import Query
from bucketdex.client.summary import SummaryQuery
from bucketdex.client.table import Table

__all__ = ["Changes", "Database", "Page", "Query", "SummaryQuery", "Table"]
