"""Changes the index: applies events, compacts, collects garbage, commits definitions, backfills, verifies."""

from bucketdex.engine.backfill import Backfilled
from bucketdex.engine.engine import Engine
from bucketdex.engine.events import ApplyResult, Event
from bucketdex.engine.jobs import Job, JobChangedError
from bucketdex.engine.rounds import Round, Rounds
from bucketdex.engine.settings import Settings
from bucketdex.engine.turn import Depth, PageQueue
from bucketdex.engine.verify import Difference, Verified

__all__ = [
    "ApplyResult", "Backfilled", "Depth", "Difference", "Engine", "Event", "Job", "JobChangedError", "PageQueue",
    "Round", "Rounds", "Settings", "Verified",
]  # fmt: skip
