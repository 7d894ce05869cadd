"""Independent pieces of work side by side on threads, and kernels kept on one thread."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numba

T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run kernels on one thread: a call here is for a few dozen points, and starting a second thread costs more.

    Measured: the candidates of 36 templates of 80 holes took 0.8 s on one thread and 7 s on two of a busy machine.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def side_by_side(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Results of jobs that share nothing, in their order, on as many threads as kernels may use here.

    Parameters
    ----------
    jobs : sequence of callables
        Each runs on one thread, its kernels too. They start in the order given: longest first fills the threads best.

    Examples
    --------
    >>> side_by_side([lambda: 1, lambda: 2])
    [1, 2]
    """
    threads = min(numba.get_num_threads(), len(jobs))
    if threads <= 1:
        return [job() for job in jobs]

    def alone(job: Callable[[], T]) -> T:
        with one_thread():
            return job()

    pool = ThreadPoolExecutor(threads)
    try:
        found = list(pool.map(alone, jobs))
    except BaseException:  # Ctrl-C ends the program without waiting for the jobs
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return found


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """In a forked child: the threads are the parent's."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def over_range(part: Callable[[int, int], None], count: int, step: int = 1) -> None:
    """Call `part(first, last)` for ranges that together are 0 to `count`, on as many threads as kernels may use here.

    For kernels in place of `parallel=True`, which compiles the whole tree of a kernel's callees two to three times more
    (measured: 14 of 62 s for the kernels of `plan`). Each range is contiguous and what is written in it belongs to no
    other, so that any number of threads gives the same bytes.

    Parameters
    ----------
    part : callable
        Does the range; what it writes belongs to no other range.
    count : int
        End of the last range.
    step : int
        Ranges begin at multiples of this.

    Examples
    --------
    >>> found = []
    >>> over_range(lambda first, last: found.extend(range(first, last)), 5)
    >>> sorted(found)
    [0, 1, 2, 3, 4]
    """
    global _pool
    units = -(-count // step)
    threads = 1 if numba.config.DISABLE_JIT else min(numba.get_num_threads(), units)
    if threads <= 1:
        part(0, count)
        return
    ends = [min(units * k // threads * step, count) for k in range(threads + 1)]
    if _pool is None:
        _pool = ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="brachy-kernel")
    others = [_pool.submit(part, *ends[k : k + 2]) for k in range(1, threads)]
    try:
        part(ends[0], ends[1])
    finally:
        for other in others:
            other.result()
