"""Changes the index: applies events, compacts, collects garbage, commits definitions."""

from bucketdex.engine.engine import Engine
from bucketdex.engine.events import ApplyResult, Event
from bucketdex.engine.settings import Settings

__all__ = ["ApplyResult", "Engine", "Event", "Settings"]
