"""Kernels compiled ahead: the list is what verbs call, nothing is compiled twice, nothing breaks when it is ended."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import psutil
import pytest

from brachy.core import compiling, kernel_list, warm

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

ROOT = Path(__file__).resolve().parents[2]
ONE = "from brachy.core import kernel_list, influence\nkernel_list.compile_unit('limits of seeds')\n"
COUNT = "print(len(influence.fill_rows.stats.cache_misses), len(influence.fill_rows.stats.cache_hits))"
USED = """
import atexit, json, os, sys
def leave(code=0):
    from numba.core.dispatcher import Dispatcher
    found = {}
    for name, module in list(sys.modules.items()):
        for kernel in list(vars(module).values()) if name.startswith("brachy.core.") else ():
            if isinstance(kernel, Dispatcher) and kernel.py_func.__module__ == name and kernel.signatures:
                key = f"{name.split('.')[-1]}.{kernel.py_func.__name__}"
                found[key] = [sum(kernel.stats.cache_misses.values()), [str(tuple(s)) for s in kernel.signatures]]
    open(sys.argv[-1], "w").write(json.dumps(found))
atexit.register(leave)
"""
VERB = (
    USED
    + """
sys.argv, file = ["brachy", *sys.argv[1:-1]], sys.argv[-1]
from brachy.cli.app import main
try:
    main()
finally:
    sys.argv.append(file)
"""
)
FINDER = (
    USED
    + """
sys.path.insert(0, sys.argv[1])
from brachy.patient.case import Case
from brachy.postimplant.seed_finder import Capsule, find_seeds
from tests.postimplant.seed_finder import synthetic
scene, hu = synthetic.scan(synthetic.SCANNERS["2.5 mm"], 12, 2, objects=False)
find_seeds(Case(hu, scene.grid), Capsule())
"""
)


def python(code, *words, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {key: str(value) for key, value in environment.items()},
    )  # fmt: skip


def output(process):
    """What a process printed; it must end well."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.split()


def listed(verb):
    """Kernels of the list for a verb, with their types as numba writes them; None where the decorator has them."""
    found = {}
    for unit in kernel_list.units_of(verb):
        for kernel, types in unit.kernels:
            found.setdefault(f"{unit.module}.{kernel}", []).append(str(tuple(types)))
    return found, {unit.module for unit in kernel_list.units_of(verb) if not unit.kernels}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Folder of a plan, and the kernels that `brachy plan` called after a warm-up."""
    folder = tmp_path_factory.mktemp("plans") / "out"
    return folder, used_by("plan", "plan", "sphere-35mm", "--direction", "0", "-o", folder)


def used_by(verb, *words, code=VERB):
    """Kernels that a verb called after a warm-up: how many were compiled all the same, and the types."""
    assert warm.compile_ahead(verb, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "used.json"
        process = python(code, *words, file)
        out, err = process.communicate()
        assert process.returncode == 0, out + err
        return json.loads(file.read_text())


def assert_listed(verb, found):
    """Nothing was compiled, and the types of each kernel that was called are in the list of the verb."""
    types, whole = listed(verb)
    assert found
    for kernel, (compiled, signatures) in found.items():
        assert compiled == 0, kernel
        if kernel.split(".")[0] not in whole:
            assert set(signatures) <= set(types[kernel]), kernel


@pytest.mark.slow
def test_the_list_of_verify_has_the_kernels_of_the_finder():
    found = used_by("verify", ROOT, code=FINDER)
    assert any(kernel.startswith("capsule.") for kernel in found)
    assert_listed("verify", found)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["plan", "dose", "dvh", "robust"])
def test_the_list_is_what_a_verb_calls(verb, planned, tmp_path):
    """After a warm-up it compiles nothing, in whatever state the cache was before."""
    folder, found = planned
    words = {
        "dose": (folder / "RTPLAN.dcm", "-o", tmp_path / "dose.dcm"),
        "dvh": (folder / "RTDOSE.dcm", folder / "RTSTRUCT.dcm"),
        "robust": (folder, "--samples", "2"),
    }
    if verb != "plan":
        found = used_by(verb, verb, *words[verb])
    assert_listed(verb, found)
    said = []
    assert warm.is_ready(verb)
    assert warm.compile_ahead(verb, said.append)
    assert not said


def test_every_unit_names_kernels_and_verbs():
    assert len({unit.name for unit in kernel_list.UNITS}) == len(kernel_list.UNITS)
    for unit in kernel_list.UNITS:
        assert set(unit.verbs) <= set(kernel_list.VERBS)
        assert (compiling.HERE / f"{unit.module}.py").is_file()
    assert all(kernel_list.units_of(verb) for verb in kernel_list.VERBS)


def test_of_two_processes_one_compiles(tmp_path):
    both = [python(ONE + COUNT, NUMBA_CACHE_DIR=tmp_path) for _ in range(2)]
    assert sorted(output(process) for process in both) == [["0", "1"], ["1", "0"]]


def test_what_was_killed_while_compiling_is_compiled_by_the_next(tmp_path):
    killed = (
        "import os\nfrom brachy.core import influence, kernel_list\n"
        "influence.fill_rows._compiler.compile = lambda *_: os.kill(os.getpid(), 9)\n"
        "kernel_list.compile_unit('limits of seeds')\n"
    )
    process = python(killed, NUMBA_CACHE_DIR=tmp_path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert output(python(ONE + COUNT, NUMBA_CACHE_DIR=tmp_path)) == ["1", "0"]
    assert output(python(ONE + COUNT, NUMBA_CACHE_DIR=tmp_path)) == ["0", "1"]


def test_a_file_of_the_cache_that_is_lost_is_made_again(tmp_path):
    output(python(ONE, NUMBA_CACHE_DIR=tmp_path))
    for file in tmp_path.rglob("*.nbc"):
        file.unlink()
    assert output(python(ONE + COUNT, NUMBA_CACHE_DIR=tmp_path)) == ["1", "0"]


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"no pickle"])
def test_a_damaged_file_of_the_cache_is_made_again(kind, content, tmp_path):
    output(python(ONE, NUMBA_CACHE_DIR=tmp_path))
    for file in tmp_path.rglob(f"*.{kind}"):
        file.write_bytes(content)
    assert output(python(ONE + COUNT, NUMBA_CACHE_DIR=tmp_path)) == ["1", "0"]
    assert output(python(ONE + COUNT, NUMBA_CACHE_DIR=tmp_path)) == ["0", "1"]


def test_a_cache_that_cannot_be_written(tmp_path):
    """A file stands where the folder would be: compiled for this run only."""
    file = tmp_path / "file"
    file.write_text("not a folder")
    assert output(python(ONE + COUNT, NUMBA_CACHE_DIR=file / "kernels")) == ["1", "0"]


def test_processes_end_with_their_parent(tmp_path):
    code = (
        "from brachy.core import warm\nc = warm.Compilation('plan', processes=2)\nc.start()\n"
        "print('started', flush=True)\nc.wait()\n"
    )
    parent = python(code, NUMBA_CACHE_DIR=tmp_path)
    assert parent.stdout.readline() == "started\n"
    children = []
    while len(children) < 2:
        children = psutil.Process(parent.pid).children()
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_the_digest_goes_by_the_sources_that_a_kernel_uses(monkeypatch):
    assert compiling.sources("search") == ("loading", "search")
    assert compiling.sources("tree") == ("lanes", "source_sums", "tables", "tree", "work_arrays")
    before = {module: compiling.digest(module) for module in ("search", "loading", "polygon")}
    text = compiling._text

    def changed(module):
        return text(module) + ("# changed\n" if module == "loading" else "")

    monkeypatch.setattr(compiling, "_text", changed)
    compiling.digest.cache_clear()
    after = {module: compiling.digest(module) for module in before}
    compiling.digest.cache_clear()
    assert [module for module in before if before[module] != after[module]] == ["search", "loading"]


def test_old_versions_are_removed(tmp_path):
    today = compiling.folder_of("raster").name
    names = [today, *(f"raster-{k:016x}" for k in range(5)), "else-0000000000000000"]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    compiling.remove_old_versions(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names[:3], "else-0000000000000000"}


def test_a_kernel_for_kernels_alone_is_refused_from_python():
    from brachy.core import polygon

    with pytest.raises(TypeError, match="for other kernels alone"):
        polygon._box_gap2(None, 0.0, 0.0)


def test_a_home_keeps_nothing_but_the_cache(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    keep = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "brachy", "sources", "amersham_6711", "--plot", str(tmp_path / "source.png")],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=keep | {"HOME": str(home)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.relative_to(home) for path in home.glob("*/*")] == [Path(".cache/brachy")]
