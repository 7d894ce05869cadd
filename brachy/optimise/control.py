"""Control of a search: its seed, threads, time limit, progress and cancellation, in one object for all of planning."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from brachy.errors import UsageError

T = TypeVar("T")
Rng = NDArray[np.uint64]
"""State of a random number generator of the kernels, shape (1,), see `brachy.core.search.uniform`."""

LOOK_S = 0.1
"""While jobs run, progress is shown and the keyboard is looked at this often, s (engineering choice)."""


class Progress(Protocol):
    """Called with the stage of the search and, once there is one, the best coverage so far (D90 in Gy, V100 in %)."""

    def __call__(self, stage: str, best: dict[str, float] | None = None) -> None:
        """Show it."""


@dataclass
class SearchControl:
    """Settings of one search and its state. Make one object for each search: its clock starts when it is made.

    Parameters
    ----------
    seed : int
        Seed of all random numbers; the same seed gives the same plan for any number of threads.
    threads : int
        Threads of the search.
    time_limit : float, optional
        Seconds after which the search ends with the best loading so far.
    progress : callable, optional
        Called with the stage and the best coverage so far.

    Examples
    --------
    >>> control = SearchControl(seed=3)
    >>> control.stopped()
    False
    >>> control.cancel()
    >>> control.stopped(), control.interrupted
    (True, True)
    """

    seed: int = 0
    threads: int = 1
    time_limit: float | None = None
    progress: Progress | None = None
    interrupted: bool = False
    timed_out: bool = False
    best: dict[str, float] | None = None
    """Coverage of the best loading so far, for `progress`; nothing else depends on it."""
    best_value: float = np.inf
    """Objective of that loading; set to infinity where a stage starts whose values do not compare with the last's."""
    _stop: Event = field(default_factory=Event)
    _started: float = field(default_factory=time.monotonic)

    @staticmethod
    def of(
        control: "SearchControl | None" = None,
        *,
        seed: int = 0,
        threads: int | None = None,
        time_limit: float | None = None,
        progress: Progress | None = None,
    ) -> "SearchControl":
        """The control that a public function was given, or one made of its keywords.

        Parameters
        ----------
        control : SearchControl, optional
            Taken as it is.
        seed, threads, time_limit, progress
            As the fields; `threads` is by default one for each core.

        Raises
        ------
        UsageError
            If both a control and one of the keywords are given.
        """
        if control is None:
            return SearchControl(seed, max(1, threads or os.cpu_count() or 1), time_limit, progress)
        if (seed, threads, time_limit, progress) != (0, None, None, None):
            raise UsageError(
                "give either control, or seed, threads, time_limit and progress: control holds them"
            )
        return control

    def rng(self, *place: object) -> Rng:
        """Random numbers for one place in the search; they depend on the seed and the place alone.

        So a job draws the same numbers whatever thread runs it and whatever ran before.
        """
        return rng_of(self.seed, *place)

    def cancel(self) -> None:
        """Ask the search to end soon with the best loading so far; may be called from any thread."""
        self.interrupted = True
        self._stop.set()

    def stopped(self) -> bool:
        """Whether to come to an end with what there is: cancelled, or beyond the time limit."""
        if self._stop.is_set():
            return True
        if self.time_limit is not None and time.monotonic() - self._started > self.time_limit:
            self.timed_out = True
            self._stop.set()
        return self._stop.is_set()

    def early_end(self) -> tuple[dict[str, float | bool], list[str]]:
        """What plan.json states where the search ended early: entries of `optimiser`, and notes for `assumed`."""
        entries: dict[str, float | bool] = {}
        notes = []
        if self.timed_out and self.time_limit is not None:
            entries["time_limit_s"] = self.time_limit
            notes.append("the search was ended by the time limit: the same plan may not come out again")
        if self.interrupted:
            entries["interrupted"] = True
            notes.append("the search was interrupted: this is the best plan found until then")
        return entries, notes

    def show(self, stage: str) -> None:
        """Report the stage of the search to the caller."""
        if self.progress is not None:
            self.progress(stage, self.best)

    def run(self, stage: str, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Results of all jobs, in their order. Ctrl-C asks the jobs to end soon; what they have is kept."""
        with ThreadPoolExecutor(max(1, min(self.threads, len(jobs)))) as pool:
            futures: list[Future[T]] = [pool.submit(job) for job in jobs]
            while True:
                try:
                    _, waiting = wait(futures, timeout=LOOK_S)
                    self.show(f"{stage} {len(futures) - len(waiting)}/{len(futures)}")
                    if not waiting:
                        break
                except KeyboardInterrupt:
                    self.cancel()
            return [future.result() for future in futures]


def rng_of(*keys: object) -> Rng:
    """State of a random number generator of the kernels, made from any keys; never 0, which xorshift cannot leave."""
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return np.array([int.from_bytes(digest[:8], "big") | 1], dtype=np.uint64)
