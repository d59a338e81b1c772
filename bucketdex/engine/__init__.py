"""Changes the index: applies events, compacts, collects garbage, commits definitions, backfills, verifies."""

from bucketdex.engine.backfill import Backfilled
from bucketdex.engine.engine import Engine
from bucketdex.engine.events import ApplyResult, Event
from bucketdex.engine.settings import Settings
from bucketdex.engine.verify import Difference, Verified

__all__ = ["ApplyResult", "Backfilled", "Difference", "Engine", "Event", "Settings", "Verified"]
