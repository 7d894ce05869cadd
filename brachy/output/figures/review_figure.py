"""Picture of a doubtful seed: three cuts of the CT through it, with the seeds that were found drawn as lines."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brachy.patient.case import Case
from brachy.patient.palette import REVIEW_PLACE, REVIEW_SEED
from brachy.postimplant.seed_files import GivenSeeds

Float = NDArray[np.float64]

HALF_MM = 15.0
"""A cut reaches this far to each side."""

STEP_MM = 0.25
WINDOW_HU = (-200.0, 2500.0)
"""From fat to metal, so that a capsule is told from calcium and bone (engineering choice)."""

SEED_MM = 4.5
"""Length of the line of a seed: the capsule of most 125I models."""

NEAR_MM = 3.0
"""A seed is drawn on a cut that passes it this near."""

CUTS = (("axial", 0, 1, 2), ("coronal", 0, 2, 1), ("sagittal", 1, 2, 0))
NAMES = ("L", "P", "H")


def review_figure(case: Case, seeds: GivenSeeds, at_mm: Float, title: str, path: Path) -> None:
    """Write the picture of what lies at a place.

    Parameters
    ----------
    case : Case
        CT after the implant.
    seeds : GivenSeeds
        What was found; drawn in yellow.
    at_mm : (3,) array
        Centre, patient frame (LPS), mm; a red circle.
    title : str
        Shown above.
    path : Path
        PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.ndimage import map_coordinates

    figure = Figure(figsize=(9.6, 3.7), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    at = np.asarray(at_mm, dtype=np.float64)
    offset = np.arange(-HALF_MM, HALF_MM + 1e-9, STEP_MM)
    for column, (name, across, down, through) in enumerate(CUTS):
        axes = figure.add_subplot(1, 3, column + 1)
        points = np.tile(at, (len(offset), len(offset), 1))
        points[..., across] += offset[None, :]
        points[..., down] += offset[:, None]
        index = case.grid.mm_to_index(points.reshape(-1, 3))
        hu = map_coordinates(
            np.asarray(case.ct_hu, dtype=np.float32), index[:, ::-1].T, order=1, mode="constant", cval=-1024.0
        ).reshape(len(offset), len(offset))
        box = (at[across] - HALF_MM, at[across] + HALF_MM, at[down] - HALF_MM, at[down] + HALF_MM)
        axes.imshow(hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], origin="lower", extent=box)
        for centre, axis in zip(seeds.positions_mm, seeds.axes, strict=True):
            if abs(centre[through] - at[through]) > NEAR_MM:
                continue
            if np.isfinite(axis).all():
                ends = centre + 0.5 * SEED_MM * np.outer((-1, 1), axis)
                axes.plot(ends[:, across], ends[:, down], color=REVIEW_SEED, linewidth=1.2)
            axes.plot(centre[across], centre[down], ".", color=REVIEW_SEED, markersize=4)
        axes.plot(at[across], at[down], "o", markersize=22, markerfacecolor="none", color=REVIEW_PLACE)
        axes.set_xlim(box[0], box[1])
        axes.set_ylim((box[3], box[2]) if name == "axial" else (box[2], box[3]))
        axes.set_xlabel(f"{NAMES[across]} mm", fontsize=8)
        axes.set_ylabel(f"{NAMES[down]} mm", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_title(f"{name}, {NAMES[through]} {at[through]:.1f} mm", fontsize=8)
    figure.suptitle(title, fontsize=9, wrap=True)
    figure.savefig(path, metadata={"Software": None})
