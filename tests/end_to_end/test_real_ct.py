"""The real CT: the clinic's numbers, and the same plan however the patient lies and the slices are stored."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from brachy.io.load import load_case
from brachy.optimise import plan
from brachy.patient.protocol import change, load_protocol
from tests.quick_protocol import AXIAL, SEARCH

PROTOCOL = load_protocol("liver-metastasis")
QUICK = change(AXIAL, search=SEARCH)
SHIFT = np.array([13.3, -7.1, 4.9])


@pytest.fixture(scope="module")
def original(shared):
    return shared / "data" / "liver_abdomen"


@pytest.fixture(scope="module")
def made(original):
    """The plan from the structure set, with the whole effort of the protocol."""
    return plan(load_case(str(original / "RTSTRUCT.dcm")), PROTOCOL)


@pytest.fixture(scope="module")
def quickly(original):
    """The plan with a short search, of every azimuth of the protocol."""
    return plan(load_case(str(original / "RTSTRUCT.dcm")), QUICK)


def seeds(plan):
    return np.array([seed.position_mm for needle in plan.needles for seed in needle.seeds])


def copied(original: Path, folder: Path) -> Path:
    shutil.copytree(original / "CT", folder / "CT")
    shutil.copy(original / "RTSTRUCT.dcm", folder)
    return folder


def rewrite(folder: Path, change_slice, change_structures=None) -> None:
    for file in sorted((folder / "CT").iterdir()):
        content = pydicom.dcmread(file)
        change_slice(content)
        content.save_as(file)
    if change_structures is not None:
        content = pydicom.dcmread(folder / "RTSTRUCT.dcm")
        change_structures(content)
        content.save_as(folder / "RTSTRUCT.dcm")


def move_slice(content) -> None:
    content.ImagePositionPatient = [
        round(float(v) + s, 6) for v, s in zip(content.ImagePositionPatient, SHIFT, strict=True)
    ]
    if "SliceLocation" in content:
        del content.SliceLocation


def move_structures(content) -> None:
    for roi in content.ROIContourSequence:
        for contour in roi.get("ContourSequence", []):
            points = np.array(contour.ContourData, dtype=float).reshape(-1, 3) + SHIFT
            contour.ContourData = [f"{value:.6f}"[:16] for value in points.ravel()]


def reverse_order(content) -> None:
    content.InstanceNumber = 1000 - int(content.InstanceNumber)


def feet_first(content) -> None:
    """The same patient lying feet first: rows run the other way, the image is mirrored to match."""
    pixels = content.pixel_array[:, ::-1]
    along = np.array(content.ImageOrientationPatient[:3], dtype=float)
    spacing = float(content.PixelSpacing[1])
    corner = np.array(content.ImagePositionPatient, dtype=float) + along * spacing * (pixels.shape[1] - 1)
    content.ImagePositionPatient = [f"{value:.6f}"[:16] for value in corner]
    content.ImageOrientationPatient = [*(-along).tolist(), *content.ImageOrientationPatient[3:]]
    content.PatientPosition = "FFS"
    content.PixelData = np.ascontiguousarray(pixels).tobytes()


def test_the_clinic_s_numbers_on_a_real_ct(made):
    """Needles at angles are chosen by themselves, because ribs and lung bar the way to parallel ones."""
    target = made.evaluation.structures["GTV"]
    assert target["V100_pct"] >= 97
    assert target["V150_pct"] <= 55
    assert target["V200_pct"] <= 20
    assert made.seed_count <= 34
    both = made.optimiser.arrangement
    assert both.chosen == "individual"
    assert both.individual.objective <= 0.6 * both.parallel.objective
    assert both.parallel.V100_pct >= 92
    assert made.optimiser.out_of_reach == ()
    bone = next(rule for rule in made.rules if rule.rule == "needle to bone")
    assert bone.worst >= 2.0
    assert [rule.rule for rule in made.rules if rule.broken] == []


def test_the_goal_that_parallel_needles_miss_on_a_real_ct(original):
    """V100 just below 95 % because needles cannot come through the couch, which is said with its cause; no needle
    surface within 2 mm of a rib, every rule kept."""
    flat = plan(load_case(str(original / "RTSTRUCT.dcm")), PROTOCOL, direction=(260, 0))
    target = flat.evaluation.structures["GTV"]
    assert target["V100_pct"] >= 92
    assert target["V200_pct"] <= 58
    (goal,) = [g for g in flat.evaluation.goals if g.required and g.metric == "V100_pct"]
    assert goal.met is False
    assert any("cannot reach 120 Gy by any loading of the clear holes" in note for note in flat.assumed)
    assert any("holes that cross the target blocked: Ribs" in note for note in flat.assumed)
    bone = next(rule for rule in flat.rules if rule.rule == "needle to bone")
    assert bone.worst >= 2.0
    assert [rule.rule for rule in flat.rules if rule.broken] == []


def test_the_same_plan_from_any_file_of_the_folder(quickly, original):
    again = plan(load_case(str(original / "CT" / "CT_0053.dcm")), QUICK)
    assert again.to_json() == quickly.to_json()


@pytest.mark.parametrize(
    ("change_slice", "change_structures", "shift"),
    [
        (move_slice, move_structures, SHIFT),
        (reverse_order, None, np.zeros(3)),
        (feet_first, None, np.zeros(3)),
    ],
    ids=["moved", "reversed", "feet first"],
)
def test_the_same_plan_in_patient_terms(quickly, original, tmp_path, change_slice, change_structures, shift):
    folder = copied(original, tmp_path)
    rewrite(folder, change_slice, change_structures)
    again = plan(load_case(str(folder / "RTSTRUCT.dcm")), QUICK)
    made = quickly
    assert [needle.hole for needle in again.needles] == [needle.hole for needle in made.needles]
    # six significant digits of positions of some 300 mm
    np.testing.assert_allclose(seeds(again) - shift, seeds(made), atol=2e-3)
    for roi, expected in made.evaluation.structures.items():
        found = again.evaluation.structures[roi]
        for metric in ("volume_cc", "mean_gy", "D90_gy", "V100_pct", "D2cc_gy"):
            if expected.get(metric) is not None:
                assert found[metric] == pytest.approx(expected[metric], rel=1e-3, abs=1e-3), (roi, metric)
