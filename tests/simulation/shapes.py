"""What the world of a seed is like: its tables, bounds, traffic and faults, drawn before anything runs."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from messages import Delivery
from toxics import FAULTS, Toxicity

from bucketdex.definition import TableDefinition
from bucketdex.engine import Settings
from bucketdex.engine.settings import ERASE_SECONDS_MIN

KINDS = (
    "mixed", "hot", "bursty", "bulk", "bulk", "sweeping", "losing", "poisoned", "redefined", "merging", "rebuilt",
    "rebuilt", "erasing",
)  # fmt: skip

PLAIN: dict[str, Any] = {
    "source": {"prefix": "d/", "format": "ndjson"},
    "fields": {"g": "string", "a": "decimal", "t": {"type": "string", "path": "t[]"}},
    "indexes": {"by_g": ["g", "a"], "by_t": ["t"]},
    "summaries": {
        "s": {
            "group_by": ["g"],
            "measures": {
                "n": "count()",
                "total": "sum(a)",
                "top": "max(a)",
                "low": "min(a)",
                "kinds": "count_distinct(a)",
            },
        }
    },
}
FEWER: dict[str, Any] = PLAIN | {"indexes": {"by_g": ["g", "a"]}, "summaries": {}}
OTHER: dict[str, Any] = PLAIN | {
    "indexes": {"by_g": ["a", "g"], "by_t": ["t"]},
    "summaries": {"s": {"group_by": ["a"], "measures": {"n": "count()", "top": "max(a)", "total": "sum(a)"}}},
}

INTS: dict[str, Any] = PLAIN | {"fields": PLAIN["fields"] | {"a": "int"}}
KEYED: dict[str, Any] = OTHER | {"fields": PLAIN["fields"] | {"k": {"type": "string", "from": "system", "path": "key"}}}

SETTINGS = Settings(
    alone_bytes=400, alone_rows=12, wave_objects=3, delta_rows_max=14, flush_rows=16, inline_bytes_max=500,
    inline_total_max=1_200, touched_max=2, log_bytes_max=64, log_entries_max=4, attempts_max=8, debt_deltas=2, debt_rows=12,
    block_bytes=150, step_rows=12, merge_blocks=1, grace_seconds=600.0, sweep_generations=10,
)  # fmt: skip


class Shape(msgspec.Struct):
    """One world."""

    kind: str
    definitions: list[TableDefinition]  # the first is the one it begins and ends with
    settings: Settings
    toxicity: Toxicity
    swap_factor: float  # how much more often a swap's outcome is unknown than that of another call
    manifest_bytes_max: int
    whole_file_bytes: int
    keys: list[str]
    rows: list[int]  # in a new object
    mutations: int
    pauses_s: list[float]  # between mutations
    polls_s: list[float]  # between two batches of an indexer
    writers: int
    indexers: int
    compactors: int
    collectors: int
    deployers: int
    builders: int
    repairers: int
    backfillers: int
    clients: int
    delivery: Delivery
    drops: bool
    rebuilds: bool
    late: bool  # the table isn't there at first: the deployers make it, under faults
    erasing: bool  # values of their own in objects, of which those that are deleted have to go from every file in time
    poison: dict[str, float]  # keys that can't be read until that time after the beginning
    reading: Toxicity | None = None  # of indexers that read objects, where it isn't the others'
    dawdling: float = 0.0  # the chance that an indexer dwells on a manifest
    hesitance: float = 0.0  # the chance that whoever builds views or successors dwells on a manifest
    flickers: bool = False  # deployers take views away and add them again, quickly; compactors build them
    upgraded: bool = False  # processes of two releases are at work, which write the same row as other bytes
    sweeps: float = 0.4  # the share of collections that sweep
    interrupted: float = 0.3  # the share of compactions that end after one step

    def is_poison(self, key: str) -> bool:
        return key in self.poison


def draw(r: random.Random) -> Shape:
    """The shape of a seed."""
    kind = r.choice(KINDS)
    on_error = r.choice(["skip_record", "skip_record", "reject_object"])
    plain = [PLAIN]
    if kind == "rebuilt":
        plain = [PLAIN, PLAIN, r.choice([INTS, KEYED]), r.choice([FEWER, OTHER, INTS])]
    elif kind == "redefined" or r.random() < 0.2:
        plain = [PLAIN, r.choice([FEWER, OTHER]), OTHER]
    source = PLAIN["source"] | {"on_error": on_error}
    definitions = [TableDefinition.from_dict("t", described | {"source": source}) for described in plain]
    shape = Shape(
        kind=kind,
        definitions=definitions,
        settings=msgspec.structs.replace(
            SETTINGS, delta_rows_max=r.choice([14, 14, 14, 200]), touched_max=r.choice([1, 2])
        ),
        toxicity=_toxicity(r),
        swap_factor=r.choice([1.0, 1.0, 5.0]),
        manifest_bytes_max=r.choice([4_000, 256 * 1024, 256 * 1024]),
        whole_file_bytes=r.choice([100, 2**16, 2**16, 2**16]),
        keys=[f"d/{i}" for i in range(r.choice([1, 2, 4, 8]))],
        rows=[0, 1, 2, 4, 9, 40],
        mutations=r.choice([3, 8, 16]),
        pauses_s=[0.0, 0.1, 1.0, 50.0, 700.0],
        polls_s=[0.01, 1.0, 20.0],
        writers=r.choice([1, 2]),
        indexers=r.choice([1, 2, 3]),
        compactors=r.choice([0, 1, 2]),
        collectors=r.choice([0, 1]),
        deployers=int(len(plain) > 1),
        builders=0,
        repairers=int(r.random() < 0.1),
        backfillers=0,
        clients=int(r.random() < 0.25),
        delivery=Delivery(),
        drops=False,
        rebuilds=False,
        late=False,
        erasing=r.random() < 0.06,
        poison={},
    )
    shape = _SHAPED.get(kind, _mixed)(r, shape)
    shape.settings = msgspec.structs.replace(shape.settings, erase_seconds=ERASE_SECONDS_MIN)
    if shape.whole_file_bytes < 1_000:  # many more calls, of which any may fail all of an attempt
        milder = {name: getattr(shape.toxicity, name) * 0.3 for name in FAULTS}
        shape.toxicity = Toxicity(**milder)
    return shape


def _toxicity(r: random.Random) -> Toxicity:
    if r.random() < 0.2:
        return Toxicity()
    level = r.choice([0.002, 0.01, 0.03])
    on = {name: level * r.choice([0, 0, 1, 1, 3]) for name in FAULTS}
    on["stall"] = min(on["stall"], 0.004)
    on["crash"] = min(on["crash"], 0.01)
    return Toxicity(**on)


def _mixed(r: random.Random, shape: Shape) -> Shape:
    return shape


def _hot(r: random.Random, shape: Shape) -> Shape:
    """Few keys, many changes, many indexers: where conflicts come from."""
    shape.keys = shape.keys[:3]
    shape.mutations, shape.indexers, shape.compactors = 12, 4, r.choice([0, 1, 3])
    shape.pauses_s, shape.polls_s = [0.0, 0.1, 0.5, 1.0], [0.01, 0.1]
    shape.settings = msgspec.structs.replace(shape.settings, attempts_max=r.choice([2, 8, 8]))
    shape.upgraded = not shape.repairers and r.random() < 0.4
    shape.swap_factor, shape.dawdling = r.choice([1.0, 5.0, 30.0]), r.choice([0.0, 0.0, 0.2])
    if r.random() < 0.3:  # large objects that change between their two readings
        shape.rows, shape.pauses_s = [1, 13, 30], [0.0, 0.05, 0.1]
        shape.definitions = [
            msgspec.structs.replace(d, source=msgspec.structs.replace(d.source, on_error="reject_object"))
            for d in shape.definitions
        ]
    return shape


def _bursty(r: random.Random, shape: Shape) -> Shape:
    """Events that come again and again, and indexers that find many at once: duplicates beside newer events of a key."""
    shape.keys = shape.keys[:2]
    shape.mutations = 10
    shape.pauses_s, shape.polls_s = [0.0, 1.0, 10.0, 30.0], [1.0, 10.0, 60.0]
    shape.delivery = Delivery(again=0.6, delays_s=(0.0, 0.0, 10.0, 60.0, 200.0))
    shape.indexers = r.choice([1, 2])
    if r.random() < 0.5:  # bodies that break, and are other ones when they are asked for again
        shape.toxicity = msgspec.structs.replace(shape.toxicity, reset=0.6)
        shape.keys, shape.rows, shape.pauses_s = shape.keys[:1], [2, 4, 9, 20], [1.0, 5.0, 10.0]
        shape.delivery, shape.mutations = Delivery(again=0.3, delays_s=(0.0, 20.0, 200.0)), 20
    return shape


def _bulk(r: random.Random, shape: Shape) -> Shape:
    """Objects of many records, and batches above every bound of memory."""
    shape.keys = [f"d/{i}" for i in range(r.choice([2, 4, 8]))]
    shape.rows = [1, 4, 11, 12, 20, 60]
    shape.mutations = r.choice([6, 10])
    if r.random() < 0.5:  # what isn't large is committed in bulk, with others
        shape.settings = msgspec.structs.replace(shape.settings, alone_bytes=4_000, alone_rows=45, delta_rows_max=14)
        shape.pauses_s, shape.polls_s, shape.indexers = [0.0, 0.1, 20.0], [0.01, 5.0], 3
    shape.compactors = 1
    shape.upgraded = not shape.repairers and r.random() < 0.4
    return shape


def _sweeping(r: random.Random, shape: Shape) -> Shape:
    """Slow writers of files, and sweeps that come in between their PUT and their swap."""
    settings = msgspec.structs.replace(shape.settings, delta_rows_max=r.choice([0, 14, 100]))
    grace_s = r.choice([10.0, 600.0])  # short: files vanish under whoever reads them
    shape.settings = msgspec.structs.replace(settings, inline_bytes_max=r.choice([0, 500, 500]), grace_seconds=grace_s)
    shape.toxicity = msgspec.structs.replace(shape.toxicity, slow=0.05, crash=min(shape.toxicity.crash, 0.004))
    shape.swap_factor = r.choice([1.0, 3.0])
    shape.collectors, shape.compactors, shape.sweeps = 2, r.choice([1, 2]), 0.8
    shape.pauses_s = [0.0, 1.0, 20.0, 60.0]
    if grace_s < 100.0 and r.random() < 0.7:  # and under clients that read them by the block
        shape.whole_file_bytes, shape.clients, shape.rows = 100, 2, [9, 40]
        shape.mutations, shape.collectors, shape.compactors = 8, 1, 2
    if r.random() < 0.3:  # and damaged reads, where every commit brings files that a sweep may overtake
        shape.toxicity = msgspec.structs.replace(shape.toxicity, damaged=0.15)
        shape.settings = msgspec.structs.replace(shape.settings, delta_rows_max=0)
    return shape


def _losing(r: random.Random, shape: Shape) -> Shape:
    """Events that never arrive, and tools that repair what they would have told."""
    every = r.random() < 0.5
    kinds = ("created", "removed", "other") if every else ("created",)
    shape.delivery = Delivery(lost=0.25, lost_kinds=kinds)
    shape.repairers = r.choice([1, 1, 2])
    if r.random() < 0.4:
        shape.backfillers, shape.repairers = r.choice([1, 2]), r.choice([0, 1])
    return shape


def _poisoned(r: random.Random, shape: Shape) -> Shape:
    """Objects that nobody may read, for a time or for ever."""
    for key in r.sample(shape.keys, min(len(shape.keys), r.choice([1, 1, 2]))):
        shape.poison[key] = r.choice([50.0, 1_500.0, 1e9])
    return shape


def _redefined(r: random.Random, shape: Shape) -> Shape:
    """A table that changes while events flow, or goes and comes back."""
    shape.drops, shape.late = r.random() < 0.5, r.random() < 0.2
    shape.deployers = r.choice([1, 1, 2])
    if r.random() < 0.4:  # views go and come back while they are built
        shape.toxicity = msgspec.structs.replace(shape.toxicity, slow=0.03)
    shape.pauses_s = [0.0, 1.0, 20.0, 100.0]
    shape.compactors = r.choice([1, 2])
    if r.random() < 0.5:  # bulk commits, which bring runs for the views that they know
        shape.keys = [f"d/{i}" for i in range(8)]
        shape.rows, shape.mutations, shape.polls_s = [3, 5, 9, 11], 16, [1.0, 5.0, 20.0]
        shape.pauses_s = [0.0, 0.1, 1.0, 50.0]
        shape.settings = msgspec.structs.replace(shape.settings, delta_rows_max=r.choice([2, 14]))
        shape.toxicity, shape.deployers = msgspec.structs.replace(shape.toxicity, slow=0.05), 2
    if r.random() < 0.4:
        _flickering(r, shape)
    return shape


def _flickering(r: random.Random, shape: Shape) -> None:
    """Views that go and come back between the two ends of a build, and meanwhile commits that bring runs for the others."""
    shape.definitions, shape.late, shape.drops = [*shape.definitions[:1], _fewer(shape.definitions[0])], False, False
    shape.toxicity = msgspec.structs.replace(shape.toxicity, slow=0.0, stall=0.0, crash=0.0)
    shape.settings = msgspec.structs.replace(shape.settings, delta_rows_max=0)
    shape.keys, shape.rows = [f"d/{i}" for i in range(4)], [1, 2, 4]
    shape.mutations, shape.pauses_s, shape.polls_s, shape.writers = 20, [1.0, 5.0, 10.0], [0.01, 1.0], 1
    shape.delivery, shape.indexers = Delivery(again=0.0, delays_s=(0.0,)), 2
    shape.flickers, shape.deployers, shape.compactors, shape.hesitance = True, 2, 2, 0.5


def _fewer(definition: TableDefinition) -> TableDefinition:
    return TableDefinition.from_dict("t", definition.to_dict() | {"indexes": FEWER["indexes"], "summaries": {}})


def _rebuilt(r: random.Random, shape: Shape) -> Shape:
    """Fields that change, and tables that are rebuilt, while events flow: a successor is filled, and takes over."""
    shape.rebuilds = True
    shape.drops = r.random() < 0.15
    shape.builders = r.choice([0, 1, 1, 2])
    if r.random() < 0.5:
        shape.backfillers, shape.builders = r.choice([1, 2]), r.choice([0, 0, 1])
    shape.deployers = r.choice([1, 1, 1, 2])
    shape.pauses_s = [0.0, 1.0, 20.0, 100.0]
    shape.compactors, shape.collectors = r.choice([0, 1, 2]), r.choice([0, 1, 2])
    shape.sweeps, shape.late = 0.7, r.random() < 0.2
    how = r.random()
    if how < 0.3:  # homes go while somebody is at work in them
        shape.settings = msgspec.structs.replace(shape.settings, grace_seconds=10.0, attempts_max=r.choice([2, 8]))
        shape.toxicity = msgspec.structs.replace(shape.toxicity, slow=0.02)
        shape.hesitance, shape.collectors, shape.compactors = r.choice([0.1, 0.3]), r.choice([1, 2]), r.choice([1, 2])
    elif how < 0.6:  # slow builds: much happens between the reading of an object and the promotion
        shape.toxicity = msgspec.structs.replace(shape.toxicity, slow=0.06, crash=min(shape.toxicity.crash, 0.001))
        shape.pauses_s, shape.mutations, shape.hesitance = [0.1, 5.0, 20.0], 24, 0.3
        shape.delivery, shape.compactors = Delivery(again=0.1, delays_s=(0.0, 1.0)), 2
        if shape.backfillers:  # and indexers that die of pages again and again
            shape.builders, shape.reading = 0, msgspec.structs.replace(shape.toxicity, crash=0.08)
    else:  # whole commits between two calls of whoever promotes
        shape.toxicity = msgspec.structs.replace(
            shape.toxicity, slow=0.0, stall=0.0, crash=min(shape.toxicity.crash, 0.001)
        )
        shape.keys, shape.pauses_s, shape.polls_s = [f"d/{i}" for i in range(4)], [1.0, 5.0, 10.0], [0.01, 1.0]
        shape.delivery, shape.mutations, shape.writers = Delivery(again=0.0, delays_s=(0.0,)), 30, 1
        shape.indexers, shape.builders, shape.hesitance = 2, 2, 0.4
        if r.random() < 0.5:  # and objects that can't be read for the successor
            shape.reading = msgspec.structs.replace(shape.toxicity, throttled=0.25)
        if r.random() < 0.5:  # and folds that end after a promotion, of views that are the same
            shape.definitions, shape.compactors, shape.collectors = shape.definitions[:1], 2, 0
    return shape


def _merging(r: random.Random, shape: Shape) -> Shape:
    """Merges in many steps, most of them interrupted, among runs of other sizes."""
    shape.keys = [f"d/{i}" for i in range(r.choice([4, 8, 12]))]
    shape.rows, shape.whole_file_bytes = [1, 2, 4, 9], 100
    shape.settings = msgspec.structs.replace(
        shape.settings, step_rows=r.choice([2, 5, 8]), block_bytes=r.choice([60, 150]), delta_rows_max=r.choice([4, 14]),
        tier_runs=r.choice([2, 4]), retracted_share=r.choice([0.25, 9.0, 9.0]),
    )  # fmt: skip
    shape.mutations, shape.compactors, shape.interrupted = r.choice([6, 12]), r.choice([1, 2, 3]), 0.6
    shape.erasing &= shape.settings.step_rows > 2  # or maintenance takes more swaps than it is allowed
    shape.pauses_s = [0.0, 1.0, 5.0, 20.0]
    return shape


def _erasing(r: random.Random, shape: Shape) -> Shape:
    """Little that is left among few deltas and runs, so that nothing but age makes it go; commits of every size."""
    shape.erasing = True
    shape.keys = [f"d/{i}" for i in range(r.choice([2, 4]))]
    shape.rows, shape.mutations = [1, 2, 4, 13], r.choice([3, 6, 10])
    shape.settings = msgspec.structs.replace(
        shape.settings, delta_rows_max=r.choice([4, 14]), debt_deltas=r.choice([6, 40]), debt_rows=r.choice([60, 1_000]),
        retracted_share=r.choice([0.25, 9.0]), tier_runs=r.choice([2, 4]), step_rows=30,
    )  # fmt: skip
    shape.compactors, shape.interrupted = r.choice([0, 1, 1]), 0.4
    if r.random() < 0.5:  # and a bulk commit that comes last, after a delta that nothing else would have folded
        shape.keys, shape.rows, shape.mutations, shape.writers = shape.keys[:1], [4, 20], 2, 1
        shape.settings = msgspec.structs.replace(shape.settings, delta_rows_max=14, debt_deltas=40, debt_rows=1_000)
        shape.pauses_s, shape.compactors = [50.0, 100.0], 0
    return shape


_SHAPED = {
    "hot": _hot, "bursty": _bursty, "bulk": _bulk, "sweeping": _sweeping, "losing": _losing, "poisoned": _poisoned,
    "redefined": _redefined, "rebuilt": _rebuilt, "merging": _merging, "erasing": _erasing,
}  # fmt: skip
