"""Commands that are ended while they run, at moments drawn by a seed: what is left, and how long the end took."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from brachy.patient.plan import Plan
from tests.quick_protocol import quick_text

ROOT = Path(__file__).resolve().parents[1]


def prepare(base):
    """Protocol, plan and post-implant seeds; by name the words of a command and the seconds that it usually takes."""
    protocol = base / "quick.toml"
    protocol.write_text(quick_text(), encoding="utf-8")
    words = ["plan", "sphere-35mm", "--protocol", str(protocol), "--direction", "0"]
    plan_s = timed([*words, "-o", str(base / "made")])
    assert finish(start(["phantom", "sphere-35mm", "-o", str(base / "post")]))[0] == 0
    made = Plan.load(base / "made")
    places = [seed.position_mm for needle in made.needles for seed in needle.seeds]
    seeds = base / "seeds.csv"
    seeds.write_text("x_mm,y_mm,z_mm\n" + "".join(f"{x},{y},{z}\n" for x, y, z in places))
    made_words = ["verify", str(base / "made"), str(base / "post"), "--seeds", str(seeds)]
    verify_s = timed([*made_words, "-o", str(base / "verified")])
    return {"plan": (words, plan_s), "verify": (made_words, verify_s)}


def timed(words):
    """Seconds of a command that is let be."""
    since = time.monotonic()
    code, told = finish(start(words))
    assert code == 0, told
    return time.monotonic() - since


def start(words, limit=None):
    """A command in a session of its own, as a terminal starts it; `limit` bytes are the most that it may write."""

    def bounded():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell in the background lets its children ignore it
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", "from brachy.__main__ import main; main()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=bounded,
        start_new_session=True, env={**os.environ, "NUMBA_NUM_THREADS": "2"},
    )  # fmt: skip


def finish(process, timeout=120):
    """Exit code and what was printed on stderr; the process's pipes are closed."""
    _, told = process.communicate(timeout=timeout)
    return process.returncode, told


def end_at(words, seconds, how):
    """Run a command and end it after so many seconds: exit code, stderr, seconds that the end took; its session."""
    process = start(words)
    try:
        code, told = finish(process, timeout=seconds)
        return code, told, 0.0, process.pid
    except subprocess.TimeoutExpired:
        pass
    since = time.monotonic()
    os.killpg(process.pid, how)  # the whole group, as Ctrl-C does
    code, told = finish(process)
    return code, told, time.monotonic() - since, process.pid


def alive(session):
    """Processes of a session that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def whole_or_nothing(out):
    """ "" where a destination is as it may be: absent, or complete and unchanged; else what is wrong."""
    if not out.exists():
        return ""
    held = {path.name for path in out.iterdir()}
    needed = (
        {"verification.json"} if "verification.json" in held else {"plan.json", "RTPLAN.dcm", "RTDOSE.dcm"}
    )
    if not needed | {"report.html"} <= held:
        return f"{out.name} is not whole: {sorted(held)}"
    if "plan.json" in held:
        Plan.load(out)
    return ""


def series(base, commands, count, how, seed):
    """Runs of plan and of verify ended by a signal, and one more that is let be; problems and the longest end."""
    rng, problems, longest, ended = random.Random(seed), [], 0.0, 0
    for name, (words, usual) in commands.items():
        out = base / f"out-{name}"
        full = [*words, "-o", str(out), "--force"]
        for number in range(count):
            code, told, took, session = end_at(full, rng.uniform(0.05, usual), how)
            ended += code != 0
            longest = max(longest, took)
            where = f"{name}, run {number}"
            if how == signal.SIGINT and code not in (0, 130, -signal.SIGINT):
                problems.append(f"{where}: exit code {code}: {told}")
            if (
                how == signal.SIGINT
                and code == 130
                and not re.fullmatch(r"brachy: interrupted; [^\n]*\n", told)
            ):
                problems.append(f"{where}: {told!r}")
            if how == signal.SIGINT and list(base.glob(f".{out.name}.*")):
                problems.append(f"{where}: leftovers {[path.name for path in base.glob(f'.{out.name}.*')]}")
            if problem := whole_or_nothing(out):
                problems.append(f"{where}: {problem}")
            if left := alive(session):
                problems.append(f"{where}: processes {left} still run")
        code, told = finish(start(full))
        if code != 0:
            problems.append(f"{name}, the run after: {told}")
        if left := list(base.glob(f".{out.name}.*")):
            problems.append(f"{name}, the run after: leftovers {left}")
    return {"runs": 2 * count, "ended": ended, "problems": problems, "longest_s": longest}


def full_disk(base, commands, count, seed):
    """Runs that may write only so much into a file: each ends in a line and leaves nothing."""
    rng, problems = random.Random(seed), []
    for name, (words, _) in commands.items():
        out = base / f"full-{name}"
        for number in range(count):
            limit = int(10 ** rng.uniform(3.7, 5.3))
            code, told = finish(start([*words, "-o", str(out)], limit))
            where = f"{name}, run {number}, {limit} bytes"
            if code != 1 or told.count("brachy: ") != 1 or "cannot write" not in told:
                problems.append(f"{where}: exit code {code}: {told[-300:]}")
            if out.exists() or list(base.glob(f".{out.name}.*")):
                problems.append(f"{where}: something is left")
    return {"runs": 2 * count, "problems": problems}
