"""Dask workers: a local cluster, or a scheduler that is there; results as they come."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from brachy.cohort.listing import Row
from brachy.cohort.records import CaseRecord
from brachy.cohort.work import run_case, version
from brachy.errors import BrachyError, UsageError
from brachy.version import __version__

ANSWER_S = 8.0
"""A scheduler that has not answered by then is not there."""


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise BrachyError("`brachy cohort` needs Dask: pip install 'brachy-seeds[cohort]'") from None
    return distributed


@contextmanager
def workers(count: int | None, scheduler: str | None, memory: str = "auto") -> Iterator[Any]:
    """A Dask client with workers of one thread each.

    Parameters
    ----------
    count : int or None
        Local workers; by default one for each core.
    scheduler : str or None
        Address of a scheduler that runs, such as tcp://127.0.0.1:8786; goes before local workers.
    memory : str
        Limit of each local worker, as Dask takes it.

    Raises
    ------
    UsageError
        If no scheduler answers at the address, or it has no worker with this version of brachy.
    """
    distributed = _distributed()
    for name in (
        "distributed",
        "distributed.nanny",
        "distributed.scheduler",
        "distributed.worker",
        "tornado",
    ):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if scheduler is not None:
        yield from _connected(distributed, scheduler)
        return
    import dask

    quiet = {
        "distributed.admin.tick.limit": "1h",
        "distributed.worker.profile.enabled": False,  # its history of an hour grows by 0.3 MB a case
    }
    with dask.config.set(quiet):
        cluster = distributed.LocalCluster(
            n_workers=count or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=memory,
            silence_logs=logging.CRITICAL,
        )
    client = distributed.Client(cluster)
    try:
        yield client
    except BaseException:
        kill(cluster)
        raise
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=2)
        with contextlib.suppress(Exception):
            cluster.close(timeout=5)


def kill(cluster: Any) -> None:
    """End the processes of a local cluster at once; none is started again."""
    import psutil

    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        process = getattr(getattr(nanny, "process", None), "pid", None)
        if process is not None:
            with contextlib.suppress(psutil.Error):
                psutil.Process(process).kill()


def _connected(distributed: Any, address: str) -> Iterator[Any]:
    try:
        client = distributed.Client(address, timeout=ANSWER_S)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        said = "" if isinstance(error, (TimeoutError, OSError)) else f" ({error})"
        raise UsageError(
            f"no Dask scheduler answers at {address}{said}: start one with `dask scheduler`, or leave --scheduler out"
        ) from None
    try:
        with contextlib.suppress(TimeoutError):
            client.wait_for_workers(1, timeout=ANSWER_S)
        try:
            versions = client.run(version)
        except Exception as error:
            raise UsageError(
                f"the workers of {address} cannot run brachy ({type(error).__name__}): install it there"
            ) from None
        if not versions:
            raise UsageError(
                f"the scheduler at {address} has no worker: start one with `dask worker {address}`"
            )
        other = sorted(set(versions.values()) - {__version__})
        if other:
            raise UsageError(
                f"a worker of {address} has brachy {other[0]}, here it is {__version__}: install one version"
            )
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=2)


def results(client: Any, verb: str, rows: Sequence[Row], keep: str = "") -> Iterator[tuple[Row, CaseRecord]]:
    """Records of the rows as they are finished; a case that kills its workers is a failed one."""
    distributed = _distributed()
    futures = {
        client.submit(
            run_case, verb, row.number, row.case, row.options, keep,
            key=f"brachy-{verb}-{row.key(verb)}", pure=False,
        ): row
        for row in rows
    }  # fmt: skip
    try:
        for future in distributed.as_completed(futures):
            row = futures.pop(future)
            error = future.exception()
            if error is None:
                record = future.result()
            else:
                record = CaseRecord(
                    row=row.number,
                    case=row.case,
                    options=dict(row.options),
                    status="failed",
                    reason=_died(error),
                    seconds=0.0,
                )
            future.release()
            yield row, record
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(futures))


def _died(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return "its worker died again and again: out of memory, or a fault of a library"
    return f"the worker failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
