"""Things outside the patient that the CT shows: couch, cushions, arm rests, arms beyond the outline.

They are one structure with the role `device`: needles keep clear of it, and so does what stands behind the template.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.geometry.grid import Grid
from brachy.geometry.structures import RoleBasis, Structure
from brachy.patient.case import Case
from brachy.patient.protocol import Protocol

Bool = NDArray[np.bool_]
Counts = NDArray[np.uint8]

OUTSIDE_NAME = "Couch and other things (from CT)"

COARSE_MM = 2.5
"""Largest block of voxels on which things are looked for (engineering choice)."""

NEAR_MM = 3.0
"""Within this distance of the external nothing is a thing of its own: the outline may be drawn inside the true skin
(engineering choice). A thing that is found farther out reaches this far back to the patient."""

LEAST_SHARE = 0.75
"""A block in which any voxel belongs to a thing is filled by this much at least, so that a shell thinner than a block
has contours (engineering choice)."""

BESIDE = 0.3
"""Share that a block beside one of a thing has: contours run through the faces between them to a fifth of a block, on
the safe side, and blocks that touch at an edge are joined (engineering choice)."""

BESIDES = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
LEAST_AIR = 0.1
"""Part of what lies outside the patient on the CT that is air, at least; with less a thing cannot be told from it
(engineering choice)."""

ALL_ROUND = np.ones((3, 3, 3), dtype=bool)


class NoAirError(Exception):
    """A CT on which no air is round the patient: its values are not HU, or it is a stand-in."""


class Blocks(NamedTuple):
    """Blocks of voxels, [z, y, x]: how many voxels of each are dense, out of how many, and the grid of the blocks."""

    dense: Counts
    voxels: int
    grid: Grid


def with_things_outside(case: Case, protocol: Protocol) -> Case:
    """The case with a structure of what the CT shows outside the patient, and a sentence on it under `assumed`.

    Parameters
    ----------
    case : Case
        Every structure with its role, one of them the external.
    protocol : Protocol
        `access.outside_hu` and `access.outside_cc`.

    Returns
    -------
    Case
        The same where the CT shows nothing, or what it shows has ROIs of the role `device`.

    Examples
    --------
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.anatomy import prepare
    >>> from brachy.patient.protocol import load_protocol
    >>> found = prepare(load_phantom("liver-metastasis"), load_protocol("liver-metastasis"))
    >>> found.with_role("device")[0].bounds_mm[:, 1].round().tolist()  # a couch behind the patient
    [132.0, 138.0]
    """
    if any(s.name == OUTSIDE_NAME for s in case.structures):
        return case
    (external,) = case.with_role("external")
    rule = protocol.access
    try:
        things = things_outside(case, external, protocol)
    except NoAirError:
        return case.assuming(
            [
                f"the CT shows no air round '{external.name}' (little below {rule.outside_hu:g} HU): couch and "
                "other things outside the patient are not looked for"
            ]
        )
    if things is None:
        return case
    return case.having(things).assuming(
        [
            f"the CT shows things outside the patient ('{OUTSIDE_NAME}', pieces over {rule.outside_cc:g} cc above "
            f"{rule.outside_hu:g} HU): needles, and what of them stands behind the template, keep clear of them"
        ]
    )


def things_outside(case: Case, external: Structure, protocol: Protocol) -> Structure | None:
    """What the CT shows outside the external and outside all ROIs of the role `device`; None where there is nothing.

    Notes
    -----
    Voxels above `access.outside_hu` are counted in blocks of at most `COARSE_MM`. Blocks with such voxels that lie
    farther than `NEAR_MM` from the external form pieces; the volume of a piece is that of its dense voxels, and it is
    kept from `access.outside_cc` on.

    Raises
    ------
    NoAirError
        If hardly anything outside the patient is air.
    """
    rule = protocol.access
    blocks = dense_blocks(case.ct_hu, case.grid, rule.outside_hu)
    body = external.fraction_mask(blocks.grid) >= 0.5
    full = np.count_nonzero((blocks.dense == blocks.voxels) & ~body)
    if full > (1.0 - LEAST_AIR) * np.count_nonzero(~body):
        raise NoAirError
    reach = np.maximum(np.ceil(NEAR_MM / blocks.grid.spacing_mm[::-1] - 1e-6), 1).astype(int)
    taken = np.zeros_like(body)
    for device in case.with_role("device"):
        if not device.is_empty:
            taken |= device.fraction_mask(blocks.grid) > 0.0
    solid = (blocks.dense > 0) & ~body & ~_grown(taken, reach)
    pieces, count = ndimage.label(solid & ~_grown(body, reach), ALL_ROUND)
    if not count:
        return None
    voxels = np.bincount(pieces.ravel(), blocks.dense.ravel(), count + 1)
    large = voxels * case.grid.voxel_cc > rule.outside_cc
    large[0] = False
    if not large.any():
        return None
    kept = solid & _grown(large[pieces], reach)
    share = np.maximum(blocks.dense / np.float32(blocks.voxels), np.float32(LEAST_SHARE))
    level = np.where(kept, share, np.float32(BESIDE) * ndimage.binary_dilation(kept, BESIDES))
    made = Structure.from_mask(OUTSIDE_NAME, level, blocks.grid, "device", "DEVICE")
    why = f"found on the CT above {rule.outside_hu:g} HU outside the patient"
    object.__setattr__(made, "basis", RoleBasis("ct", why))
    return made


def dense_blocks(ct_hu: NDArray[np.generic], grid: Grid, above_hu: float) -> Blocks:
    """Voxels above a CT number, counted in blocks of at most `COARSE_MM`, at least one voxel, along each axis.

    Examples
    --------
    >>> ct = np.full((1, 4, 5), -1000.0)
    >>> ct[0, 0, :3] = 0.0
    >>> found = dense_blocks(ct, Grid((0, 0, 0), (1, 1, 2), ct.shape), -300.0)
    >>> found.dense.tolist(), found.voxels, found.grid.origin_mm.tolist(), found.grid.spacing_mm.tolist()
    ([[[2, 1, 0], [0, 0, 0]]], 4, [0.5, 0.5, 0.0], [2.0, 2.0, 2.0])
    """
    ct = np.asarray(ct_hu)
    step = np.clip(np.floor(COARSE_MM / grid.spacing_mm + 1e-6), 1, 6).astype(int)
    shape = tuple(-(-n // s) for n, s in zip(ct.shape, step[::-1].tolist(), strict=True))
    dense = np.zeros(shape, dtype=np.uint8)
    for k in range(step[2]):
        for j in range(step[1]):
            for i in range(step[0]):
                part = ct[k :: step[2], j :: step[1], i :: step[0]] > above_hu
                dense[: part.shape[0], : part.shape[1], : part.shape[2]] += part
    made = Grid(grid.index_to_mm((step - 1) / 2), grid.spacing_mm * step, shape, grid.direction)
    return Blocks(dense, int(np.prod(step)), made)


def _grown(mask: Bool, reach: NDArray[np.int64]) -> Bool:
    """A mask dilated by boxes of so many blocks along z, y, x."""
    grown = mask
    for axis, blocks in enumerate(reach.tolist()):
        before, grown = np.moveaxis(grown, axis, 0), grown.copy()
        after = np.moveaxis(grown, axis, 0)
        for k in range(1, min(blocks, len(before) - 1) + 1):
            after[k:] |= before[:-k]
            after[:-k] |= before[k:]
    return grown
