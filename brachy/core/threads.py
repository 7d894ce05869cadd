"""Independent pieces of work side by side on threads, and kernels kept on one thread."""

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
