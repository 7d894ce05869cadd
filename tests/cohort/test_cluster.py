"""Cohorts on real schedulers and worker processes on loopback: killed workers, killed runs, no scheduler."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from brachy.cli import app
from brachy.cohort import run_cohort
from brachy.cohort.table import table_csv
from brachy.cohort.work import run_case
from brachy.io.phantom.file import load_phantom
from brachy.output.plan_folder import write_outputs
from tests.quick_protocol import QUICK, quick_text

CASES = 4
BRACHY = [sys.executable, "-m", "brachy"]


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Four spheres with a quick search of different seeds, and one file that is missing, in row 5."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "quick.toml").write_text(quick_text(), encoding="utf-8")
    rows = [f"sphere-35mm,quick.toml,{seed},0\n" for seed in range(CASES)]
    text = "case,protocol,seed,direction\n" + "".join(rows) + "missing.dcm,quick.toml,0,0\n"
    (folder / "list.csv").write_text(text)
    return folder / "list.csv"


@pytest.fixture(scope="module")
def undisturbed(listed):
    """The table as one process makes it, without Dask."""
    from brachy.cohort.listing import read_list

    rows = read_list(str(listed), "plan")
    return table_csv([run_case("plan", row.number, row.case, row.options).as_written() for row in rows])


def started(*words, **given):
    return subprocess.Popen(
        [*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background of a shell
        **given,
    )  # fmt: skip


def until(condition, process):
    """Wait for a condition while a process lives."""
    for _ in range(2400):
        if condition():
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    assert condition(), process.communicate()


def done_files(folder):
    return sorted(Path(folder).glob("done/*.json"))


def ended(process):
    """End a process and all that it started."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for member in family:
        member.kill()
    process.kill()
    process.communicate()


@contextlib.contextmanager
def dask(tmp_path, workers):
    """A scheduler and workers of one thread without nannies; the address and the processes."""
    file = tmp_path / "scheduler.json"
    processes = []
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    try:
        processes.append(started(*command, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show",
                                 "--scheduler-file", file))  # fmt: skip
        until(file.exists, processes[0])
        until(lambda: file.read_text().strip().endswith("}"), processes[0])
        address = json.loads(file.read_text())["address"]
        for _ in range(workers):
            words = ("--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
            command = [sys.executable, "-m", "distributed.cli.dask_worker", address, *words]
            processes.append(started(*command, "--local-directory", tmp_path))
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            ended(process)


def test_a_killed_worker_costs_no_case_and_no_case_twice(tmp_path, listed, undisturbed):
    out = tmp_path / "out"
    with dask(tmp_path, 2) as (address, workers):
        run = started(*BRACHY, "cohort", listed, "-o", out, "--scheduler", address)
        try:
            until(lambda: done_files(out), run)
            workers[0].send_signal(signal.SIGKILL)
            shown, told = run.communicate(timeout=240)
        finally:
            ended(run)
    assert run.returncode == 1, told  # for the file that is missing
    assert "row 5 failed" in told
    assert (out / "cohort.csv").read_bytes().decode() == undisturbed
    rows = list(csv.DictReader((out / "cohort.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == [str(k) for k in range(1, CASES + 2)]
    assert [row["status"] for row in rows] == ["done"] * CASES + ["failed"]
    assert "missing.dcm" in rows[-1]["reason"]
    assert len(done_files(out)) == CASES + 1
    assert f"{CASES} of {CASES + 1} cases done" in shown


def test_a_killed_run_goes_on_where_it_was(tmp_path, listed, undisturbed):
    out = tmp_path / "out"
    run = started(*BRACHY, "cohort", listed, "-o", out, "--workers", "2")
    try:
        until(lambda: done_files(out), run)
        family = psutil.Process(run.pid).children(recursive=True)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    for member in family:
        if member.is_running() and member.status() != psutil.STATUS_ZOMBIE:
            member.wait(timeout=30)  # workers whose parent is dead end by themselves
    before = {file: file.stat().st_mtime_ns for file in done_files(out)}
    finished = [file for file in before if json.loads(file.read_text())["status"] == "done"]
    assert 0 < len(before) < CASES + 1
    again = subprocess.run(
        [*BRACHY, "cohort", listed, "-o", out, "--workers", "2"], capture_output=True, text=True, timeout=240
    )
    assert again.returncode == 1, again.stderr
    assert (out / "cohort.csv").read_bytes().decode() == undisturbed
    assert all(file.stat().st_mtime_ns == before[file] for file in finished)  # none of them was done again


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_worker(tmp_path, listed):
    out = tmp_path / "out"
    run = started(*BRACHY, "cohort", listed, "-o", out, "--workers", "2")
    try:
        until(lambda: done_files(out), run)
        family = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGINT)
        _, told = run.communicate(timeout=30)
    finally:
        ended(run)
    assert run.returncode == 130, told
    assert "the same command goes on from there" in told
    assert "Traceback" not in told
    alive = [m for m in family if m.is_running() and m.status() != psutil.STATUS_ZOMBIE]
    _, alive = psutil.wait_procs(alive, timeout=10)
    assert not alive
    assert (out / "cohort.csv").is_file()


def run(capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["brachy", *map(str, words)])
    with pytest.raises(SystemExit) as leave:
        app.main()
    return int(leave.value.code or 0), capsys.readouterr()


def test_what_cannot_be_used_is_told_before_any_work(tmp_path, listed, capsys, monkeypatch):
    out = tmp_path / "out"
    for words, code, told in (
        (("--scheduler", "tcp://127.0.0.1:9"), 2, "no Dask scheduler answers at tcp://127.0.0.1:9"),
        (("--scheduler", "nonsense://x"), 2, "no Dask scheduler answers at nonsense://x"),
        (("--scheduler", "tcp://127.0.0.1:9", "--workers", "2"), 2, "exclude each other"),
        (("--cut", "D90_gy"), 2, "--cut goes with --outcomes"),
        (("--verb", "paint"), 2, "choose plan, verify, robust"),
        (("--outcomes", tmp_path / "none.csv"), 2, "none.csv cannot be read"),
    ):
        found, shown = run(capsys, monkeypatch, "cohort", listed, "-o", out, *words)
        assert found == code, shown.err
        assert told in shown.err
        assert len(shown.err.strip().splitlines()) == 1
        assert not (out / "cohort.csv").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    code, shown = run(capsys, monkeypatch, "cohort", listed, "-o", tmp_path / "other", "--force")
    assert (code, "not of a cohort" in shown.err) == (2, True)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "precious"


def test_robust_over_plans_with_outcomes_and_kept_folders(tmp_path, capsys, monkeypatch):
    """One local worker; the metrics are those of `brachy robust`, and a second run does nothing again."""
    import brachy
    from brachy.evaluation.robustness import robust_folder

    case = load_phantom("sphere-35mm")
    write_outputs(brachy.plan(case, QUICK, direction=(0, 0)), case, tmp_path / "plan-a", pictures=False)
    (tmp_path / "list.csv").write_text("case,samples\nplan-a,20\nplan-b,20\n")
    told = []
    records = run_cohort(
        str(tmp_path / "list.csv"), tmp_path / "out", verb="robust", workers_count=1, keep=True,
        told=lambda *words: told.append(words),
    )  # fmt: skip
    assert [record.status for record in records] == ["done", "failed"]
    exact = robust_folder(tmp_path / "plan-a", samples=20).intervals["GTV"]["D90_gy"]
    assert records[0].metrics["D90_gy_mean"] == pytest.approx(exact.mean, rel=1e-5)
    assert (tmp_path / "out" / "cases" / "000001" / "robust.json").is_file()
    assert [words[:2] for words in told] == [(0, 2), (1, 2), (2, 2)]

    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "out" / "cohort.parquet").to_pydict()
    lines = list(csv.DictReader((tmp_path / "out" / "cohort.csv").read_text().splitlines()))
    assert list(table) == list(lines[0])
    assert table["D90_gy"][0] == pytest.approx(float(lines[0]["D90_gy"]))
    assert table["D90_gy"][1] is None
    patient = records[0].patient_id
    (tmp_path / "oc.csv").write_text(
        f"patient_id,response,pfs_months,pfs_event,os_months,os_event\n{patient},CR,3,1,9,0\n"
    )
    (tmp_path / "list.csv").write_text("case,samples\nplan-a,20\n")
    code, shown = run(
        capsys, monkeypatch, "cohort", tmp_path / "list.csv", "--verb", "robust", "-o", tmp_path / "out",
        "--outcomes", tmp_path / "oc.csv", "--json",
    )  # fmt: skip
    assert code == 0, shown.err
    assert json.loads(shown.out)["cases"][0]["status"] == "done"
    answer = json.loads((tmp_path / "out" / "outcomes.json").read_text())
    assert answer["all"]["response"]["counts"]["CR"] == 1
    page = (tmp_path / "out" / "cohort.html").read_text()
    assert "Overall survival" in page
    (tmp_path / "list.csv").write_text("case\nplan-a\n")
    code, shown = run(
        capsys, monkeypatch, "cohort", tmp_path / "list.csv", "--verb", "verify", "-o", tmp_path / "out"
    )
    assert (code, "is of a cohort of 'robust'" in shown.err) == (2, True)
