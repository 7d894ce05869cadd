"""The finder on a real day-1 implant of 54 seeds (VariSeed 8), on the whole CT and without the count."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import brachy
from brachy.postimplant.seed_finder import Capsule, Findings, find_seeds


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "prostate_postimplant_day1"


@pytest.fixture(scope="module")
def truth(folder: Path) -> np.ndarray:
    with (folder / "truth" / "seeds_mm_LPS.csv").open() as file:
        return np.array([[float(row[k]) for k in ("x_mm", "y_mm", "z_mm")] for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def case(folder: Path) -> brachy.Case:
    return brachy.load_case(folder / "dicom" / "CT001.dcm")


@pytest.fixture(scope="module")
def found(case: brachy.Case) -> Findings:
    return find_seeds(case, Capsule())


def test_seeds_of_the_clinic_are_found(found: Findings, truth: np.ndarray) -> None:
    distance = np.linalg.norm(found.positions_mm[:, None] - truth[None], axis=-1)
    i, j = linear_sum_assignment(np.where(distance < 3, distance, 1e3))
    near = distance[i, j] < 3
    i, j = i[near], j[near]
    assert len(i) >= 51
    assert len(found) - len(i) <= 3
    plane = np.hypot(*(found.positions_mm[i] - truth[j])[:, :2].T)
    assert np.median(plane) <= 0.3
    assert np.percentile(plane, 95) <= 0.7
    assert np.median(distance[i, j]) <= 1.0


def test_others_have_a_seeds_mass_and_lie_by_seeds(found: Findings, truth: np.ndarray) -> None:
    """Bone lies 20 mm and more from the seeds: nothing there."""
    distance = np.linalg.norm(found.positions_mm[:, None] - truth[None], axis=-1).min(axis=1)
    assert (distance < 6).all()
    masses = np.array([seed.mass for seed in found.seeds])
    assert (np.abs(masses - 1) < 0.2).all()


def test_dose_as_the_planning_system(found: Findings, case: brachy.Case, folder: Path) -> None:
    """D90 153.8 Gy and V145 38.414 cc of the prostate, as VariSeed exported them (truth.json)."""
    prostate = case.structure("Prostate")
    implant = brachy.Implant(brachy.load_source("bard_stm1251"), found.positions_mm, strength_U=0.621)
    histogram = brachy.dvh(implant, prostate)
    assert histogram.D(90) == pytest.approx(153.8, rel=0.02)
    assert histogram.V(145) == pytest.approx(38.414, abs=1.0)
