"""Jobs side by side on threads."""

import threading

import numba
import pytest

from brachy.core.threads import one_thread, side_by_side


@pytest.fixture
def two_threads():
    before = numba.get_num_threads()
    numba.set_num_threads(min(2, before))
    yield min(2, before)
    numba.set_num_threads(before)


def test_results_in_order_with_kernels_on_one_thread_and_jobs_at_the_same_time(two_threads):
    together = threading.Barrier(two_threads, timeout=60)

    def job(number):
        if number < two_threads:
            together.wait()  # fails unless the jobs run at the same time
        return number, numba.get_num_threads()

    found = side_by_side([lambda number=number: job(number) for number in range(6)])
    assert found == [(number, 1 if two_threads > 1 else numba.get_num_threads()) for number in range(6)]
    assert numba.get_num_threads() == two_threads


def test_on_one_thread_they_run_in_the_caller(two_threads):
    with one_thread():
        assert set(side_by_side([threading.get_ident] * 3)) == {threading.get_ident()}


def test_an_error_is_the_caller_s(two_threads):
    def fails():
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        side_by_side([lambda: 1, fails])
    assert side_by_side([]) == []
