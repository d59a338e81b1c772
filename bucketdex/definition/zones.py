"""Time zones by name, from the tzdata package alone: every machine groups alike. Changes with where its data is."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from zoneinfo import ZoneInfo

TZDATA_VERSION: str = import_module("tzdata").IANA_VERSION


@cache
def zone_names() -> frozenset[str]:
    """All names that a definition may use, such as Europe/Berlin."""
    from importlib import resources  # late: most programs never ask for a zone

    return frozenset(resources.files("tzdata").joinpath("zones").read_text("utf-8").split())


@cache
def zone(name: str) -> ZoneInfo:
    """The zone of that name. Never the system's copy, which may be of another release. KeyError when there is none."""
    if name not in zone_names():
        raise KeyError(name)
    from importlib import resources

    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
