"""Real contours against matplotlib's point-in-polygon, which shares nothing with the kernels."""

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure


def read(path):
    """Name to contours, straight from the structure set."""
    data = pydicom.dcmread(path)
    names = {int(item.ROINumber): str(item.ROIName) for item in data.StructureSetROISequence}
    found = {}
    for item in data.ROIContourSequence:
        contours = [
            np.array(c.ContourData, dtype=float).reshape(-1, 3) for c in item.get("ContourSequence", [])
        ]
        found[names[int(item.ReferencedROINumber)]] = contours
    return found


def even_odd(contours, points_xy):
    """Parity of the number of contours round each point."""
    inside = np.zeros(len(points_xy), dtype=bool)
    for contour in contours:
        inside ^= Polygon(contour[:, :2]).contains_points(points_xy)
    return inside


@pytest.fixture(scope="module")
def liver(shared):
    return read(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")


@pytest.mark.parametrize("name", ["Ribs", "Liver", "Colon", "Vertebrae", "CostalCartilages"])
def test_inside_agrees_with_point_in_polygon(liver, name):
    contours = liver[name]
    structure = Structure(name, contours)
    heights = np.unique([c[0, 2] for c in contours])
    low, high = np.concatenate(contours).min(axis=0), np.concatenate(contours).max(axis=0)
    rng = np.random.default_rng(7)
    for z in heights[:: max(1, len(heights) // 6)]:
        xy = rng.uniform(low[:2] - 2, high[:2] + 2, (3000, 2))
        expected = even_odd([c for c in contours if c[0, 2] == z], xy)
        found = structure.contains(np.column_stack([xy, np.full(len(xy), z + rng.uniform(-1.4, 1.4))]))
        assert (found != expected).sum() <= 1  # a point within rounding of an edge


@pytest.mark.parametrize("name", ["Ribs", "Liver"])
def test_area_fractions_agree_with_counting(liver, name):
    contours = liver[name]
    plane = sorted({c[0, 2] for c in contours})[len({c[0, 2] for c in contours}) // 2]
    here = [c for c in contours if c[0, 2] == plane]
    points = np.concatenate(here)
    low = points.min(axis=0) - [3.3, 3.3, 0.0]
    shape = (1, *(np.ceil((points.max(axis=0) - low)[1::-1] / 2.0).astype(int) + 2))
    grid = Grid(low, (2.0, 2.0, 1.0), shape)
    fractions = Structure(name, here, slice_spacing_mm=3.0).fraction_mask(grid)[0]
    inner = (np.arange(24) + 0.5) / 24 - 0.5
    x = ((np.arange(shape[2])[:, None] + inner) * 2.0).ravel() + low[0]
    y = ((np.arange(shape[1])[:, None] + inner) * 2.0).ravel() + low[1]
    counted = even_odd(here, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    counted = counted.reshape(shape[1], 24, shape[2], 24).mean(axis=(1, 3))
    np.testing.assert_allclose(fractions, counted, atol=0.03)  # 576 points a cell
    assert fractions.sum() == pytest.approx(counted.sum(), rel=3e-3)


def test_volume_of_the_prostate_is_the_planning_systems(shared):
    contours = read(shared / "data" / "prostate_postimplant_day1" / "dicom" / "SS001.dcm")
    # VariSeed's own volumes: data/prostate_postimplant_day1/truth/truth.json
    volumes = {name[:3]: Structure(name, found).volume_cc for name, found in contours.items()}
    assert volumes["Pro"] == pytest.approx(41.43, rel=5e-3)
    assert volumes["Rec"] == pytest.approx(16.062, rel=5e-3)
    assert volumes["Ur\xe8"] == pytest.approx(0.891, rel=5e-3)


@pytest.mark.parametrize("seed", range(6))
def test_fractions_of_crossing_polygons_agree_with_counting(seed):
    """Two random stars that cross themselves, each other, cell edges and the grid's edge."""
    rng = np.random.default_rng(seed)
    rings = [np.column_stack([rng.uniform(-2, 12, (9, 2)), np.zeros(9)]) for _ in range(2)]
    rings[0][:4] = np.round(rings[0][:4])  # vertices and edges on the lattice itself
    fractions = Structure("stars", rings, slice_spacing_mm=1.0).fraction_mask(
        Grid((0.5, 0.5, 0), (1, 1, 1), (1, 9, 10))
    )[0]
    at = (np.arange(40) + 0.5) / 40
    x, y = np.meshgrid((np.arange(10)[:, None] + at).ravel(), (np.arange(9)[:, None] + at).ravel())
    inside = np.zeros(x.shape, dtype=bool)
    for ring in rings:
        for (x0, y0, _), (x1, y1, _) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 != y1:
                inside ^= ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    counted = inside.reshape(9, 40, 10, 40).mean(axis=(1, 3))
    np.testing.assert_allclose(fractions, counted, atol=0.03)
    assert fractions.sum() == pytest.approx(counted.sum(), abs=0.1)
