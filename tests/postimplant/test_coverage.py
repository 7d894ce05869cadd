"""Cold spots, further seed, sectors and intervals: against sums, symmetry and exact recomputation."""

import numpy as np
import pytest

from brachy.dosimetry.dvh import dvh
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import dose_model
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose
from brachy.errors import UsageError
from brachy.geometry.structures import Structure
from brachy.patient.target import Target
from brachy.postimplant.coverage import (
    cold_spots,
    dose_to,
    further_seed,
    places_of,
    sampled,
    sector_names,
    sector_table,
)
from brachy.postimplant.intervals import Errors, intervals, uncertainties

SOURCE = load_source("amersham_6711")


def ball(name="GTV", radius=15.0, centre=(0.0, 0.0, 0.0), role="target"):
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    rings = []
    for z in np.arange(-radius + 0.5, radius, 1.0):
        r = np.sqrt(radius**2 - z**2)
        ring = np.stack([r * np.cos(angle), r * np.sin(angle), 0 * angle + z], axis=1)
        rings.append(np.asarray(centre) + ring)
    return Structure(name, rings, role)


@pytest.fixture(scope="module")
def lopsided():
    """Eight seeds round the middle of a ball, less the one to the left, posterior and superior."""
    corners = 7.0 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return ball(), [Implant(SOURCE, corners[:-1], axes=[0, 0, 1], strength_U=1.6)]


def test_the_cold_volume_is_what_the_dvh_does_not_cover(lopsided):
    target, seeds = lopsided
    found = dvh(seeds, target)
    rx = 0.9 * found.D(80)
    cells = sampled(target, dose_model(seeds))
    cold = cold_spots(cells, Target(target, rx))
    assert cells.cell_cc.sum() == pytest.approx(target.volume_cc, rel=0.002)
    assert cold.volume_cc == pytest.approx(target.volume_cc - found.V(rx), abs=0.01 * target.volume_cc)
    assert cold.spots[0].sector == "left posterior superior"
    assert (np.array(cold.spots[0].centre_mm) > 3).all()
    at = cold.spots[0].min_at_mm
    assert cold.spots[0].min_gy == pytest.approx(float(dose([at], seeds)[0]), rel=1e-6)


def test_nothing_is_cold_below_the_least_dose(lopsided):
    target, seeds = lopsided
    cells = sampled(target, dose_model(seeds))
    nothing = cold_spots(cells, Target(target, 0.5 * cells.dose_gy.min()))
    assert (nothing.volume_cc, nothing.count, nothing.spots) == (0.0, 0, ())
    assert further_seed(cells, Target(target, 0.5 * cells.dose_gy.min()), seeds) is None


def test_no_place_helps_more_than_the_one_named(lopsided):
    """Exact dose of one more seed at each place of a coarse lattice: brute force."""
    target, seeds = lopsided
    rx = 0.9 * dvh(seeds, target).D(80)
    cells = sampled(target, dose_model(seeds))
    named = further_seed(cells, Target(target, rx), seeds)
    assert (np.array(named.position_mm) > 0).all()  # where the eighth was left out
    points, gy, cc = cells.points_mm, cells.dose_gy, cells.cell_cc

    def lifted(place):
        one = Implant(SOURCE, [place], strength_U=1.6)
        return float(cc[(gy < rx) & (gy + dose(points, one, method="exact") >= rx)].sum())

    assert named.lifted_cc == pytest.approx(lifted(named.position_mm), rel=1e-3)
    steps = np.arange(-12.0, 12.1, 4.0)
    places = np.array([[x, y, z] for x in steps for y in steps for z in steps])
    places = places[target.contains(places)]
    away = np.linalg.norm(places[:, None] - seeds[0].positions_mm[None], axis=2).min(axis=1)
    best = max(lifted(place) for place in places[away >= 5.0])
    assert named.lifted_cc >= 0.97 * best
    assert named.V100_pct[1] - named.V100_pct[0] == pytest.approx(100 * named.lifted_cc / cc.sum(), rel=1e-6)


def test_a_further_seed_goes_into_no_vessel(lopsided):
    target, seeds = lopsided
    rx = 0.9 * dvh(seeds, target).D(80)
    cells = sampled(target, dose_model(seeds))
    free = further_seed(cells, Target(target, rx), seeds)
    vessel = ball("Vein", 4.0, free.position_mm, "vessel")
    kept = further_seed(cells, Target(target, rx), seeds, [vessel])
    assert not vessel.contains([kept.position_mm])[0]
    assert kept.lifted_cc <= free.lifted_cc


def test_octants_of_a_symmetric_implant_are_alike():
    target = ball()
    corners = 7.0 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    seeds = [Implant(SOURCE, corners, strength_U=1.6)]
    rows = sector_table(sampled(target, dose_model(seeds), most=400_000), Target(target, 100.0))
    assert len({row.sector for row in rows}) == 8
    assert sum(row.volume_cc for row in rows) == pytest.approx(target.volume_cc, rel=0.002)
    # one eighth each, but for the corners of the polygons
    for name, tolerance in (("volume_cc", 0.005), ("D90_gy", 0.005), ("V100_pct", 0.005)):
        values = np.array([getattr(row, name) for row in rows])
        assert np.ptp(values) / values.mean() < tolerance, name


def test_a_prostate_has_twelve_sectors():
    target = ball("Prostata")
    points = [[-5, -5, -12], [5, -5, 0], [-5, 5, 12], [5, 5, 14.9]]
    names, of = sector_names(points, target)
    assert len(set(names)) == 12
    assert [names[k] for k in of] == [
        "right anterior apex", "left anterior midgland", "right posterior base", "left posterior base",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="octants"):
        sector_names(points, target, "dozens")


def test_sector_sums_give_the_whole(lopsided):
    target, seeds = lopsided
    cells = sampled(target, dose_model(seeds))
    rows = sector_table(cells, Target(target, 120.0), "prostate")
    covered = sum(row.volume_cc * row.V100_pct / 100 for row in rows if row.volume_cc)
    assert covered == pytest.approx(float(cells.cell_cc[cells.dose_gy >= 120.0].sum()))
    assert min(row.min_gy for row in rows) == pytest.approx(cells.dose_gy.min())


def test_dose_to_a_share_of_unequal_cells():
    # 1 cc at 30 Gy, 3 cc at 10 Gy: D25 lies half way between the middles of the cells
    assert dose_to(np.array([10.0, 30.0]), np.array([3.0, 1.0]), 100 * 1.5 / 4) == pytest.approx(20.0)
    assert np.isnan(dose_to(np.zeros(0), np.zeros(0), 90))


def test_places():
    target = ball()
    outline = ball("BODY", 60.0, role="external")
    lung = ball("Lung", 8.0, (30, 0, 0), "lung")
    found = places_of(
        np.array([[0, 0, 0], [18.0, 0, 0], [30, 0, 0], [0, 70, 0]]), [target], [target, outline, lung], 5.0
    )
    assert [round(p.outside_mm, 1) for p in found] == pytest.approx([0, 3, 15, 55], abs=0.2)
    assert [p.beyond_margin for p in found] == [False, False, True, True]
    assert [p.organs for p in found] == [{}, {}, {"Lung": "lung"}, {}]
    assert [p.beyond_patient for p in found] == [False, False, False, True]


def test_an_exact_implant_of_exact_strength_has_no_interval(lopsided):
    target, seeds = lopsided
    found = intervals(
        Target(target, 100.0), dose_model(seeds), Errors(np.zeros((7, 3)), np.ones(7), 0.0),
        {"D90_gy": 99.0, "V100_pct": 88.0},
        samples=5,
    )  # fmt: skip
    assert found.of["D90_gy"] == pytest.approx([99.0, 99.0, 0.95])
    assert found.of["V100_pct"] == pytest.approx([88.0, 88.0, 0.95])


def test_the_interval_of_strength_alone_is_that_of_a_normal_factor(lopsided):
    """D90 is proportional to strength: 95 % of it lies within 1.96 SD."""
    target, seeds = lopsided
    percent = uncertainties().strength_pct
    d90 = dvh(seeds, target).D(90)
    found = intervals(
        Target(target, 100.0), dose_model(seeds), Errors(np.zeros((7, 3)), np.ones(7), percent),
        {"D90_gy": d90, "V100_pct": 88.0},
        samples=600,
    )  # fmt: skip
    half = 0.01 * percent * 1.96 * d90
    assert found.of["D90_gy"][:2] == pytest.approx([d90 - half, d90 + half], abs=0.2 * half)


def test_each_further_error_widens_the_interval(lopsided):
    target, seeds = lopsided
    nominal = {"D90_gy": 100.0, "V100_pct": 88.0}
    widths = []
    for spread, presence, contour in ((0.0, 1.0, 0.0), (0.7, 1.0, 0.0), (0.7, 0.4, 0.0), (0.7, 0.4, 2.0)):
        there = np.ones(7)
        there[0] = presence
        errors = Errors(np.full((7, 3), spread), there, 1.3, contour_mm=contour)
        low, high, _ = intervals(Target(target, 100.0), dose_model(seeds), errors, nominal, samples=150).of[
            "D90_gy"
        ]
        widths.append(high - low)
    assert widths == sorted(widths)
    assert widths[-1] > 1.5 * widths[0]
