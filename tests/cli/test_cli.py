"""The command line as a user types it: exit codes, one-line errors, nothing written, nothing heavy imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from brachy import interrupts
from brachy.cli import app
from brachy.patient.options import NeedleOptions, PrescriptionOptions, SourceOptions
from brachy.patient.overrides import changed_protocol
from brachy.version import __version__
from tests.quick_protocol import instead_of_the_shipped

REPO = Path(__file__).resolve().parents[2]


def run(capsys, monkeypatch, *words: str) -> tuple[int, str, str]:
    """Run the program in this process; exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["brachy", *words])
    with pytest.raises(SystemExit) as leave:
        app.main()
    shown = capsys.readouterr()
    return int(leave.value.code or 0), shown.out, shown.err


def refused(result: tuple[int, str, str], code: int, *words: str) -> None:
    """Exit code, one line on stderr that starts with the program's name and holds the words, nothing on stdout."""
    found, out, err = result
    assert (found, out) == (code, ""), err
    # a new machine compiles its kernels and says so; that is no part of the error
    lines = [line for line in err.strip().splitlines() if "compiling kernels" not in line]
    assert len(lines) == 1, err
    assert lines[0].startswith("brachy: ")
    for word in words:
        assert word.lower() in lines[0].lower(), lines[0]


def test_version(capsys, monkeypatch):
    assert run(capsys, monkeypatch, "--version") == (0, f"brachy {__version__}\n", "")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['brachy', 'plan', '--help']\n"
        "from brachy.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numba', 'pydicom', 'SimpleITK', 'pyvista', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--prescription" in done.stdout


def test_import_brachy_is_light():
    code = (
        "import sys, brachy; sys.exit(bool({'numba', 'pyvista', 'matplotlib', 'pydicom'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nonsense"], 2, ["nonsense"]),
        (["plan"], 2, ["CASE"]),
        (["plan", "x", "--no-such-option"], 2, ["--no-such-option"]),
        (["plan", "sphere-35mm", "--prescription", "200"], 2, ["110-180", "200"]),
        (["plan", "sphere-35mm", "--prescription", "nan"], 2, ["prescription"]),
        (["plan", "sphere-35mm", "--prescription", "high"], 2, ["--prescription", "give a number"]),
        (["plan", "sphere-35mm", "--seed", "1.5"], 2, ["--seed", "give a whole number"]),
        (["plan", "sphere-35mm", "--source", "6711"], 2, ["did you mean amersham_6711?"]),
        (["plan", "liver-metastases"], 2, ["liver-metastasis"]),
        (["replan", "nowhere", "--placed", "placed.csv"], None, ["nowhere"]),
        (["verify", "nowhere"], 2, ["--no-plan"]),
        (["robust", "nowhere", "--samples", "0"], None, ["nowhere"]),
        (["cohort", "nowhere/*", "-o", "c"], 2, ["nowhere/*"]),
        (["plan", "x" * 5000], 1, ["shorter name"]),
        (["plan", "sphere-35mm", "--activity", "1.0"], 2, ["0.6-0.8"]),
        (["plan", "sphere-35mm", "--activity", "0.7", "--strength", "0.9"], 2, ["--activity", "--strength"]),
        (["plan", "sphere-35mm", "--source", "cobalt"], 2, ["cobalt", "amersham_6711"]),
        (["plan", "sphere-35mm", "--protocol", "nothing"], 2, ["nothing", "liver-metastasis"]),
        (["plan", "sphere-35mm", "--formalism", "3D"], 2, ["3D", "1D"]),
        (["plan", "sphere-35mm", "--direction", "left"], 2, ["left", "--direction"]),
        (["plan", "sphere-35mm", "--direction", "1,2,3"], 2, ["azimuth"]),
        (["plan", "sphere-35mm", "--access", "above"], 2, ["--access above", "front", "posterior", "feet"]),
        (["plan", "sphere-35mm", "--access", "300..20"], 2, ["azimuth_deg 300-20 is no range"]),
        (["plan", "sphere-35mm", "--strength-on", "yesterday"], 2, ["--strength-on", "YYYY-MM-DD"]),
        (["plan", "sphere-35mm", "--mask", "GTV"], 2, ["NAME=FILE"]),
        (["plan", "sphere-35mm", "--time-limit", "-3"], 2, ["--time-limit"]),
        (["plan", "sphere-35mm", "--target", "Nowhere"], 2, ["Nowhere", "GTV"]),
        (["plan", "sphere-35mm", "--target", "GTV=much"], 2, ["GTV=much"]),
        (["plan", "no/such/case.dcm"], None, ["no/such/case.dcm"]),
        (["plan", "sphere-35mm", "--direction", "0", "--needle-length", "10"], 1, ["needle"]),
        (["sources", "cobalt"], 2, ["cobalt"]),
        (["plan", "sphere-35mm", "--activity", "much"], 2, ["--activity much", "MBq"]),
        (["plan", "sphere-35mm", "--activity", "0.7 mCi contained"], 2, ["0.408", "0.6-0.8"]),
        (
            ["plan", "sphere-35mm", "--activity", "1 mCi contained", "--source", "isoaid_iai125a"],
            2,
            ["isoaid_iai125a", "contained"],
        ),
        (["sources", "--plot", "seed.png"], 2, ["--plot", "name it"]),
        (["sources", "amersham_6711", "--plot", "seed.jpg"], 2, ["seed.jpg", ".png"]),
        (["plan", "sphere-35mm", "--source", "ibt_1251l"], 2, ["ibt_1251l", "--accept-unverified"]),
        (["protocols", "cobalt"], 2, ["cobalt"]),
        (["phantom", "cobalt", "-o", "x"], 2, ["cobalt"]),
        (["dose", "no-such-plan"], None, ["no-such-plan"]),
        (["dvh", "a.dcm", "b.dcm", "--json", "--csv"], 2, ["--json", "--csv"]),
        (["dvh", "a.dcm", "b.dcm"], None, ["a.dcm"]),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(capsys, monkeypatch, tmp_path, words, code, told):
    monkeypatch.chdir(tmp_path)
    result = run(capsys, monkeypatch, *words)
    if code is None:
        code = result[0]
        assert code in (1, 2)
    refused(result, code, *told)
    assert list(tmp_path.iterdir()) == []


def test_sources_and_protocols_as_json(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "sources", "--json")
    assert code == 0
    assert "amersham_6711" in json.loads(out)["sources"]
    code, out, _ = run(capsys, monkeypatch, "protocols", "liver-metastasis", "--json")
    assert code == 0
    assert json.loads(out)["prescription"]["dose_gy"] == 120


@pytest.mark.parametrize(
    "words", [["sources"], ["sources", "amersham_6711"], ["protocols"], ["protocols", "liver-metastasis"]]
)
def test_lists_print(capsys, monkeypatch, words):
    code, out, err = run(capsys, monkeypatch, *words)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 2


def test_an_unverified_model_is_used_on_request_and_the_plan_says_so(capsys, monkeypatch):
    words = [
        "plan",
        "sphere-35mm",
        "--direction",
        "0",
        "--source",
        "ibt_1251l",
        "--accept-unverified",
        "--json",
    ]
    code, out, err = run(capsys, monkeypatch, *words)
    assert code == 0, err
    assert any("ibt_1251l is UNVERIFIED" in said for said in json.loads(out)["assumed"])


@pytest.mark.parametrize(
    ("text", "mci"),
    [
        ("0.7", 0.7),
        ("25.9MBq", 0.7),  # 37 MBq/mCi
        ("25.9 mbq apparent", 0.7),
        ("1.2 mCi contained", 1.2 * 0.741 / 1.27),  # 6711: 0.741 U a contained mCi, 1.270 an apparent one
        ("44.4 MBq contained", 1.2 * 0.741 / 1.27),
    ],
)
def test_kinds_of_activity(text, mci):
    protocol = changed_protocol(PrescriptionOptions(), SourceOptions(activity=text), NeedleOptions())
    assert protocol.source.activity_mCi == pytest.approx(mci)
    assert ("CONTAINED" in protocol.source.stated_as) == ("contained" in text)


def test_a_model_is_drawn(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, monkeypatch, "sources", "ibt_1251l", "--plot", "seed.png")[0] == 0
    picture = imread(tmp_path / "seed.png")
    assert min(picture.shape[:2]) > 400
    assert picture[..., :3].std() > 0.05
    refused(run(capsys, monkeypatch, "sources", "ibt_1251l", "--plot", "seed.png"), 2, "seed.png", "--force")


def test_a_phantom_is_written_and_planned_from_disk(capsys, monkeypatch, tmp_path):
    """The whole way as files: phantom to DICOM, plan it from one slice, recompute the dose from the RT Plan."""
    instead_of_the_shipped(monkeypatch, tmp_path / "plans")
    monkeypatch.chdir(tmp_path)
    assert run(capsys, monkeypatch, "phantom", "sphere-35mm", "-o", "case")[0] == 0
    slices = sorted((tmp_path / "case").rglob("*.dcm"))
    code, _, err = run(capsys, monkeypatch, "plan", str(slices[0]), "-o", "out", "--seed", "1")
    assert code == 0, err
    made = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert not any(rule["status"] == "broken" for rule in made["rules"])
    refused(run(capsys, monkeypatch, "plan", str(slices[0]), "-o", "out"), 2, "out", "--force")
    code, out, err = run(capsys, monkeypatch, "dose", "out", "--like", "out/RTDOSE.dcm", "--json")
    assert code == 0, err
    assert json.loads(out)["seeds"] == sum(len(needle["seeds"]) for needle in made["needles"])
    code, out, err = run(
        capsys, monkeypatch, "dvh", "out/RTDOSE.dcm", "out/RTSTRUCT.dcm", "--metric", "D90", "--json"
    )
    assert code == 0, err
    found = json.loads(out)["structures"]["GTV"]["D90_gy"]
    assert found == pytest.approx(made["evaluation"]["structures"]["GTV"]["D90_gy"], rel=0.02)


def test_ctrl_c_inside_a_compiled_function_is_no_internal_error(capsys, monkeypatch):
    """What numba's dispatcher makes of Ctrl-C: a SystemError whose cause is the KeyboardInterrupt."""

    def interrupted(**_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as cause:
            raise SystemError("returned a result with an exception set") from cause

    monkeypatch.setattr(app, "app", interrupted)
    monkeypatch.setattr(interrupts, "WRITTEN", [])
    code, _, told = run(capsys, monkeypatch, "plan")
    assert (code, told) == (130, "brachy: interrupted; nothing was written\n")


def test_an_error_of_the_program_itself_says_so(capsys, monkeypatch):
    def broken(**_):
        raise SystemError("returned a result with an exception set")

    monkeypatch.setattr(app, "app", broken)
    refused(run(capsys, monkeypatch, "plan"), 1, "internal error", "report it")
