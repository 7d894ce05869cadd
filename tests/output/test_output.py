"""The folder of a plan: what it holds, whole or not at all, whatever happens."""

import csv
import errno
import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pydicom
import pytest
from markupsafe import escape

from brachy.errors import BrachyError, UsageError
from brachy.geometry.structures import Structure
from brachy.io.dicom.read import read_structures
from brachy.output import csv_tables, plan_folder
from brachy.output.template_solid import PrintedTemplateOptions
from brachy.patient.plan import Plan
from tests.small_plan import circle, dicom_identity, small_case, small_dose, small_plan

FILES = {"plan.json", "RTPLAN.dcm", "RTDOSE.dcm", "RTSTRUCT.dcm", "needles.csv", "dvh.csv", "placed.csv"}
CURVES = {"GTV": ([0.0, 100.0, 200.0], [3.0, 2.0, 0.5]), "=cmd|' /C calc'!A0": ([0.0, 1.0], [0.0, 0.0])}


def write(out, case=None, plan=None, **options):
    """The small plan is invented and fails the independent check; tests/check/test_check.py has plans that pass."""
    case = case or small_case(dicom_identity())
    given = {
        "structures": case.structures,
        "dose": small_dose(),
        "curves": CURVES,
        "independent_check": False,
        "pictures": False,
        **options,
    }
    return plan_folder.write_outputs(plan or small_plan(), case, out, **given)


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), strict=True))


def names(folder):
    return {path.name for path in folder.iterdir()}


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_holds_what_the_format_names(tmp_path):
    assert write(tmp_path / "out") == tmp_path / "out"
    assert names(tmp_path / "out") == FILES
    assert names(tmp_path) == {"out"}
    assert Plan.load(tmp_path / "out") == small_plan().sealed()


def test_with_report_and_printable_template(tmp_path):
    said = []
    options = PrintedTemplateOptions(standoff_mm=5.0)
    write(tmp_path / "out", pictures=True, printed_template=options, say=said.append)
    stl = {"template-1.stl", "template-2.stl"}
    assert names(tmp_path / "out") == FILES | stl | {"report.html"}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert small_plan().sealed().checksum[:12] in page
    assert any("5 mm outside the template's plane" in note for note in said)
    assert all(escape(note) in page for note in said)
    write(tmp_path / "again", pictures=True, printed_template=options)
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


def test_a_template_that_cannot_be_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match="thickness"):
        write(tmp_path / "out", pictures=True, printed_template=PrintedTemplateOptions(thickness_mm=0.1))
    assert names(tmp_path) == set()


def test_a_case_that_was_not_dicom_gets_its_ct(tmp_path):
    write(tmp_path / "out", small_case())
    assert names(tmp_path / "out") == FILES | {"ct"}
    images = {}
    for path in (tmp_path / "out" / "ct").iterdir():
        image = pydicom.dcmread(path)
        images[image.SOPInstanceUID] = image
    assert len(images) == 12
    structures = pydicom.dcmread(tmp_path / "out" / "RTSTRUCT.dcm")
    plan = pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    dose = pydicom.dcmread(tmp_path / "out" / "RTDOSE.dcm")
    frame = structures.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence} == set(images)
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    one = next(iter(images.values()))
    for found in (plan, dose, structures):
        assert found.StudyInstanceUID == one.StudyInstanceUID
        assert found.FrameOfReferenceUID == one.FrameOfReferenceUID
    assert series.SeriesInstanceUID == one.SeriesInstanceUID


def test_same_bytes_again(tmp_path):
    write(tmp_path / "a", small_case())
    write(tmp_path / "b", small_case())
    first = contents(tmp_path / "a")
    assert len(first) == 7 + 12
    assert first == contents(tmp_path / "b")


def test_seeds_of_the_files_agree(tmp_path):
    write(tmp_path / "out")
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    wanted = sorted(tuple(s["position_mm"]) for n in plan["needles"] for s in n["seeds"])
    read = pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    found = sorted(
        tuple(float(x) for x in channel.BrachyControlPointSequence[0].ControlPoint3DPosition)
        for setup in read.ApplicationSetupSequence
        for channel in setup.ChannelSequence
    )
    assert np.abs(np.subtract(found, wanted)).max() < 0.01
    placed = rows(tmp_path / "out" / "placed.csv")
    assert len([row for row in placed if row["seed"]]) == len(found) == 12
    assert len([row for row in placed if not row["seed"]]) == len(plan["needles"])


def test_needles_in_the_order_of_insertion(tmp_path):
    write(tmp_path / "out")
    read = rows(tmp_path / "out" / "needles.csv")
    assert list(read[0]) == list(csv_tables.NEEDLES_HEADER)
    # the central row of the first template is 2: rows 2, 3, 1, then the other template
    assert [(r["template"], r["hole"], r["layer"], r["order"]) for r in read] == [
        ("1", "A2", "0", "1"),
        ("1", "B2", "0", "2"),
        ("1", "C2", "0", "3"),
        ("1", "C3", "1", "4"),
        ("1", "B1", "-1", "5"),
        ("2", "AB1", "0", "6"),
    ]
    straight, tilted = read[0], read[-1]
    assert (straight["azimuth_deg"], straight["tilt_deg"]) == ("0", "0")
    # the direction (-0.6, 0.64, 0.48) is (-sin az cos tilt, cos az cos tilt, sin tilt)
    assert float(tilted["azimuth_deg"]) == pytest.approx(
        np.degrees(np.arcsin(0.6 / np.sqrt(1 - 0.48**2))), abs=0.01
    )
    assert float(tilted["tilt_deg"]) == pytest.approx(np.degrees(np.arcsin(0.48)), abs=0.01)
    for row in read:
        entry, tip = ([float(row[f"{end}_{axis}_mm"]) for axis in "xyz"] for end in ("entry", "tip"))
        assert np.linalg.norm(np.subtract(tip, entry)) == pytest.approx(
            float(row["depth_from_skin_mm"]), abs=0.01
        )
        depths = [float(depth) for depth in row["seed_depths_from_tip_mm"].split()]
        assert len(depths) == int(row["seeds"])
        steps = [float(step) for step in row["withdrawals_mm"].split()]
        assert steps == pytest.approx(np.diff(sorted(depths)).tolist(), abs=0.006)
    assert [float(r["depth_from_template_mm"]) for r in read] == [111.25] * 5 + [87.6543]


def test_loading_as_spacers_between_capsule_ends():
    plan = small_plan()
    one = [4.5, 4.5, 4.5]
    by_hole = {needle.hole: needle for needle in plan.needles}
    # B1: centres 2.25, 7.25, 17.25 mm from the tip, capsules of 4.5 mm: gaps 0.5 and 5.5 mm

    def text(needle, lengths):
        return csv_tables.loading_text(needle, lengths, "strand")

    assert text(by_hole["B1"], [4.5]) == "seed, 0.5 mm spacer, seed, 5.5 mm spacer, seed"
    assert text(by_hole["A2"], [4.5]) == "1.15 mm gap, seed"
    assert text(by_hole["C3"], one) == "seed of source 1, 5.5 mm spacer, seed of source 2"
    touching = by_hole["B1"].model_copy(update={"seeds": by_hole["B1"].seeds[:2]})
    assert text(touching, [5.0]) == "0.25 mm beyond the tip, seed, seed"
    assert text(touching, [6.0]).endswith("seed, 1 mm overlap, seed")


@pytest.mark.parametrize("supply", ["loose", "cartridge"])
def test_single_seeds_are_deposited_while_the_needle_is_drawn_back_and_need_no_spacer(supply):
    by_hole = {needle.hole: needle for needle in small_plan().needles}
    # the same needles as above: the steps are those between seed centres
    assert csv_tables.loading_text(by_hole["B1"], [4.5], supply) == "3 seeds: tip, withdraw 5, 10"
    assert csv_tables.loading_text(by_hole["A2"], [4.5], supply) == "1 seed: 1.15 mm behind the tip"
    assert (
        csv_tables.loading_text(by_hole["C3"], [4.5] * 3, supply)
        == "2 seeds: tip, withdraw 10 (of source 1, 2)"
    )


def test_placed_is_a_form_to_fill_in(tmp_path):
    write(tmp_path / "out")
    lines = (tmp_path / "out" / "placed.csv").read_bytes().decode().split("\r\n")
    assert lines[0] == "template,hole,seed,state,x_mm,y_mm,z_mm"
    assert lines[1:3] == ["1,A2,,,,,", "1,A2,1,,,,"]
    assert lines[-2:] == ["2,AB1,2,,,,", ""]


def test_curves_of_dose_and_volume(tmp_path):
    write(tmp_path / "out")
    read = rows(tmp_path / "out" / "dvh.csv")
    assert list(read[0]) == ["roi", "dose_gy", "volume_cc", "volume_pct"]
    assert [tuple(r.values()) for r in read[:3]] == [
        ("GTV", "0", "3", "100"),
        ("GTV", "100", "2", "66.6667"),
        ("GTV", "200", "0.5", "16.6667"),
    ]
    # a name that is a formula stays text, and an empty structure has no percentage
    assert read[3] == {"roi": "'=cmd|' /C calc'!A0", "dose_gy": "0", "volume_cc": "0", "volume_pct": ""}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_name_is_a_formula(name):
    text = csv_tables.dvh_csv({name: ([0.0], [1.0])})
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["roi"] == "'" + name


@pytest.mark.parametrize("name", ['quoted "name"', "a,b", "line\nbreak", "Märta", "<b>bold</b>"])
def test_any_name_survives_the_way_through_csv(name):
    (row,) = csv.DictReader(io.StringIO(csv_tables.dvh_csv({name: ([0.0], [1.0])}), newline=""), strict=True)
    assert row["roi"] == name


@pytest.mark.parametrize("curve", [([0.0, 1.0], [1.0]), ([0.0, 1.0], [1.0, 2.0])])
def test_what_is_no_cumulative_curve_is_refused(curve):
    with pytest.raises(ValueError, match="GTV"):
        csv_tables.dvh_csv({"GTV": curve})


def test_never_over_another_folder_unless_forced(tmp_path):
    write(tmp_path / "out")
    before = contents(tmp_path / "out")
    other = small_plan(assumed=("another",))
    with pytest.raises(UsageError, match="--force"):
        write(tmp_path / "out", plan=other)
    assert contents(tmp_path / "out") == before
    write(tmp_path / "out", plan=other, force=True)
    assert Plan.load(tmp_path / "out").assumed == ("another",)
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("force", [False, True])
def test_never_over_what_is_not_ours(tmp_path, force):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file"):
        with pytest.raises(UsageError, match=name):
            write(tmp_path / name, force=force)
    assert contents(tmp_path) == {"mine/thesis.txt": b"years of work", "file": b"a file"}


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert names(tmp_path / "out") == FILES


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", force=True, plan=small_plan(assumed=("another",)))
    assert (tmp_path / "link").is_symlink()
    assert Plan.load(tmp_path / "real").assumed == ("another",)


def test_a_missing_parent(tmp_path):
    with pytest.raises(UsageError, match="make it first"):
        write(tmp_path / "no" / "out")


def test_no_permission(tmp_path, monkeypatch):
    def refuse(self, *_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BrachyError, match=r"cannot write .*out: Permission denied"):
        write(tmp_path / "out")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(BrachyError, match="no permission"):
        plan_folder.check_destination(tmp_path / "out")


def test_disk_full(tmp_path):
    resource = pytest.importorskip("resource")
    write(tmp_path / "out")
    before = contents(tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096, hard)
    )  # the system itself refuses to write more into a file
    try:
        with pytest.raises(BrachyError, match="cannot write") as caught:
            write(tmp_path / "out", plan=small_plan(assumed=("another",)), force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert ".partial" not in str(caught.value).split(":")[0]
    assert contents(tmp_path / "out") == before
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_remains_of_an_interrupted_run(tmp_path, monkeypatch, error):
    def stop(*_):
        raise error

    monkeypatch.setattr(csv_tables, "placed_csv", stop)
    with pytest.raises(error):
        write(tmp_path / "out")
    assert names(tmp_path) == set()


def test_leftovers_of_killed_runs_go_and_living_runs_stay(tmp_path):
    dead, alive, other = (tmp_path / f".{name}.partial" for name in ("out.aa", "out.bb", "else.cc"))
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "plan.json").write_text("{}")
    lock = plan_folder._lock(alive)
    try:
        write(tmp_path / "out")
    finally:
        os.close(lock)
    assert names(tmp_path) == {"out", alive.name, other.name}


def test_without_an_exchange_the_folder_is_replaced_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_folder, "_exchange", lambda *_: False)
    write(tmp_path / "out")
    write(tmp_path / "out", plan=small_plan(assumed=("another",)), force=True)
    assert Plan.load(tmp_path / "out").assumed == ("another",)
    assert names(tmp_path) == {"out"}


def test_two_runs_into_one_folder(tmp_path):
    """The later one to finish is refused, or with force takes its place; each folder is whole."""

    def run_with_another_inside(force):
        with plan_folder.whole_folder(tmp_path / "out", force) as building:
            (building / "plan.json").write_text("late")
            write(tmp_path / "out", force=force)

    with pytest.raises(UsageError, match="exists"):
        run_with_another_inside(force=False)
    assert Plan.load(tmp_path / "out") == small_plan().sealed()
    run_with_another_inside(force=True)
    assert contents(tmp_path / "out") == {"plan.json": b"late"}
    assert names(tmp_path) == {"out"}


# Kills itself at the n-th step that touches the disk, into nothing and over an old folder: for every n with a few
# small files, for some n with a whole plan.
KILLED = """
import os, signal, sys
from pathlib import Path
from brachy.output import plan_folder
from brachy.writing import write_text_whole
from tests.small_plan import dicom_identity, small_case, small_dose, small_plan

base = Path(sys.argv[1])
case = small_case(dicom_identity())
plans = {word: small_plan(assumed=(word,)).sealed() for word in ("old", "new")}

def whole_plan(out, word, force):
    given = {"structures": case.structures, "dose": small_dose(), "curves": {}, "pictures": False}
    plan_folder.write_outputs(plans[word], case, out, force=force, independent_check=False, **given)

def few_files(out, word, force):
    with plan_folder.whole_folder(out, force) as folder:
        (folder / "ct").mkdir()
        for name in ("plan.json", "ct/1", "ct/2"):
            write_text_whole(folder / name, word)

def held(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

def counted(step, left):
    def call(*arguments, **options):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return step(*arguments, **options)
    return call

killed = 0
for run, stride in ((few_files, 1), (whole_plan, 9)):
    expected = {}
    for word in plans:
        run(base / word, word, False)
        expected[word] = held(base / word)
        (base / word).rename(base / f"{run.__name__}-{word}")
    for force in (False, True):
        for moment in range(0, 1000, stride):
            out = base / f"{run.__name__}-{force}-{moment}"
            if force:
                run(out, "old", False)
            child = os.fork()
            if child == 0:
                left = [moment]
                for name in ("mkdir", "replace", "rename", "fsync", "close"):
                    setattr(os, name, counted(getattr(os, name), left))
                plan_folder._exchange = counted(plan_folder._exchange, left)
                run(out, "new", force)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            finished = os.WIFEXITED(status)
            if out.exists():
                assert held(out) in expected.values(), (run, force, moment, list(held(out)))
            else:
                assert not force and not finished, (run, force, moment)
            run(out, "new", out.exists())  # the next run works, and cleans up
            assert held(out) == expected["new"]
            assert not list(base.glob(f".{out.name}.*")), (run, force, moment)
            if finished:
                assert os.WEXITSTATUS(status) == 0
                break
            killed += 1
        else:
            raise AssertionError("never finished")
print("killed", killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_step(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    (tmp_path / "runs").mkdir()
    top = str(Path(__file__).resolve().parents[2])
    run = subprocess.run(
        [sys.executable, "-W", "error", script, tmp_path / "runs"],
        capture_output=True,
        text=True,
        check=False,
        cwd=top,
        env={**os.environ, "PYTHONPATH": top},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[1]) > 40


def test_a_case_alone(tmp_path):
    case = small_case()
    plan_folder.write_case(case, tmp_path / "case")
    assert names(tmp_path / "case") == {"ct", "RTSTRUCT.dcm"}
    assert len(names(tmp_path / "case" / "ct")) == 12
    plan_folder.check_destination(tmp_path / "case", force=True)
    with pytest.raises(UsageError, match="--force"):
        plan_folder.write_case(case, tmp_path / "case")
    plan_folder.write_case(case, tmp_path / "case", force=True)
    plan_folder.write_case(small_case().__class__(case.ct_hu, case.grid), tmp_path / "bare")
    assert names(tmp_path / "bare") == {"ct"}


def test_dose_round_the_seeds(monkeypatch):
    assert plan_folder.DOSE_SPACING_MM <= 2.0
    monkeypatch.setattr(plan_folder, "DOSE_SPACING_MM", 4.0)  # less to compute
    plan = small_plan().sealed()
    dose = plan_folder.plan_dose(plan)
    seeds = np.array([s.position_mm for n in plan.needles for s in n.seeds])
    assert dose.grid.spacing_mm.tolist() == [4.0, 4.0, 4.0]
    low, high = dose.grid.corners_mm().min(axis=0), dose.grid.corners_mm().max(axis=0)
    assert (low <= seeds.min(axis=0) - 50).all()
    assert (high >= seeds.max(axis=0) + 50).all()
    from brachy.dosimetry.tg43 import dose as at_points

    chosen = [[0, 0, 0], [10, 12, 15], [14, 15, 14]]
    points = dose.grid.index_to_mm(chosen)
    assert [dose.gy[z, y, x] for x, y, z in chosen] == pytest.approx(
        at_points(points, plan.implants()), rel=2e-3
    )


def test_curves_of_what_the_plan_evaluates():
    plan = small_plan()
    ring = Structure("GTV", tuple(circle((-20, 0, z), 6) for z in (104, 106, 108)))
    curves = plan_folder.plan_curves(plan, (ring, Structure("not evaluated", ring.contours_mm)))
    assert list(curves) == ["GTV"]
    doses, volumes = (np.asarray(each) for each in curves["GTV"])
    assert volumes[0] == pytest.approx(ring.volume_cc, rel=1e-3)
    assert volumes[-1] == 0
    assert doses[0] == 0


def test_the_planned_target_is_among_the_structures(tmp_path):
    plan = small_plan()
    targets = (plan.targets[0].model_copy(update={"margin_mm": 2.0}),)
    templates = (plan.templates[0],)
    plan = small_plan(targets=targets, templates=templates, needles=plan.needles[:5])
    case = small_case(dicom_identity())
    plan_folder.write_outputs(plan, case, tmp_path / "out", dose=small_dose(), curves={}, pictures=False)
    read = {structure.name: structure for structure in read_structures(tmp_path / "out" / "RTSTRUCT.dcm")}
    assert {"BODY", "GTV", "GTV + 2 mm", "Rippe löst"} <= read.keys()
    planned, drawn = read["GTV + 2 mm"], read["GTV"]
    assert planned.interpreted_type == "PTV"
    assert planned.contains(np.vstack(drawn.contours_mm)).all()
    # the widest contour of the target has 8.99 mm radius, the planned one 2 mm more
    assert np.ptp(planned.bounds_mm[:, 0]) == pytest.approx(2 * 10.99, abs=0.5)
    written = pydicom.dcmread(tmp_path / "out" / "RTPLAN.dcm")
    assert written.DoseReferenceSequence[0].ReferencedROINumber == planned.number
