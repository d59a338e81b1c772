"""One turn of the deployed backfills: walk, send what is due, remember how far. Changes with how a backfill proceeds.

A turn may end anywhere, and two may run at once: keys are sent before the cursor moves past them, so a page is sent
twice rather than not at all, and applying a key twice changes nothing. A pass that finds nothing left needs nobody's
word that the messages were handled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from bucketdex.engine.changes import Means
from bucketdex.engine.jobs import Job, JobChangedError, JobStore, SavedJob, source_of
from bucketdex.engine.lister import Lister, Page
from bucketdex.engine.walk import PAGE_KEYS, Walk
from bucketdex.errors import BucketdexError, CommitGaveUpError, SnapshotExpiredError, StorageError, TableNotFoundError
from bucketdex.storage import Listed

AHEAD_MAX: Final = 400  # messages that may wait: what indexers work off while a turn ends and the next one begins
POLL_S: Final = 2.0  # between two looks at what everybody waits for
PACED_S: Final = 10.0  # of a rate: the most that one page holds
SKEW_S: Final = 60.0  # by which the clocks of S3 and of a function may differ
PATIENCE_S: Final = 1_200.0  # hidden messages that outlast it are failing, and wait for another try
STALLED_MAX: Final = 4  # passes in a row that found no less left
LAG_S: Final = 90.0  # SQS may count a minute late: where an empty queue is the proof, it is believed after that
# Elsewhere an empty queue that isn't only costs another pass. So the first one comes soon, and those after passes that
# found no less left wait four times longer each: minutes in all before such a job has failed.
SETTLE_S: Final = 2.0
FAILURES_MAX: Final = 3  # in a row, before the job is left to the next turn

Step = Literal["worked", "waits", "over"]


class Depth(NamedTuple):
    """How many messages a queue holds: to be received, and received but not done. Both about right."""

    visible: int
    hidden: int


class PageQueue(Protocol):
    """Where pages of keys go, for the indexer to apply."""

    def send(self, job: str, table: str, due: Sequence[Listed]) -> None:
        """Sends the keys, in as many messages as it takes; raises when one of them wasn't accepted."""

    def depth(self) -> Depth:
        """What waits in the queue, of all jobs."""


class Turn:
    """Goes on with one job, a step at a time. `finish` makes of a job that found nothing left what it is then."""

    def __init__(
        self, means: Means, jobs: JobStore, queue: PageQueue, finish: Callable[[Job], Job], saved: SavedJob
    ) -> None:
        self._means, self._jobs, self._queue, self._finish, self._saved = means, jobs, queue, finish, saved
        self._pages: Iterator[Page] | None = None
        self._due_at = means.runtime.now()  # when the rate lets the next page go
        self._failures = 0
        self.sent_at_last = 0.0  # of all jobs: the queue is everybody's
        self.unexpected: Exception | None = None

    @property
    def job(self) -> Job:
        """The job as it was last saved."""
        return self._saved.job

    def step(self) -> Step:
        """One page, or one look at what it waits for. `over`: the job has ended, or is somebody else's now.

        Cost: a conditional GET and a PUT of the job, a look at the queue, and what `Walk.pages` costs a page.
        """
        try:
            try:
                return self._step()
            except TableNotFoundError as error:
                return self._gone(error)
        except JobChangedError:
            return "over"
        except BucketdexError as error:
            return self._failed(error)
        except Exception as error:
            self.unexpected = error
            with suppress(Exception):
                self._save(error=f"{type(error).__name__}: {error}")
            return "over"

    def _step(self) -> Step:
        if self._jobs.load(self.job.table, self._saved) is not self._saved:
            return "over"
        step = self._after_pass() if self.job.walked else self._next_page()
        self._failures = 0
        return "over" if self.job.is_over else step

    def _next_page(self) -> Step:
        job = self.job
        depth = self._queue.depth()
        if self._means.runtime.now() < self._due_at or depth.visible + depth.hidden >= AHEAD_MAX:
            return "waits"
        if self._pages is None:
            lister = self._lister(job)
            if self._is_other(lister.walk):
                return "worked"
            self._pages = lister.pages(page_keys(job.rate))
        page = next(self._pages, None)
        if page is None:
            self._pages = None
            self._save(walked=True, waiting=sum(depth))
            return "worked"
        left = [listed for listed in page.due if listed.last_modified <= job.started_at + SKEW_S]
        self._send(job, page.due, left)
        self._save(
            cursor=page.cursor, listed=job.listed + page.listed, unchanged=job.unchanged + page.unchanged,
            due=job.due + len(page.due), left=job.left + len(left), sent=job.sent + len(page.due),
            sent_at=self._means.runtime.now() if page.due else job.sent_at, waiting=sum(depth),
        )  # fmt: skip
        return "worked"

    def _lister(self, job: Job) -> Lister:
        first = job.number == 1
        return Lister(
            self._means, job.target, prefix=job.prefix, after=job.cursor, force=job.force and first, again=not first,
            inventory=job.inventory if first else None,
        )  # fmt: skip

    def _is_other(self, walk: Walk) -> bool:
        """Whether the table is of other objects now, as one without any may be by a definition alone: what was listed
        is none of them, and the job begins anew.
        """
        source = source_of(walk.definition)
        if source == self.job.source:
            return False
        self._saved = self._jobs.save(self._saved, self.job.anew(source, self._means.runtime.now()))
        return True

    def _send(self, job: Job, due: list[Listed], left: list[Listed]) -> None:
        """What was there before the job goes to its target; later uploads to the table by its name, as their events do,
        so that they aren't lost when the target takes its place.
        """
        if job.target == job.table:
            self._queue.send(job.id, job.table, due)
        else:
            young = set(due) - set(left)
            self._queue.send(job.id, job.target, left)
            self._queue.send(job.id, job.table, [listed for listed in due if listed in young])
        if job.rate is not None:
            self._due_at = max(self._means.runtime.now(), self._due_at) + len(due) / job.rate

    def _after_pass(self) -> Step:
        job, now = self.job, self._means.runtime.now()
        stays = job.target == job.table
        by_report = job.inventory is not None and job.number == 1  # which names objects that are gone
        found_all = job.left == 0 and not by_report
        ends = found_all or (by_report and stays)
        if ends and (job.due == 0 or (stays and not by_report)):
            return self._end()
        following = job.next_pass(now)
        if not ends and following.stalled >= STALLED_MAX:
            return self._fail(f"{job.left} objects stay unindexed: see the dead letters, then resume it")
        unseen = stays and job.number == 1 and (job.force or by_report)  # what fails of it, no later pass finds
        # What was uploaded meanwhile should be in a successor before that takes the table's place.
        settle = LAG_S if ends or unseen else SETTLE_S * 4**following.stalled
        depth = self._queue.depth()
        late = now >= job.sent_at + PATIENCE_S
        if now < job.sent_at + settle or (depth.hidden and not late) or (depth.visible and (unseen or not late)):
            return "waits"
        if unseen and depth.hidden:
            return self._still_failing(depth)
        if ends and not depth.visible:
            return self._end()
        self._saved = self._jobs.save(self._saved, job.next_pass(now, worked_off=not depth.visible))
        return "worked"

    def _still_failing(self, depth: Depth) -> Step:
        """After all its patience. While other jobs send, they may be theirs: then it goes on waiting."""
        if self._means.runtime.now() < self.sent_at_last + PATIENCE_S:
            return "waits"
        return self._fail(
            f"{depth.hidden} messages have been failing for {PATIENCE_S / 60:g} minutes, so their objects may not have "
            "been read: see the indexer's log and the dead letters, then resume it, or start it again"
        )

    def _fail(self, said: str) -> Step:
        self._save(state="failed", error=said)
        return "worked"

    def _end(self) -> Step:
        job, now = self.job, self._means.runtime.now()
        if job.target == job.table and self._is_other(Walk(self._means, job.table, job.prefix, None)):
            return "worked"
        finished = self._finish(job)
        if finished == job:
            return "waits"
        self._saved = self._jobs.save(self._saved, msgspec.structs.replace(finished, updated_at=now))
        return "worked"

    def _gone(self, error: TableNotFoundError) -> Step:
        """The target was dropped; or, a successor, given up, or put in its table's place by somebody else."""
        ended = msgspec.structs.replace(self.job, state="cancelled", error=str(error))
        if self.job.target != self.job.table:
            finished = self._finish(self.job)
            ended = finished if finished.is_over else ended
        self._saved = self._jobs.save(self._saved, ended)
        return "over"

    def _failed(self, error: BucketdexError) -> Step:
        """Tries again, a few times; then the job is over where only a person can help, else left to the next turn."""
        self._pages = None
        self._failures += 1
        if self._failures < FAILURES_MAX:
            return "waits"
        passing = isinstance(error, StorageError | SnapshotExpiredError | CommitGaveUpError)
        said = f"{type(error).__name__}: {error}"
        with suppress(JobChangedError, StorageError):  # somebody else goes on, or the next turn says it
            self._save(error=said) if passing else self._save(error=said, state="failed")
        return "over"

    def _save(self, **changes: Any) -> None:
        kept = {"error": None, "updated_at": self._means.runtime.now()}
        self._saved = self._jobs.save(self._saved, msgspec.structs.replace(self.job, **(kept | changes)))


def continue_jobs(
    means: Means, jobs: JobStore, queue: PageQueue, finish: Callable[[Job], Job], in_time: Callable[[], bool]
) -> tuple[list[Job], list[Exception]]:
    """Goes on with all running jobs, a page of each in turn, until they are over or time runs out; the jobs as it left
    them, and what was unexpected: a job that can't be read, an error that is none of ours. That ends one job's turn
    only, and is written down in it. One LIST and a GET a job where nothing is to do.
    """
    found, errors = _loaded(jobs)
    turns = [Turn(means, jobs, queue, finish, saved) for saved in found if not saved.job.is_over]
    going = turns
    while going and in_time():
        sent_at_last = max(job.sent_at for job in (*(turn.job for turn in turns), *(saved.job for saved in found)))
        for turn in going:
            turn.sent_at_last = sent_at_last
        steps = [(turn, turn.step()) for turn in going]
        going = [turn for turn, step in steps if step != "over"]
        going = [*going[1:], *going[:1]]  # who comes first takes what room the queue has
        if going and all(step == "waits" for _, step in steps):
            means.runtime.sleep(POLL_S)
    errors += [turn.unexpected for turn in turns if turn.unexpected is not None]
    return [turn.job for turn in turns], errors


def _loaded(jobs: JobStore) -> tuple[list[SavedJob], list[Exception]]:
    found: list[SavedJob] = []
    errors: list[Exception] = []
    for table in list(jobs.tables()):
        try:
            saved = jobs.load(table)
        except BucketdexError as error:
            errors.append(error)
        else:
            found += [saved] if saved is not None else []
    return found, errors


def page_keys(rate: float | None) -> int | None:
    """How many keys a page holds at a rate: at most what may be sent in ten seconds. None: as many as a listing's."""
    return None if rate is None else max(1, min(PAGE_KEYS, int(rate * PACED_S)))
