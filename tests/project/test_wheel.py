"""The wheel, built and installed into an environment of its own, plans a shipped phantom outside the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("brachy_seeds-*.whl")
    return found


def test_holds_what_the_program_needs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "brachy/py.typed", "brachy/data/plans/liver-metastasis.toml", "brachy/data/phantoms/sphere-35mm.toml",
        "brachy/data/sources/amersham_6711.toml", "brachy/output/report/page/plan.html",
    ):  # fmt: skip
        assert needed in names
    assert all(name.startswith(("brachy/", "brachy_seeds-")) for name in names)


def test_plans_outside_the_checkout(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    home = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    zipfile.ZipFile(wheel).extractall(home)
    # its dependencies are those of this environment; the editable brachy there is on no path of a .pth
    (home / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    clean["NUMBA_OPT"] = "1"  # nothing is cached there yet, and speed is not asked

    def brachy(*words):
        return subprocess.run(
            [python, "-c", "import brachy; print(brachy.__file__); from brachy.__main__ import main; main()", *words],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=clean,
        )  # fmt: skip

    done = brachy("plan", "sphere-35mm", "--direction", "0", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(home))
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["check"]["verdict"] == "pass"
    assert brachy("protocols").returncode == brachy("sources").returncode == 0
