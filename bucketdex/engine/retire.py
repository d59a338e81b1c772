"""Which views a new definition keeps, begins and retires. Changes with what may answer while something is built.

A changed index or summary is a new view under the same name. Where the old one was ready it goes on as `<name>@<hash>`,
kept up to date like any view, until the new one is ready.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from bucketdex.definition import Index, Summary, TableDefinition
from bucketdex.definition.table import RETIRED, Retiring, retires_for
from bucketdex.engine.commit import copy_view
from bucketdex.engine.garbage import retire_runs
from bucketdex.errors import DefinitionError
from bucketdex.storage import Manifest, ViewState, owner_of
from bucketdex.views import View, view_of, views_of

V = TypeVar("V", Index, Summary)


def redefine(new: Manifest, definition: TableDefinition, now: float, *, empty: bool) -> None:
    """Gives a manifest a definition and the views that this means; `new` still has those of the definition before."""
    before = new.views
    new.definition = msgspec.structs.replace(definition, retiring=_retiring(new, definition)).to_dict()
    full = TableDefinition.from_dict(definition.name, new.definition)
    new.views = {view.name: _state(view, before, new.generation, empty=empty) for view in views_of(full)}
    _retire_left(new, before, now)


def settle(new: Manifest, name: str, now: float) -> None:
    """Drops the view that retires in favour of one that is ready now: a definition of its own. Nothing without one."""
    definition = TableDefinition.from_dict(owner_of(new.table), new.definition)
    settled = definition.settled(name)
    if settled == definition:
        return
    before = new.views
    new.definition, new.revision = settled.to_dict(), new.revision + 1
    new.views = {view.name: before[view.name] for view in views_of(settled)}
    _retire_left(new, before, now)


def _retire_left(new: Manifest, before: dict[str, ViewState], now: float) -> None:
    """The runs of what isn't a view any more are garbage; files that a view goes on with under another name stay."""
    for name, state in before.items():
        if name not in new.views or new.views[name].hash != state.hash:
            retire_runs(new, state.id, state.runs, now)


def _retiring(new: Manifest, definition: TableDefinition) -> Retiring:
    if not new.views:
        return Retiring()
    try:
        old = TableDefinition.from_dict(definition.name, new.definition)
    except DefinitionError:  # as another version of the code wrote it
        return Retiring()

    def kept(views: tuple[V, ...], was: tuple[V, ...]) -> tuple[V, ...]:
        """For each view that isn't ready the oldest that is; `was` begins with what retires already."""
        found = []
        for view in views:
            if _is_ready(view_of(definition, view.name), new.views):
                continue
            for candidate in was:
                state = new.views.get(candidate.name)
                if retires_for(candidate.name) != view.name or state is None or state.state != "ready":
                    continue
                if state.hash == view_of(old, candidate.name).hash:  # else this version of the code can't read it
                    found.append(msgspec.structs.replace(candidate, name=f"{view.name}{RETIRED}{state.hash}"))
                    break
        return tuple(found)

    return Retiring(
        kept(definition.indexes, (*old.retiring.indexes, *old.indexes)),
        kept(definition.summaries, (*old.retiring.summaries, *old.summaries)),
    )


def _is_ready(view: View, before: dict[str, ViewState]) -> bool:
    return any(state.state == "ready" for state in _versions(view, before))


def _versions(view: View, before: dict[str, ViewState]) -> list[ViewState]:
    """The states that hold just what this view does, under its own name or that of a retiring one."""
    name = retires_for(view.name)
    found = [state for other, state in before.items() if retires_for(other) == name and state.hash == view.hash]
    return sorted(found, key=lambda state: state.name != view.name)


def _state(view: View, before: dict[str, ViewState], generation: int, *, empty: bool) -> ViewState:
    """What the view begins with: its own state, that of a ready view with the same content, or nothing."""
    versions = _versions(view, before)
    ready = [state for state in versions if state.state == "ready"]
    for state in [*ready, *versions]:
        if state.name == view.name:
            return state
        if state.state == "ready":
            copy = copy_view(state)
            copy.name, copy.folds = view.name, [(generation, state.folded)]  # its garbage has the other name
            return copy
    return fresh(view, generation, building=not empty)


def fresh(view: View, generation: int, *, building: bool) -> ViewState:
    """The state of a view that has nothing in it yet."""
    return ViewState(
        name=view.name, kind=view.kind, hash=view.hash, folded=generation, runs=[],
        state="building" if building else "ready", folds=[(generation, generation)],
    )  # fmt: skip
