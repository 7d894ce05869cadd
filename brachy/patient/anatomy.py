"""Prepares a case for planning: assigns roles to structures, and takes bone and skin from the CT if no ROI has the
role.

What is inferred is added to the case's `assumed`.
"""

import copy
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brachy.errors import BrachyError
from brachy.geometry.field_of_view import unseen
from brachy.geometry.grid import Grid
from brachy.geometry.structures import RoleBasis, Structure
from brachy.patient.case import Case
from brachy.patient.outside import with_things_outside
from brachy.patient.protocol import Protocol
from brachy.patient.roles import check_overrides, guess_role

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

BONE_NAME = "Bone (from CT)"
EXTERNAL_NAME = "External (from CT)"

LARGEST_HOLE_MM2 = 600.0
"""Holes in bone on a slice are filled up to this area: marrow and the spinal canal, but not the inside of a ring of
ribs (engineering choice)."""

COARSE_MM = 2.5
"""Voxel size on which the patient is separated from couch and clothing (engineering choice)."""

NECK_MM = 7.5
"""Objects thinner than twice this, or connected to the patient by less, are not part of the patient: couch, tubes,
cloth (engineering choice)."""

EDGE_HU = 400.0
"""Voxels whose CT number differs from a threshold by this much are entirely inside or outside; between them a contour
runs where the interpolated CT number equals the threshold (engineering choice)."""

SOFT_TISSUE_HU = 50.0
"""A voxel beside bone with a CT number nearer to the threshold than to this is half bone (engineering choice)."""

SLAB_MM = 10.0
"""Bone outside all ROIs is reported if it is this close to the axial range of the needles (engineering choice)."""

LEAST_AIR = 0.005
"""Part of the CT that is air round the patient, at least; with less the skin is not on the CT (engineering choice)."""

MOST_BONE = 0.5
"""Part of the patient near the target that can be bone, at most (engineering choice: the skeleton is about 15 % of the
body's mass, ICRP 89)."""

CUT_VOXELS = 3
"""With fewer voxels at the border of a slice the body touches it and is not cut (engineering choice)."""

MOST_AIR = 0.9
"""Part of the rim of a field of view that may be air of one value where it cuts the body (engineering choice)."""

IN_PLANE = np.zeros((3, 3, 3), dtype=bool)
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)
ALL_ROUND = np.ones((3, 3, 3), dtype=bool)


def prepare(
    case: Case, protocol: Protocol, target: str | Sequence[str] | None = None, *, outside: bool = True
) -> Case:
    """Assign a role to every structure, and add bone and skin from the CT if no ROI has the role, and things outside.

    Parameters
    ----------
    case : Case
        CT and structures.
    protocol : Protocol
        Its table `[roles]` has precedence; `[bone]` and `[skin]` contain the thresholds. Bone is searched within
        `needle.max_needle_mm` of the targets' bounding box along each axis, because no needle can reach farther.
    target : str or sequence of str, optional
        ROIs that are the only targets. By default those whose role, type or name is that of a target.
    outside : bool
        Look for couch and other things outside the patient; False where no needle is to be planned.

    Returns
    -------
    Case
        The same CT; every structure has a role, and one of them is the external. `assumed` has a sentence for each
        inference: roles from names (one sentence), skin, a choice among several externals, things outside the patient
        (`brachy.patient.outside`), bone, and bone on the CT outside all ROIs.

    Raises
    ------
    UsageError
        If `target` names no ROI of the case, or the protocol an unknown role.
    BrachyError
        If no ROI is the external and the CT shows no patient.

    Notes
    -----
    Bone: voxels at or above `[bone].threshold_hu` inside the external and outside targets and structures with the role
    liver (contrast, lipiodol and metal look like bone). Voxels with at most one voxel between them form one piece; its
    volume includes the voxels around it, which are bone in part, and it is kept from `smallest_cc` on. A piece within
    one voxel of a target or the liver belongs to it and is left out. Voxels around a kept piece that are half bone, and
    small holes in it, are added, because ribs are thin compared with a voxel of 3 mm.

    Skin: voxels above `[skin].threshold_hu`; of these the largest piece that is connected by more than `NECK_MM`; lungs
    and gas are filled slice by slice. A couch in contact adds a bump of at most its own thickness where it touches.

    Examples
    --------
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import load_protocol
    >>> case = prepare(load_phantom("sphere-35mm"), load_protocol("liver-metastasis"))
    >>> [s.role for s in case.structures]
    ['external', 'target']
    """
    targets = [target] if isinstance(target, str) else target
    case = _with_roles(case, protocol, targets)
    case = _with_one_external(case, protocol)
    if outside:
        case = with_things_outside(case, protocol)
    return _with_bone(case, protocol)


def _with_roles(case: Case, protocol: Protocol, targets: Sequence[str] | None) -> Case:
    """The case with a role for every structure."""
    chosen = None if targets is None else {case.structure(name).name for name in targets}
    names = [s.name for s in case.structures]
    unused = check_overrides(protocol.roles, names)
    notes = [f"protocol '{protocol.name}' gives '{name}' a role, but no ROI has that name" for name in unused]
    notes += [
        f"'{name}' is to stop no needle, but no ROI has that name"
        for name in check_overrides(dict.fromkeys(protocol.obstacles.free, ""), [*names, BONE_NAME])
    ]
    structures = [_with_role(structure, protocol, chosen) for structure in case.structures]
    new = [s for s, before in zip(structures, case.structures, strict=True) if before.basis is None]
    return case.with_structures(structures).assuming([*notes, *_notes_on(new)])


def _with_role(structure: Structure, protocol: Protocol, chosen: Collection[str] | None) -> Structure:
    """The structure with its role, inferred or as given with it; a target only if it is one of the chosen."""
    guess = guess_role(structure.name, structure.interpreted_type, protocol.roles, structure.codes)
    role, basis = guess.role, guess.basis
    if structure.role and guess.source != "protocol":
        # a role from an earlier preparation keeps its reason
        role, basis = structure.role, structure.basis or RoleBasis("given", "given with the structure")
    if chosen is not None and structure.name in chosen:
        role, basis = "target", RoleBasis("given", "named as a target of the plan")
    elif chosen is not None and role == "target":
        role, basis = "other_target", RoleBasis(basis.source, f"{basis.why}; this plan does not treat it")
    return _as(structure, role, basis)


def _notes_on(structures: Sequence[Structure]) -> list[str]:
    """Sentences on roles inferred from names and on structures that were not understood."""
    by_name: dict[str, list[str]] = {}
    for structure in structures:
        if structure.basis is not None and structure.basis.source == "name":
            by_name.setdefault(structure.role, []).append(structure.name)
    notes = []
    if by_name:
        listed = "; ".join(f"{role}: {', '.join(names)}" for role, names in by_name.items())
        notes.append(f"roles taken from the ROIs' names: {listed}")
    unknown = [s.name for s in structures if s.basis is not None and not s.basis.understood]
    if unknown:
        notes.append(
            f"not understood (see the list of structures): {', '.join(unknown)}; such a ROI stops needles unless its "
            "type says that it is no organ, or it holds the target; [roles] in the protocol says what it is"
        )
    return notes


def _as(structure: Structure, role: str, basis: RoleBasis | None = None) -> Structure:
    """The same structure with another role; results already computed from its contours are kept."""
    basis = structure.basis if basis is None else basis
    if structure.role == role and structure.basis == basis:
        return structure
    other = copy.copy(structure)
    object.__setattr__(other, "role", role)
    object.__setattr__(other, "basis", basis)
    return other


def _with_one_external(case: Case, protocol: Protocol) -> Case:
    """The case with exactly one external: the largest, or one made from the CT."""
    outlines = [s for s in case.with_role("external") if not s.is_empty]
    if not outlines:
        outline, body = _external_from_ct(case, protocol)
        notes = (
            f"no ROI is the external: the skin was taken from the CT at {protocol.skin.threshold_hu:g} HU "
            f"('{EXTERNAL_NAME}', {outline.volume_cc:.0f} cc)"
        )
        return case.having(outline).assuming([notes, *_notes_on_cuts(body, case)])
    largest = max(outlines, key=lambda s: s.volume_cc)
    others = [s for s in case.with_role("external") if s is not largest]
    if not others:
        return case
    names = ", ".join(f"'{s.name}'" for s in others)
    smaller = RoleBasis("ct", f"an outline smaller than '{largest.name}'")
    notes = (
        f"of {len(others) + 1} outlines of the patient the largest is used, '{largest.name}', and not {names}"
    )
    return case.having(*(_as(s, "ignore", smaller) for s in others)).assuming([notes])


def external_from_ct(case: Case, protocol: Protocol) -> Structure:
    """Outline of the patient from the CT, as described in `prepare`.

    Raises
    ------
    BrachyError
        If the CT shows no object large enough to be a patient, or no air round it.
    """
    return _external_from_ct(case, protocol)[0]


def _external_from_ct(case: Case, protocol: Protocol) -> tuple[Structure, Bool]:
    """Outline of the patient from the CT, and the voxels [z, y, x] within it."""
    threshold = protocol.skin.threshold_hu
    grid = case.grid
    dense = np.asarray(case.ct_hu) > threshold
    # on a coarse lattice: erode thin parts away, keep the largest piece, dilate it back
    step = np.maximum(1, np.round(COARSE_MM / grid.spacing_mm).astype(int))
    coarse = dense[:: step[2], :: step[1], :: step[0]]
    rounds = max(1, int(np.ceil(NECK_MM / float(np.max(step * grid.spacing_mm)) - 1e-6)))
    core = ndimage.binary_erosion(coarse, iterations=rounds, border_value=1)
    labels, count = ndimage.label(core)
    if count == 0:
        raise BrachyError(
            f"no ROI is the external, and the CT shows no patient above {threshold:g} HU: contour the outline"
        )
    core = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    core = ndimage.binary_dilation(core, iterations=rounds, mask=coarse)
    near = ndimage.binary_dilation(core, ALL_ROUND)
    for axis, times in enumerate(step[::-1].tolist()):
        near = np.repeat(near, times, axis=axis)
    body = dense & near[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    labels, _ = ndimage.label(body)
    body = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    # a cavity that is closed in 3D is closed on each slice too, so filling the slices fills it
    labels, _ = ndimage.label(~body, IN_PLANE)
    open_air = np.zeros(int(labels.max()) + 1, dtype=bool)
    for border in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        open_air[border.ravel()] = True
    open_air[0] = False
    filled = ~open_air[labels]
    if np.count_nonzero(~filled) < LEAST_AIR * filled.size:
        raise BrachyError(
            f"no ROI is the external, and the CT shows no air round the patient (nothing below {threshold:g} HU): "
            "check that its values are HU, or contour the outline"
        )
    outline = _outlined(
        EXTERNAL_NAME, case.ct_hu, filled, filled & ~dense, threshold, grid, "external", "EXTERNAL"
    )
    return outline, filled


def _notes_on_cuts(body: Bool, case: Case) -> list[str]:
    """Sentences on slices on which the body goes on beyond the image or the field of view: its skin is not seen.

    Parameters
    ----------
    body : (nz, ny, nx) bool array
        Voxels of the patient.
    case : Case
        With the CT on the same grid.
    """
    ends = [body[:, :, 0], body[:, :, -1], body[:, 0], body[:, -1]]
    where = {"border of the image": sum((np.count_nonzero(end, axis=1) >= CUT_VOXELS) for end in ends) > 0}
    spacing = case.grid.spacing_mm
    outside = unseen(list(np.asarray(case.ct_hu)), (float(spacing[1]), float(spacing[0])), MOST_AIR)
    if outside is not None:
        rim = ndimage.binary_dilation(outside.pixels, iterations=2) & ~outside.pixels
        where["edge of the field of view"] = np.count_nonzero(body & rim, axis=(1, 2)) >= CUT_VOXELS
    return [
        f"the body is cut by the {edge} on {int(slices.sum())} of {len(slices)} slices: its skin is not seen there, "
        "and the outline from the CT runs along the cut; check where needles enter"
        for edge, slices in where.items()
        if slices.any()
    ]


def _with_bone(case: Case, protocol: Protocol) -> Case:
    """The case with bone from the CT if no ROI is bone, else with a note on bone outside all ROIs."""
    targets = [s for s in case.with_role("target") if not s.is_empty]
    if not targets:
        return case
    reach, rule = protocol.needle.max_needle_mm, protocol.bone
    what = f"{rule.threshold_hu:g} HU or more, pieces of {rule.smallest_cc:g} cc or more"
    near = f"within {reach:g} mm of the target"
    if case.with_role("bone"):
        contoured = [s for s in case.structures if s.role not in ("external", "region", "ignore")]
        along = reach * abs(np.sin(np.radians(protocol.direction.tilt_deg))) + SLAB_MM
        found = _bone(case, protocol, targets, contoured, (reach, reach, float(along)))
        if found is None or found.volume_cc < rule.smallest_cc:
            return case
        notes = (
            f"the CT shows {found.volume_cc:.1f} cc like bone ({what}) that no ROI holds: it blocks no needle"
        )
        return case.assuming([notes])
    found = _bone(case, protocol, targets, [], (reach, reach, reach))
    if found is None:
        return case.assuming([f"no ROI is bone, and the CT shows none {near} ({what})"])
    notes = (
        f"no ROI is bone: it was taken from the CT {near} ({what}, without targets and liver; "
        f"'{BONE_NAME}', {found.volume_cc:.1f} cc)"
    )
    return case.having(found).assuming([notes])


def _bone(
    case: Case,
    protocol: Protocol,
    targets: list[Structure],
    without: list[Structure],
    reach_mm: tuple[float, float, float],
) -> Structure | None:
    """Bone on the CT within reach of the targets' bounding box and outside the structures `without`; None if none."""
    rule = protocol.bone
    box, grid = _around(case.grid, targets, reach_mm)
    ct = np.asarray(case.ct_hu)[box]
    if not (ct >= rule.threshold_hu).any():
        return None
    (external,) = case.with_role("external")
    held = np.zeros(grid.shape, dtype=bool)
    for structure in {id(s): s for s in (*targets, *case.with_role("liver"), *without)}.values():
        if not structure.is_empty:
            held |= structure.fraction_mask(grid) > 0.5
    allowed = ~held & (external.fraction_mask(grid) >= 0.5)
    dense = allowed & (ct >= rule.threshold_hu)
    pieces, count = ndimage.label(ndimage.binary_dilation(dense, ALL_ROUND) & ~held, ALL_ROUND)
    size_cc = np.bincount(pieces.ravel(), minlength=count + 1) * grid.voxel_cc
    beyond = dense & ~ndimage.binary_dilation(held, ALL_ROUND)
    large = (size_cc >= rule.smallest_cc) & (np.bincount(pieces[beyond], minlength=count + 1) > 0)
    large[0] = False
    kept = dense & large[pieces]
    if not kept.any():
        return None
    if np.count_nonzero(kept) > MOST_BONE * np.count_nonzero(allowed):
        raise BrachyError(
            f"{100 * np.count_nonzero(kept) / np.count_nonzero(allowed):.0f} % of the patient near the target has "
            f"{rule.threshold_hu:g} HU or more, like bone: check that the values of the CT are HU"
        )
    half_bone = 0.5 * (rule.threshold_hu + SOFT_TISSUE_HU)
    kept |= ndimage.binary_dilation(kept, ALL_ROUND) & allowed & (ct >= half_bone)
    gaps, _ = ndimage.label(~kept, IN_PLANE)
    small = np.bincount(gaps.ravel()) * grid.spacing_mm[0] * grid.spacing_mm[1] <= LARGEST_HOLE_MM2
    small[0] = False
    holes = small[gaps]
    return _outlined(BONE_NAME, ct, kept | holes, holes, rule.threshold_hu, grid, "bone", "ORGAN")


def _around(
    grid: Grid, structures: list[Structure], margin_mm: tuple[float, float, float]
) -> tuple[Box, Grid]:
    """Part of a grid within margins (x, y, z) of structures' bounding box, and its geometry."""
    low = np.min([s.bounds_mm[0] for s in structures], axis=0) - np.asarray(margin_mm)
    high = np.max([s.bounds_mm[1] for s in structures], axis=0) + np.asarray(margin_mm)
    corners = np.array([[(low, high)[(i >> k) & 1][k] for k in range(3)] for i in range(8)])
    index = grid.mm_to_index(corners)
    last = np.array(grid.shape[::-1]) - 1
    # rounded first, so that a shifted patient gives the same voxels
    first = np.clip(np.floor(np.round(index.min(axis=0), 6)).astype(int), 0, last)
    end = np.clip(np.ceil(np.round(index.max(axis=0), 6)).astype(int), 0, last) + 1
    box = (slice(first[2], end[2]), slice(first[1], end[1]), slice(first[0], end[0]))
    nx, ny, nz = (end - first).tolist()
    return box, Grid(grid.index_to_mm(first), grid.spacing_mm, (nz, ny, nx), grid.direction)


def _outlined(
    name: str,
    ct: NDArray[np.generic],
    inside: Bool,
    filled: Bool,
    threshold_hu: float,
    grid: Grid,
    role: str,
    interpreted_type: str,
) -> Structure:
    """Structure from the voxels `inside`; its contours run where the CT number equals the threshold."""
    level = np.clip(0.5 + (np.asarray(ct, dtype=np.float32) - threshold_hu) / (2.0 * EDGE_HU), 0.0, 1.0)
    level[inside] = np.maximum(level[inside], np.float32(0.5 + 1e-3))
    level[filled] = 1.0
    level[~inside & (level >= 0.5)] = 0.0  # dense, but not part of it: couch, liver, small pieces
    level[~ndimage.binary_dilation(inside, ALL_ROUND)] = 0.0
    made = Structure.from_mask(name, level, grid, role, interpreted_type)
    return _as(made, role, RoleBasis("ct", f"found on the CT at {threshold_hu:g} HU"))
