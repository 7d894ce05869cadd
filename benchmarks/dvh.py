"""Histograms and rasterisation: absolute times and ratios to peers in the same run.

`python -m benchmarks.dvh` prints them; `benchmarks/run.py` writes them to docs/performance.md. Seeded, warm, one core,
medians of interleaved rounds; compile time is apart. scikit-image is an optional peer of the rasterisation;
matplotlib's point-in-polygon stands in where it is not installed.
"""

from collections.abc import Callable

import numba
import numpy as np

from benchmarks.measure import interleaved, processor, table
from brachy.core.raster import add_coverage
from brachy.dosimetry.dvh import dvh, regions_of, voxel_curves
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.model import dose_model
from brachy.dosimetry.source import load_source
from brachy.evaluation.goals import evaluate
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.io.phantom.file import load_phantom
from brachy.patient.target import Target


def ball(name: str, centre: np.ndarray, radius: float) -> Structure:
    angle = 2 * np.pi * np.arange(90) / 90
    unit = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    heights = np.arange(-60, 60) + 0.5
    contours = [unit * np.sqrt(radius**2 - z**2) + [0, 0, z] + centre for z in heights if abs(z) < radius]
    return Structure(name, contours, slice_spacing_mm=1.0)


def many_structures(rounds: int) -> dict[str, float]:
    """DVH of 8 structures on 2.56 M voxels: one pass over regions, and numpy's mask and histogram each."""
    rng = np.random.default_rng(1)
    grid = Grid((-79.5, -79.5, -49.5), (1, 1, 1), (100, 160, 160))
    shapes = [
        ball(f"s{i}", rng.uniform([-40, -40, -20], [40, 40, 20]), rng.uniform(10, 28)) for i in range(8)
    ]
    away = np.linalg.norm(grid.centres_mm(), axis=1).reshape(grid.shape)
    gy = (300 * np.exp(-((away / 40) ** 2))).astype(np.float32)
    regions = regions_of(shapes, grid)
    masks = [shape.fraction_mask(grid) >= 0.5 for shape in shapes]
    return interleaved(
        {
            "numpy mask + histogram": lambda: [
                np.histogram(gy[mask], bins=4096, range=(0, 320))[0] for mask in masks
            ],
            "one pass": lambda: voxel_curves(gy, regions, 320.0),
        },
        rounds,
    )


def rasterisation(rounds: int) -> dict[str, float]:
    """Contour of 200 points on 512 x 512: exact area fractions, and the peer's pixels."""
    angle = 2 * np.pi * np.arange(200) / 200
    radius = 180 * (1 + 0.2 * np.sin(3 * angle) + 0.1 * np.cos(7 * angle))
    points = np.column_stack([256 + radius * np.cos(angle), 256 + radius * np.sin(angle)])
    edges = np.hstack([points, np.roll(points, -1, axis=0)])
    out = np.zeros((512, 512), dtype=np.float32)
    none, cells = np.empty((0, 0)), np.eye(2, 3)
    jobs: dict[str, Callable[[], object]] = {
        "area fractions": lambda: add_coverage(edges, cells, 1.0, out, none, none)
    }
    try:
        from skimage.draw import polygon
    except ImportError:
        from matplotlib.path import Path as Polygon

        y, x = np.mgrid[:512, :512] + 0.5
        at = np.column_stack([x.ravel(), y.ravel()])
        jobs["matplotlib Path"] = lambda: Polygon(points).contains_points(at)
    else:
        jobs["skimage.draw.polygon"] = lambda: polygon(points[:, 1], points[:, 0], (512, 512))
    return interleaved(jobs, rounds)


def liver_plan(rounds: int) -> dict[str, float]:
    """Evaluation of 80 seeds in the liver phantom, all structures and the outline, and the target's DVH alone."""
    case = load_phantom("liver-metastasis")
    target = next(s for s in case.structures if s.role == "target" or "GTV" in s.interpreted_type)
    external = next((s for s in case.structures if s.interpreted_type == "EXTERNAL"), None)
    rng = np.random.default_rng(2)
    low, high = target.bounds_mm
    places = rng.uniform(low, high, (4000, 3))
    places = places[target.signed_distance_mm(places) < -3.0][:80]
    implant = Implant(load_source("amersham_6711"), places, axes=[0, 1, 0], strength_U=0.889)
    targets = [Target(target, 120.0)]
    return interleaved(
        {
            f"target alone ({target.volume_cc:.0f} cc)": lambda: dvh(implant, target, prescription_gy=120.0),
            f"evaluate {len(case.structures)} structures": lambda: evaluate(
                dose_model(implant), case.structures, targets, external=external
            ),
        },
        rounds,
    )


PARTS = {
    "DVH of 8 structures, 2.56 M voxels": many_structures,
    "Contour of 200 points on 512 x 512": rasterisation,
    "Liver phantom, 80 seeds": liver_plan,
}


def tables(rounds: int = 9) -> tuple[str, dict[str, dict[str, float]]]:
    """All of them as Markdown, and the seconds of each."""
    numba.set_num_threads(1)
    text, numbers = "", {}
    for title, job in PARTS.items():
        numbers[title] = job(rounds)
        slowest = max(numbers[title].values())
        rows = [[name, f"{1e3 * v:.3f}", f"{slowest / v:.1f}"] for name, v in numbers[title].items()]
        text += f"{title}:\n\n" + table(["what", "ms", "times as fast as the slowest"], rows) + "\n"
    return text, numbers


if __name__ == "__main__":
    print(processor())
    print(tables()[0])
