"""The rules of the protocol (docs/protocol.md), each with what the code would be without it."""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """A text in a file, and what takes its place."""

    file: str
    old: str
    new: str


class Loud(NamedTuple):
    """An error of the engine's own that shows that a rule is gone, and why it shows there rather than in a check."""

    error: str
    why: str


class Rule(NamedTuple):
    """A rule, and the edits that take it out. What shows that it is gone is a check, unless `loud` says otherwise."""

    name: str
    edits: tuple[Edit, ...]
    loud: Loud | None = None


def _rule(name: str, file: str, old: str, new: str) -> Rule:
    return Rule(name, (Edit(f"bucketdex/{file}", old, new),))


COMMITS = (
    _rule(
        "every key that was read is in the touched set, even where nothing changed",
        "engine/attempt.py",
        "            self._draft.put(key, change)\n            self._touched.add(key)",
        "            self._draft.put(key, change)\n            if change.lines or known.get(key):\n                self._touched.add(key)",
    ),
    _rule(
        "a key that somebody touched since the base is redone",
        "engine/commit.py",
        "return {key for key in keys if touch_hash(key) in hashes}",
        "return set()",
    ),
    _rule(
        "a key that is redone is read again",
        "engine/changes.py",
        "            return fetch(self._means.data, self._definition, self._means.settings, key)",
        "            kept = self.__dict__.setdefault('kept', {})\n"
        "            if key not in kept:\n"
        "                kept[key] = fetch(self._means.data, self._definition, self._means.settings, key)\n"
        "            return kept[key]",
    ),
    Rule(
        "objects are read after the manifest that the commit is based on",
        (
            Edit(
                "bucketdex/engine/attempt.py",
                '        """Steps 2 to 6. RedoEverythingError and SnapshotExpiredError ask for another attempt on a newer base."""\n',
                "        self._reader.kept = {key: self._reader.fetch(key) for key in self._by_key}\n"
                "        self._base = self._means.manifests.load(self._base.manifest.table)\n"
                "        if self._base.manifest.state == 'dropped' or not same_shape(self._base.manifest, self._draft._base):\n"
                "            raise RedoEverythingError('defined anew')\n"
                "        self._draft._base = self._base.manifest\n",
            ),
            Edit(
                "bucketdex/engine/changes.py",
                "            return fetch(self._means.data, self._definition, self._means.settings, key)",
                "            kept = self.__dict__.setdefault('kept', {})\n"
                "            if key in kept:\n"
                "                return kept.pop(key)\n"
                "            return fetch(self._means.data, self._definition, self._means.settings, key)",
            ),
        ),
    ),
    _rule(
        "everything is redone when the log doesn't reach back to the base",
        "engine/commit.py",
        "    if len(later) != manifest.generation - generation:",
        "    if False:",
    ),
    Rule(
        "everything is redone when the definition or the set of views changed",
        (
            Edit(  # but where the old rows couldn't even be read
                "bucketdex/engine/attempt.py",
                'if current.state == "dropped" or not same_shape(base, current):',
                'if current.state == "dropped" or current.successor != base.successor or any(\n'
                "            state.hash != base.views[name].hash\n"
                "            for name, state in current.views.items()\n"
                "            if name in ('objects', 'records', 'rejects')\n"
                "        ):",
            ),
            Edit(
                "bucketdex/engine/commit.py",
                "        for name, runs in self._runs.items():\n",
                "        for name, runs in self._runs.items():\n"
                "            if name not in new.views or any(\n"
                "                f'/{new.views[name].id}/' not in file.path for run in runs for file in run.files\n"
                "            ):\n"
                "                continue\n",
            ),
        ),
    ),
    _rule(
        "a commit of too many keys touches every key",
        "engine/commit.py",
        "        if entry.touched is None:\n            return set(keys)",
        "        if entry.touched is None:\n            continue",
    ),
    _rule(
        "a key is skipped only if every event of it is an equal duplicate",
        "engine/changes.py",
        'return all(e.kind == "created" and e.sequencer == known[0].sequencer for e in self._by_key[key])',
        'return any(e.kind == "created" and e.sequencer == known[0].sequencer for e in self._by_key[key])',
    ),
    _rule(
        "an object that has the same ETag is not passed over",
        "engine/attempt.py",
        "        for key, change in self._reader.changes(snapshot, read, known).items():\n            self._draft.put(key, change)\n            self._touched.add(key)",
        "        for key, change in self._reader.changes(snapshot, read, known).items():\n"
        "            info = read[key].reader._info\n"
        "            if info is not None and key in known and info.etag == known[key][0].etag:\n"
        "                continue\n"
        "            self._draft.put(key, change)\n            self._touched.add(key)",
    ),
    _rule(
        "the delete of an unknown key is committed",
        "engine/attempt.py",
        "        work = [key for key in self._by_key if not self._reader.is_duplicate(key, known.get(key))]",
        "        work = [key for key in self._by_key if not self._reader.is_duplicate(key, known.get(key))]\n"
        "        work = [k for k in work if k in known or any(e.kind == 'created' for e in self._by_key[k])]",
    ),
    _rule(
        "what files hold of a redone key is taken back",
        "engine/draft.py",
        "        if self.flushed:\n            own",
        "        if False:\n            own",
    ),
    _rule(
        "a large object that somebody touched is streamed again",
        "engine/attempt.py",
        '        if self._deferred is None:\n            # Its rows are in files; those of a failed attempt are orphans.\n            raise RedoEverythingError("another commit touched the large object")\n',
        "        if self._deferred is None:\n            return\n",
    ),
    _rule(
        "the old rows of a key are taken back",
        "engine/changes.py",
        "            if key in records:\n                change.retract(RECORDS, records[key])\n",
        "",
    ),
    _rule(
        "an old row is taken back as the very bytes that are stored",
        "engine/changes.py",
        "                change.retract(RECORDS, records[key])\n",
        "                codec = __import__('bucketdex.definition').definition.row_codec(self._definition)\n"
        "                again = codec.encode_lines(codec.decode_lines(b'\\n'.join(records[key].lines)))\n"
        "                change.retract(RECORDS, records[key]._replace(lines=again))\n",
    ),
    Rule(
        "an indexer whose files vanish starts over",
        (
            Edit(
                "bucketdex/engine/apply.py",
                "except (RedoEverythingError, SnapshotExpiredError, ObjectChangedError) as error:",
                "except (RedoEverythingError, ObjectChangedError) as error:",
            ),
        ),
        Loud(
            "SnapshotExpiredError", "the batch would fail and come back: nothing is lost, but nothing is wrong either"
        ),
    ),
    _rule(
        "the error of a PUT proves nothing",
        "storage/manifest.py",
        "            settled = self._settle(base, new, split)",
        "            raise SwapLostError(self.load(new.table)) from failure",
    ),
    _rule(
        "the same bytes are sent again while the generation stands",
        "storage/manifest.py",
        "        if current is base:\n            return None\n",
        "        if current is base:\n            raise SwapLostError(current)\n",
    ),
    _rule(
        "an object that is read in several requests is pinned",
        "storage/stores.py",
        "GetRequest(info.key, start=offset, if_match=info.etag)",
        "GetRequest(info.key, start=offset)",
    ),
    _rule(
        "an object that is replaced while it is read is read again",
        "storage/stores.py",
        '            raise ObjectChangedError(f"{info.key!r} was replaced while it was read: read it again") from error',
        "            return",
    ),
)

COMPACTIONS = (
    _rule(
        "a compaction whose input is gone is abandoned",
        "engine/compact.py",
        "not all(run in state.runs for run in wanted)",
        "False",
    ),
    _rule(
        "a fold that somebody else has done is abandoned",
        "engine/compact.py",
        "if state is None or state.id != view.id or state.folded != base.manifest.views[view.name].folded:",
        "if state is None or state.id != view.id:",
    ),
    Rule(
        "a compactor whose files vanish looks again",
        (
            Edit(
                "bucketdex/engine/compact.py",
                "                if base.manifest.generation == expired:\n                    raise",
                "                if True:\n                    raise",
            ),
        ),
        Loud("SnapshotExpiredError", "the compaction would fail and be asked for again: an error without a fault"),
    ),
    _rule(
        "an interrupted merge never takes an input's start back",
        "engine/merging.py",
        "start=self.end if run.start is None else max(run.start, self.end),",
        "start=self.end,",
    ),
    _rule(
        "the rest of a merged input is read from where the merge has come",
        "engine/merging.py",
        "start=self.end if run.start is None else max(run.start, self.end),",
        "start=run.start,",
    ),
    _rule(
        "a summary is settled only where a merge holds all of its view",
        "engine/merging.py",
        '    if view.kind != "summary" or scope.whole_from is None:\n        return None',
        '    if view.kind != "summary":\n        return None\n    scope = scope._replace(whole_from="")',
    ),
    Rule(
        "a view of another hash is another view",
        (
            Edit(
                "bucketdex/engine/retire.py",
                "if retires_for(other) == name and state.hash == view.hash]",
                "if retires_for(other) == name and (state.hash == view.hash or view.kind == 'index')]",
            ),
            Edit(
                "bucketdex/engine/retire.py",
                "        if name not in new.views or new.views[name].hash != state.hash:",
                "        if name not in new.views or new.views[name].kind != 'index' and new.views[name].hash != state.hash:",
            ),
            Edit(
                "bucketdex/engine/retire.py",
                "        if state.name == view.name:\n            return state",
                "        if state.name == view.name:\n"
                "            return msgspec.structs.replace(state, hash=view.hash)",
            ),
        ),
        Loud("AssertionError", "lines of two views in one file aren't in its order, and whoever writes it says so"),
    ),
    _rule(
        "a view that was added is not answered from before it is built",
        "engine/retire.py",
        'state="building" if building else "ready"',
        'state="ready"',
    ),
    _rule(
        "a view that retires is kept up to date until another is ready",
        "engine/draft.py",
        "for view in views_of(self._definition)]",
        "for view in views_of(self._definition) if '@' not in view.name]",
    ),
    _rule(
        "a summary is ready only after the views that settle it",
        "engine/compact.py",
        'waiting = [name for name in needed if manifest.views[name].state == "building"]',
        "waiting = []",
    ),
    _rule(
        "a view that was dropped and added again while it was built is built again",
        "engine/compact.py",
        'or state.state != "building" or state.folded != begun:',
        'or state.state != "building":',
    ),
    _rule(
        "a contested minimum or maximum is settled by the hidden summary",
        "views/snapshot.py",
        "        for slot in fold.contested(state):",
        "        for slot in ():",
    ),
)

GARBAGE = (
    _rule(
        "files below the floor are written anew by commits",
        "engine/commit.py",
        "        if all(base_generation(file.path) >= base.floor for file in run.files):\n            return run",
        "        return run",
    ),
    _rule(
        "a delta's file below the floor is written anew",
        "engine/commit.py",
        "if self._delta_file is None or base_generation(self._delta_file.path) < base.floor:",
        "if self._delta_file is None:",
    ),
    _rule(
        "files below the floor are written anew by compactions",
        "engine/compact.py",
        "if any(base_generation(file.path) < current.floor for file in run.files):",
        "if False:",
    ),
    _rule(
        "a file of folded deltas below the floor is written anew",
        "engine/compact.py",
        "            if base.manifest.generation < current.floor:",
        "            if False:",
    ),
    Rule(
        "a sweep commits a floor before it deletes; age is no substitute",
        (
            Edit(
                "bucketdex/engine/collect.py",
                "            new.floor, new.floor_at = new.generation, new.updated_at\n",
                "            new.floor_at = new.updated_at\n",
            ),
            Edit(
                "bucketdex/engine/collect.py",
                "            if generation is not None and generation < manifest.floor:",
                "            old = listed.last_modified < self._runtime.now() - self._settings.grace_seconds\n"
                "            if generation is not None and old:",
            ),
        ),
    ),
    _rule(
        "a sweep leaves what is not below its floor",
        "engine/collect.py",
        "            if generation is not None and generation < manifest.floor:",
        "            if generation is not None:",
    ),
    _rule(
        "a delta is kept until every view has folded it",
        "engine/garbage.py",
        "folded = min(state.folded for state in manifest.views.values())",
        "folded = max(state.folded for state in manifest.views.values())",
    ),
    _rule(
        "what a snapshot may still read is kept for the grace period",
        "engine/collect.py",
        "horizon = self._runtime.now() - self._settings.grace_seconds",
        "horizon = self._runtime.now() - self._settings.grace_seconds * 0.8",
    ),
    _rule(
        "inlined deltas that were folded are kept as a file",
        "engine/garbage.py",
        "            kept = moved.get(delta.id, delta)\n            manifest.garbage.append(",
        "            kept = moved.get(delta.id, delta)\n            if kept.inline or kept.part:\n                continue\n            manifest.garbage.append(",
    ),
    _rule(
        "generations whose pieces were collected are not put together",
        "engine/collect.py",
        "            _forget(new, max((entry.removed for entry in gone), default=0))\n",
        "",
    ),
    Rule(
        "a damaged read does not become a damaged file",
        (
            Edit(
                "bucketdex/engine/commit.py",
                "            read_file(body, file)  # a damaged read must not become a damaged file\n",
                "",
            ),
        ),
        Loud("CorruptFileError", "the file itself says that it is damaged, to whoever reads it"),
    ),
    _rule(
        "a dropped table leaves a tombstone",
        "engine/define.py",
        'new.state, new.managed_by, new.successor = "dropped", None, None\n            retire_all(new, self._runtime.now())\n            return new',
        "new.managed_by, new.successor = None, None\n"
        "            views = {n: __import__('msgspec').structs.replace(s, runs=[]) for n, s in new.views.items()}\n"
        "            retire_all(new, self._runtime.now())\n            new.views = views\n            return new",
    ),
)

SUCCESSORS = (
    _rule(
        "a commit is made to the successor first",
        "engine/apply.py",
        "            failed = ahead.failures(base.manifest.successor)",
        "            failed = {}",
    ),
    _rule(
        "a key that the successor could not take has failed",
        "engine/apply.py",
        "            failed = ahead.failures(base.manifest.successor)",
        "            ahead.failures(base.manifest.successor)\n            failed = {}",
    ),
    _rule(
        "a successor is held after it was announced",
        "engine/successor.py",
        "        return landed if landed is not None and self.hold(first.table) else None",
        "        return landed",
    ),
    _rule(
        "a successor's files are deleted only while its table names it",
        "engine/collect.py",
        "        if not is_successor(table):\n            return True\n",
        "        return True\n",
    ),
    _rule(
        "a sweep leaves the successor that is named",
        "engine/collect.py",
        "            if name == live.successor or not self._buried(",
        "            if not self._buried(",
    ),
    _rule(
        "a sweep keeps what a table lists in the home of a past successor",
        "engine/collect.py",
        "            going = [path for path in files if path not in kept]",
        "            going = files",
    ),
    Rule(
        "the live table is loaded before its successor is, to promote it",
        (
            Edit(
                "bucketdex/engine/promote.py",
                "            base = self._manifests.load(table)\n            if base.manifest.successor != name:\n                return False\n",
                "            try:\n"
                "                early = self._manifests.load(name)\n"
                "            except Exception:\n"
                "                return False\n"
                "            base = self._manifests.load(table)\n"
                "            if base.manifest.successor != name:\n                return False\n",
            ),
            Edit(
                "bucketdex/engine/promote.py",
                "            successor = self._successors.of(base.manifest)\n",
                "            successor = early if early.manifest.state == 'live' else None\n",
            ),
        ),
    ),
    _rule(
        "a fold is abandoned when a rebuilt table took the place of its own",
        "engine/compact.py",
        "            if not inputs <= {delta.id for delta in current.deltas}:  # a rebuilt table took the place of this one\n                return None\n",
        "",
    ),
    _rule(
        "a past of another table is not put together from this one",
        "engine/promote.py",
        "folded=folded, folds=[(new.generation, folded)]",
        "folded=folded, folds=[(0, folded), (new.generation, folded)]",
    ),
)

BACKFILLS = (
    _rule(
        "a successor is whole only after a pass that found nothing left",
        "engine/turn.py",
        "        found_all = job.left == 0 and not by_report",
        "        found_all = not by_report",
    ),
)

READERS = (
    _rule(
        "a client that has been given rows is not given them again",
        "client/running.py",
        "            if yielded or not again:",
        "            if not again:",
    ),
    _rule(
        "a client looks at the newest manifest",
        "query/session.py",
        "        if newest is not known:\n",
        "        if False:\n",
    ),
    _rule(
        "later pages are read from the generation of the first",
        "client/paging.py",
        "at=None if last is None else last.generation",
        "at=None",
    ),
)

ERASURE = (
    _rule(
        "files that no manifest lists are swept in time",
        "engine/erasure.py",
        "    return now - manifest.floor_at > settings.erase_seconds / 4\n",
        "    return False\n",
    ),
    _rule(
        "a fold is due when a retraction is old",
        "engine/erasure.py",
        "    if any(delta.retracted_at and now - delta.retracted_at > settings.erase_seconds / 4 for delta in live):\n        return True\n",
        "",
    ),
    _rule(
        "a merge is due when a retraction is old",
        "engine/erasure.py",
        "    due = [run for run in state.runs if run.retracted_at and now - run.retracted_at > settings.erase_seconds / 2]\n",
        "    due: list[Run] = []\n",
    ),
    Rule(
        "a merge that erases takes every run that reaches as far up and back",
        (
            Edit(
                "bucketdex/engine/erasure.py",
                "        chosen = [run for run in state.runs if run.since <= through and run.files[-1].last >= low]\n",
                "        chosen = due\n",
            ),
            Edit("bucketdex/engine/compact.py", "STEPS_MAX = 10_000", "STEPS_MAX = 10"),  # for such merges never end
        ),
    ),
    _rule(
        "a bulk commit that retracts says so of every delta before it",
        "engine/commit.py",
        "        if self._runs and self._retracts:  # of rows that may be in any delta so far\n",
        "        if False:\n",
    ),
    _rule(
        "a fold takes over since when its deltas may hold what was retracted",
        "engine/compact.py",
        "                retracted_at=oldest(delta.retracted_at for delta in deltas) if retracts else 0.0,\n",
        "                retracted_at=0.0,\n",
    ),
)

RULES = (*COMMITS, *COMPACTIONS, *GARBAGE, *SUCCESSORS, *BACKFILLS, *READERS, *ERASURE)
