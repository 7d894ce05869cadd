"""A patient of water on a couch, lying in any way, and what a needle meets on a CT, looked up voxel by voxel."""

from dataclasses import replace

import numpy as np

from brachy.geometry.grid import Grid
from brachy.patient.case import Case, Identity
from tests.needle_cases import ellipsoid

DOWN = {"S": (0, 1), "P": (0, -1), "DR": (-1, 0), "DL": (1, 0)}
"""x, y of straight down: on the back is toward +y, on the right side toward -x (DICOM PS3.3 C.7.3.1.1.2)."""

GAP_MM = 4.0
"""From the patient's lowest point to the couch."""

HALF = np.array([95.0, 95.0, 100.0])
"""Half axes of the patient, an ellipsoid of water."""


def lying(position, *, couch=True, identity=None, air_mm=40.0):
    """Water in air with a target in its middle; the couch is a slab of 12 mm on the side that is down."""
    spacing = np.array([2.5, 2.5, 4.0])
    counts = np.ceil(2 * (HALF + [air_mm, air_mm, 8.0]) / spacing).astype(int)
    grid = Grid(-0.5 * (counts - 1) * spacing, spacing, counts[::-1].tolist())
    places = grid.centres_mm().reshape(*grid.shape, 3)
    hu = np.full(grid.shape, -1000, dtype=np.int16)
    if couch:
        height = places[..., :2] @ np.array(
            DOWN[couch if isinstance(couch, str) else position[2:]], dtype=float
        )
        hu[(height > HALF[0] + GAP_MM) & (height < HALF[0] + GAP_MM + 12.0)] = -150
    hu[((places / HALF) ** 2).sum(axis=-1) <= 1.0] = 0
    body = ellipsoid("Body", (0, 0, 0), HALF, "external", slices=4.0, points=90)
    target = ellipsoid("GTV", (0, 0, 0), (16, 16, 16), "target", slices=2.0)
    who = identity or Identity(patient_position=position)
    return Case(hu, grid, (body, target), who)


def positioned(case, position):
    """The case with another patient position."""
    return replace(case, identity=replace(case.identity, patient_position=position))


def dense_outside(case, external, points):
    """Which points (n, 3) lie in voxels above -300 HU, and 3 mm or more outside the external."""
    index = np.rint(case.grid.mm_to_index(points)).astype(int)
    inside = ((index >= 0) & (index < np.array(case.grid.shape[::-1]))).all(axis=1)
    found = np.zeros(len(points), dtype=bool)
    x, y, z = index[inside].T
    found[inside] = np.asarray(case.ct_hu)[z, y, x] > -300
    return found & (external.signed_distance_mm(points, 10.0) >= 3.0)


def line_of(needle, behind_mm):
    """Points every 0.5 mm from the tip of a planned needle to so far behind its hole."""
    tip, hole = np.array(needle.tip_mm), np.array(needle.hole_mm)
    length = np.linalg.norm(tip - hole) + behind_mm
    return tip + np.append(np.arange(0.0, length, 0.5), length)[:, None] * (hole - tip) / np.linalg.norm(
        tip - hole
    )
