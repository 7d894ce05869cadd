"""What a printed template stands on: a wall round its edge, or three feet, whose ends follow the patient's skin.

Coordinates are local to the template: mm along its columns, along its rows, and outward from its plane. The ends are
cut along the template's axis, so that a template for needles along that axis comes off the patient without an undercut.
"""

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.needles.template import TemplateLayout

Float = NDArray[np.float64]
Solid = Any
"""A solid of the modeller, `manifold3d.Manifold`, which has no type hints."""

FACES = ("skin", "feet", "plate")
"""A wall that fits the skin, three feet that do, or the plate alone."""

OFFSET_MM = 0.5
"""The face stays off the skin by this (engineering choice)."""

INSET_MM = 0.5
WALL_MM = 6.0
FOOT_MM = 7.0
"""Distance of the wall from the plate's edge, its thickness, radius of a foot (engineering choice)."""

LATTICE_MM = 1.0
"""Distance of the lines on which the skin is found (engineering choice)."""

LONGEST_MM = 80.0
"""A wall or foot is not longer than this: where the skin falls away further it ends on nothing (engineering choice)."""

BEYOND_MM = 2.37
"""The skin is found so far beyond the plate: not a whole number, so that no point of the lattice lies on the wall."""

FOOT_SEGMENTS = 32


class NothingToStandOnError(BrachyError):
    """No skin lies where a template was to stand."""


class SkinField:
    """Height of the skin over a lattice in the template's plane.

    Parameters
    ----------
    external : Structure
        Outline of the patient.
    layout : TemplateLayout
        Lattice of holes; heights are outward from its plane, so that the skin lies at negative ones.
    low, high : (2,) arrays
        Corners of the part of the plane, mm along columns and rows.
    """

    def __init__(self, external: Structure, layout: TemplateLayout, low: Float, high: Float) -> None:
        self.x, self.y = (
            np.linspace(a, b, max(2, int(np.ceil((b - a) / LATTICE_MM)) + 1))
            for a, b in zip(low, high, strict=True)
        )
        flat = np.stack(np.meshgrid(self.x, self.y, indexing="ij"), axis=-1).reshape(-1, 2)
        points = layout.origin_mm + flat @ np.array([layout.column, layout.row])
        pieces = external.intervals_on_lines(points, layout.direction)
        depths = np.array([_first_ahead(piece) for piece in pieces]).reshape(len(self.x), len(self.y))
        self.height = -_without_stairs(depths, self.y, external, layout)

    def under(self, x: float, y: float, radius: float) -> bool:
        """Whether the skin lies under a whole disc."""
        near = (self.x[:, None] - x) ** 2 + (self.y[None, :] - y) ** 2 <= radius**2
        return bool(near.any() and (self.height[near] > -LONGEST_MM).all())

    def block(self, top: float) -> Solid:
        """Everything between a height and `OFFSET_MM` outside the skin; nothing where no skin is met."""
        modeller = import_module("manifold3d")
        height = np.nan_to_num(self.height, nan=-np.inf) + OFFSET_MM
        bottom = np.where(height < -LONGEST_MM, top - 0.05, np.minimum(height, top - 0.05))
        nx, ny = bottom.shape
        x, y = np.broadcast_to(self.x[:, None], (nx, ny)), np.broadcast_to(self.y[None, :], (nx, ny))
        lower = np.stack([x, y, bottom], axis=-1).reshape(-1, 3)
        upper = np.stack([x, y, np.full((nx, ny), top)], axis=-1).reshape(-1, 3)
        index = np.arange(nx * ny).reshape(nx, ny)
        a, b, c, d = (
            part.ravel() for part in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:])
        )
        down = np.concatenate([np.column_stack([a, c, b]), np.column_stack([a, d, c])])
        up = down[:, ::-1] + nx * ny
        edge = np.concatenate([index[:, 0], index[-1, 1:], index[-2::-1, -1], index[0, -2:0:-1]])
        after = np.roll(edge, -1)
        sides = np.concatenate(
            [
                np.column_stack([edge, after, after + nx * ny]),
                np.column_stack([edge, after + nx * ny, edge + nx * ny]),
            ]
        )
        vertices = np.concatenate([lower, upper]).astype(np.float32)
        triangles = np.concatenate([down, up, sides]).astype(np.uint32)
        return modeller.Manifold(modeller.Mesh(vert_properties=vertices, tri_verts=triangles))


def _first_ahead(piece: Float) -> float:
    """Depth at which a line first enters the patient ahead of the template; NaN where it does not."""
    ahead = piece[(piece[:, 1] > 0.0)]
    return float(max(ahead[0, 0], 0.0)) if len(ahead) else np.nan


def _without_stairs(depths: Float, rows: Float, external: Structure, layout: TemplateLayout) -> Float:
    """Depths averaged along the rows over the width of a contour's slab.

    The outline is a stack of slabs, and a surface that falls from slab to slab has stairs; the mean over one slab is
    the slope through the middles of the steps.
    """
    lean = abs(float(layout.row @ external.normal))
    width = external.slab_stack.spacing / max(lean, 0.3)
    count = 2 * round(0.5 * width / float(rows[1] - rows[0])) + 1
    known = np.isfinite(depths)
    if count < 3 or not known.any():
        return depths
    total = ndimage.uniform_filter1d(np.where(known, depths, 0.0), count, axis=1, mode="nearest")
    share = ndimage.uniform_filter1d(known.astype(np.float64), count, axis=1, mode="nearest")
    found: Float = np.where(known, total / np.maximum(share, 1e-9), np.nan)
    return found


def standing(
    face: str, external: Structure, layout: TemplateLayout, low: Float, high: Float, top: float, outline: Any
) -> Solid:
    """Wall or feet from a height within the plate to the skin.

    Parameters
    ----------
    face : {"skin", "feet"}
        What the template stands on.
    external : Structure
        Outline of the patient.
    layout : TemplateLayout
        Lattice of holes.
    low, high : (2,) arrays
        Corners of the plate.
    top : float
        Height, within the plate, from which it reaches down.
    outline : CrossSection
        Edge of the plate.

    Raises
    ------
    NothingToStandOnError
        If no skin lies under the edge, or not under three feet.
    """
    modeller = import_module("manifold3d")
    field = SkinField(external, layout, low - BEYOND_MM, high + BEYOND_MM)  # no two faces in one plane
    deep = top + LONGEST_MM + 1.0
    if face == "feet":
        section = modeller.CrossSection()
        for x, y in feet_places(field, low, high):
            section = section + modeller.CrossSection.circle(FOOT_MM, FOOT_SEGMENTS).translate((x, y))
    else:
        if not np.isfinite(field.height).any():
            raise NothingToStandOnError("no skin lies under the template: the plate alone was written")
        outer, inner = (
            outline.offset(-inset, modeller.JoinType.Round, 2.0, FOOT_SEGMENTS)
            for inset in (INSET_MM, INSET_MM + WALL_MM)
        )
        section = outer - inner
    return section.extrude(deep).translate((0.0, 0.0, top - deep)) ^ field.block(top)


def feet_places(field: SkinField, low: Float, high: Float) -> list[tuple[float, float]]:
    """Middles of three feet: in two corners and the middle of the opposite edge, where skin lies under all of them.

    Raises
    ------
    NothingToStandOnError
        If it lies under no such three.
    """
    edge = FOOT_MM + 1.5  # within the round corners
    left, right = float(low[0]) + edge, float(high[0]) - edge
    lower, upper = float(low[1]) + edge, float(high[1]) - edge
    across, along = 0.5 * (left + right), 0.5 * (lower + upper)
    for three in (
        [(left, lower), (right, lower), (across, upper)],
        [(left, upper), (right, upper), (across, lower)],
        [(left, lower), (left, upper), (right, along)],
        [(right, lower), (right, upper), (left, along)],
    ):
        if all(field.under(x, y, FOOT_MM) for x, y in three):
            return three
    raise NothingToStandOnError(
        "skin does not lie under three feet: the plate alone was written; --guide face=skin gives a fitted wall"
    )
