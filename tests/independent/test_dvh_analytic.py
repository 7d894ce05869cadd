"""Histograms of shapes in a linear dose and round a point, against closed forms (shared data/analytic_dvh.json).

Two exact answers exist: of the slab stack that the contours say, computed here slab by slab from circles, and of the
true shape. The first tests the sampling, the second the uncertainty that is told for the slices.
"""

import json

import numpy as np
import pytest

from brachy.dosimetry.dvh import dvh, histogram_of
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from tests.dosimetry.test_dose_volume import K, NearestSeed

R, H = 12.0, 24.0
RANGE = 24.0
DX = ("D99", "D95", "D90", "D50", "D10", "D5", "D1", "D0.1cc")

# case of the data file: radius at height z, axis of the gradient (0: x, 2: z)
CASES = {
    "sphere_linear": (lambda z: np.sqrt(R**2 - z**2), 0),
    "cylinder_axial_gradient": (lambda z: R + 0 * z, 2),
    "cylinder_transverse_gradient": (lambda z: R + 0 * z, 0),
    "cone_axial_base_at_4Gy": (lambda z: R * (0.5 - z / H), 2),
    "cone_axial_apex_at_4Gy": (lambda z: R * (0.5 + z / H), 2),
}


def heights(spacing, phase=0.5):
    z = (np.arange(-40, 41) + phase) * spacing
    return z[np.abs(z) < H / 2 - 1e-9]


def stack_of(case, spacing, phase=0.5, n=720):
    """Contours of n corners that enclose the areas of the exact circles."""
    radius, _ = CASES[case]
    angle = 2 * np.pi * np.arange(n) / n
    equal_area = np.sqrt(2 * np.pi / n / np.sin(2 * np.pi / n))
    unit = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(n)]) * equal_area
    contours = [unit * radius(z) + [0, 0, z] for z in heights(spacing, phase)]
    return Structure(case, contours, slice_spacing_mm=spacing)


def ramp(axis, spacing):
    """Dose of 16 Gy at the centre, 1 Gy/mm along an axis."""
    count = int(40 / spacing) + 2
    grid = Grid(np.full(3, -20.0), np.full(3, spacing), (count,) * 3)
    return Dose(grid, 16.0 + grid.centres_mm()[:, axis].reshape(grid.shape))


def exact_of_stack(case, spacing, phase=0.5):
    """Volume in cc, and Dx of the slabs: cumulative volume on a fine table of doses, inverted."""
    radius, axis = CASES[case]
    z = heights(spacing, phase)
    r = radius(z)
    doses = np.linspace(0.0, 32.0, 64001)
    above = np.zeros_like(doses)
    for height, size in zip(z, r, strict=True):
        if axis == 2:
            part = np.clip((16 + height + spacing / 2 - doses) / spacing, 0, 1)
        else:
            u = np.clip((doses - 16) / size, -1, 1)
            part = (np.arccos(u) - u * np.sqrt(1 - u**2)) / np.pi
        above += part * np.pi * size**2 * spacing / 1000
    volume = float((np.pi * r**2 * spacing).sum()) / 1000

    def dose_of(name):
        cc = float(name[1:-2]) if name.endswith("cc") else float(name[1:]) / 100 * volume
        return float(np.interp(-cc, -above, doses))

    return volume, dose_of


def dose_by_name(found, name):
    return found.D_cc(float(name[1:-2])) if name.endswith("cc") else found.D(float(name[1:]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("spacing", "grid"), [(1.0, 3.0), (2.0, 1.0), (3.0, 2.0), (5.0, 1.5)])
def test_the_slab_stack_is_met(case, spacing, grid):
    volume, exact = exact_of_stack(case, spacing)
    found = dvh(ramp(CASES[case][1], grid), stack_of(case, spacing))
    assert found.interpolated
    assert found.volume_cc == pytest.approx(volume, rel=1e-3)
    for name in DX:
        assert dose_by_name(found, name) == pytest.approx(exact(name), abs=0.003 * RANGE), name


@pytest.mark.parametrize("case", CASES)
def test_the_true_shape_is_met_on_slices_of_one_millimetre(case, shared):
    truth = json.loads((shared / "data" / "analytic_dvh.json").read_text())["cases"][case]
    found = dvh(ramp(CASES[case][1], 2.0), stack_of(case, 1.0))
    assert found.volume_cc == pytest.approx(truth["volume_cc"], rel=5e-3)
    assert found.mean_gy == pytest.approx(truth["mean_Gy"], abs=0.005 * RANGE)
    for name in DX:
        assert dose_by_name(found, name) == pytest.approx(truth[f"{name}_Gy"], abs=0.005 * RANGE), name
    for gy in (8, 12, 16, 20, 24):
        assert found.V_pct(gy) == pytest.approx(truth[f"V{gy}Gy_pct"], abs=0.5), gy


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("spacing", "phase"), [(2.0, 0.5), (3.0, 0.25), (5.0, 0.5), (5.0, 0.8)])
def test_the_uncertainty_covers_the_true_shape(case, spacing, phase, shared):
    truth = json.loads((shared / "data" / "analytic_dvh.json").read_text())["cases"][case]
    found = dvh(ramp(CASES[case][1], 2.0), stack_of(case, spacing, phase))
    for name in DX:
        told = found.uncertainty(name).total
        # 0.3 % of the range is what the sampling itself is allowed
        assert abs(dose_by_name(found, name) - truth[f"{name}_Gy"]) <= told + 0.003 * RANGE, name
    told = found.uncertainty("volume_cc").total
    assert abs(found.volume_cc - truth["volume_cc"]) <= told + 1e-3 * truth["volume_cc"]


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (13.31, -7.12, 4.93)])
def test_volumes_round_one_point_follow_the_inverse_square(centre):
    """D = k / r^2 with k = 14 500 Gy mm^2: V(D) = 4/3 pi (k / D)^1.5 (data/analytic_dvh.json)."""
    assert K == 14_500.0
    angle = 2 * np.pi * np.arange(360) / 360
    unit = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    z = np.arange(-17.5, 18, 1.0)
    contours = [unit * np.sqrt(18**2 - h**2) + [0, 0, h] + np.array(centre) for h in z]
    seed = Implant(load_source("amersham_6711"), [centre], strength_U=1.0)
    found = histogram_of(NearestSeed((seed,)), Structure("ball", contours))
    for gy, cc in ((72.5, 11.84769), (145.0, 4.18879), (290.0, 1.48096)):
        assert found.V(gy) == pytest.approx(cc, rel=5e-3)


def test_volumes_round_one_real_seed_follow_its_own_dose():
    """The 1D dose falls with r alone: V(D) is the sphere within which the source's own formula exceeds D."""
    source = load_source("amersham_6711")
    r_mm = np.linspace(1.0, 18.0, 17001)
    gy = source.dose_rate(r_mm / 10.0) * 59.4 * 24 / np.log(2) / 100
    angle = 2 * np.pi * np.arange(360) / 360
    unit = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    contours = [unit * np.sqrt(18**2 - h**2) + [0, 0, h] for h in np.arange(-17.5, 18, 1.0)]
    found = dvh(Implant(source, [[0, 0, 0]], strength_U=1.0), Structure("ball", contours))
    for level in (10.0, 20.0, 60.0):
        radius = np.interp(-level, -gy, r_mm)
        assert found.V(level) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=5e-3)


def test_hot_volumes_beside_seeds_are_the_seeds_own():
    """D0.1cc and D1cc of a ball that holds 12 seeds against a lattice of 0.12 mm round each; within 1.5 %.

    The hottest 1 cc lies within 3.7 mm of the seeds, so no other part of the ball matters.
    """
    source = load_source("amersham_6711")
    seeds = np.array([[x, y, z] for x in (-7.3, 0.2, 7.9) for y in (-4.1, 4.6) for z in (-5.2, 5.3)])
    implant = Implant(source, seeds, strength_U=0.889)
    angle = 2 * np.pi * np.arange(360) / 360
    unit = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    ball = Structure("ball", [unit * np.sqrt(25**2 - h**2) + [0, 0, h] for h in np.arange(-24, 25, 2.0)])
    step = 0.12
    axis = step * np.arange(-31, 32)
    local = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    local = local[(local**2).sum(axis=1) < 3.7**2]  # half the least distance of two seeds is 3.75 mm
    hours = 59.4 * 24 / np.log(2)
    hot = []
    for seed in seeds:
        gy = np.zeros(len(local))
        for other in seeds:
            r = np.maximum(np.linalg.norm(local + seed - other, axis=1) / 10, 0.04)
            gy += 0.889 * hours * source.dose_rate(r) / 100
        hot.append(gy)
    falling = np.sort(np.concatenate(hot))[::-1]
    for organ in (False, True):
        found = dvh(implant, ball, prescription_gy=120.0, organ=organ)
        for cc in (0.1, 1.0):
            exact = falling[round(cc * 1000 / step**3)]
            assert found.D_cc(cc) == pytest.approx(exact, rel=0.015), (organ, cc)
