"""The finder on scans whose truth is known; the generator shares no model with it (see synthetic.py).

Bounds of recall, precision and axis are the acceptance rows of the finder; the full table is benchmarks/finder.py.
"""

import numpy as np
import pytest

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Grid
from brachy.patient.case import Case
from brachy.postimplant.seed_finder import Capsule, Findings, find_seeds
from tests.postimplant.seed_finder import synthetic
from tests.postimplant.seed_finder.synthetic import SCANNERS, Scene


def _score(scene: Scene, found: Findings, gate_mm: float) -> synthetic.Score:
    return synthetic.score(scene, found.positions_mm, found.axes, gate_mm)


@pytest.mark.parametrize(("name", "seed"), [("1 mm", 3), ("2.5 mm", 1)])
def test_sixty_seeds_in_thin_slices(name: str, seed: int) -> None:
    scene, hu = synthetic.scan(SCANNERS[name], 60, seed)
    got = _score(scene, find_seeds(Case(hu, scene.grid), Capsule()), 1.0)
    assert got.recall >= 0.97
    assert got.precision >= 0.98
    assert got.axis_deg < 10
    assert got.error_mm < 0.15


def test_sixty_seeds_in_thick_slices() -> None:
    scene, hu = synthetic.scan(SCANNERS["5 mm"], 60, 2)
    found = find_seeds(Case(hu, scene.grid), Capsule())
    got = _score(scene, found, 2.0)
    assert got.recall >= 0.95
    assert got.precision >= 0.95
    assert any("slices of 5 mm" in text for text in found.warnings)


def test_clipped_scan() -> None:
    scene, hu = synthetic.scan(SCANNERS["2.5 mm clipped"], 24, 5, objects=False)
    found = find_seeds(Case(hu, scene.grid), Capsule())
    got = _score(scene, found, 1.0)
    assert (got.recall, got.precision) == (1.0, 1.0)
    assert found.calibration.clipped_at_hu == 3071
    assert any("clipped at 3071" in text for text in found.warnings)


@pytest.fixture(scope="module")
def twelve() -> tuple[Scene, np.ndarray, Findings]:
    scene, hu = synthetic.scan(SCANNERS["2.5 mm"], 12, 2, objects=False)
    return scene, hu, find_seeds(Case(hu, scene.grid), Capsule())


def test_seeds_say_what_they_are(twelve: tuple[Scene, np.ndarray, Findings]) -> None:
    scene, _hu, found = twelve
    got = _score(scene, found, 1.0)
    assert (got.recall, got.precision) == (1.0, 1.0)
    assert (found.confidence > 0.8).all()
    assert np.linalg.norm(found.axes, axis=1) == pytest.approx(1.0)
    assert (np.diff(found.positions_mm[:, 2]) >= 0).all()
    assert [seed.mass for seed in found.seeds] == pytest.approx(np.ones(12), abs=0.15)
    # the seeds were made with 32,000 HU mm3, SD 4 %
    assert found.calibration.seed_mass_hu_mm3 == pytest.approx(32_000, rel=0.06)
    # the error bar is about as large as the error
    nearest = np.linalg.norm(found.positions_mm[:, None] - scene.seeds_mm[None], axis=-1).min(axis=1)
    spread = np.array([np.linalg.norm(seed.position_sd_mm) for seed in found.seeds])
    assert np.median(nearest) < 3 * np.median(spread)


def test_count_warns_and_never_fills(twelve: tuple[Scene, np.ndarray, Findings]) -> None:
    scene, hu, found = twelve
    more = find_seeds(Case(hu, scene.grid), Capsule(), count=14)
    assert np.array_equal(more.positions_mm, found.positions_mm)
    assert "12 of 14 seeds found" in more.warnings
    assert not any("found" in text for text in found.warnings)


def test_any_direction_of_the_grid(twelve: tuple[Scene, np.ndarray, Findings]) -> None:
    """The same patient stored from head to feet and turned: the same seeds in the patient's frame."""
    scene, hu, found = twelve
    grid = scene.grid
    flipped = Grid(
        grid.index_to_mm([[hu.shape[2] - 1, 0, hu.shape[0] - 1]])[0],
        grid.spacing_mm,
        hu.shape,
        np.diag([-1.0, 1.0, -1.0]),
    )
    again = find_seeds(Case(hu[::-1, :, ::-1].copy(), flipped), Capsule())
    assert again.positions_mm == pytest.approx(found.positions_mm, abs=0.02)
    angle = 0.3
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1.0, 0], [-np.sin(angle), 0, np.cos(angle)]])
    tilted = find_seeds(Case(hu, Grid(turn @ grid.origin_mm, grid.spacing_mm, hu.shape, turn)), Capsule())
    expected = found.positions_mm @ turn.T
    nearest = np.linalg.norm(tilted.positions_mm[:, None] - expected[None], axis=-1)
    assert nearest.min(axis=1) == pytest.approx(np.zeros(12), abs=1e-6)
    k = nearest.argmin(axis=1)
    assert np.abs((tilted.axes * (found.axes @ turn.T)[k]).sum(axis=1)) == pytest.approx(1.0)


def test_region_keeps_what_lies_within(twelve: tuple[Scene, np.ndarray, Findings]) -> None:
    scene, hu, found = twelve
    middle = float(np.median(found.positions_mm[:, 2]))
    z = scene.grid.origin_mm[2] + np.arange(hu.shape[0]) * scene.grid.spacing_mm[2]
    region = np.zeros(hu.shape, dtype=bool)
    region[z > middle - 15] = True
    part = find_seeds(Case(hu, scene.grid), Capsule(), region)
    inside = found.positions_mm[found.positions_mm[:, 2] > middle - 10]
    assert len(inside) >= 3
    nearest = np.linalg.norm(part.positions_mm[:, None] - inside[None], axis=-1).min(axis=0)
    assert (nearest < 0.3).all()
    assert (part.positions_mm[:, 2] > middle - 20).all()


def test_nothing_to_see() -> None:
    scene, hu = synthetic.scan(SCANNERS["2.5 mm"], 0, 4, objects=True)
    with pytest.raises(BrachyError, match="no seeds seen on this CT"):
        find_seeds(Case(hu, scene.grid), Capsule())


def test_far_more_than_implanted(twelve: tuple[Scene, np.ndarray, Findings]) -> None:
    scene, hu, _found = twelve
    with pytest.raises(BrachyError, match="12 objects look like seeds, 0 were implanted"):
        find_seeds(Case(hu, scene.grid), Capsule(), count=0)


def test_too_coarse(twelve: tuple[Scene, np.ndarray, Findings]) -> None:
    _scene, hu, _found = twelve
    with pytest.raises(BrachyError, match="too coarse to see seeds"):
        find_seeds(Case(hu, Grid((0, 0, 0), (3, 3, 3), hu.shape)), Capsule())


def test_regions_that_cannot_be(twelve: tuple[Scene, np.ndarray, Findings]) -> None:
    scene, hu, _found = twelve
    case = Case(hu, scene.grid)
    with pytest.raises(UsageError, match="lies outside the CT"):
        find_seeds(case, Capsule(), np.zeros(hu.shape, dtype=bool))
    with pytest.raises(UsageError, match="must be the same"):
        find_seeds(case, Capsule(), np.ones((2, 2, 2), dtype=bool))


def test_no_capsule() -> None:
    with pytest.raises(UsageError, match="is no seed"):
        Capsule(45.0, 0.8)
