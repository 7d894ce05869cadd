"""Lays out a template: where its plate stands before the skin, and its lattice of holes over the target."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy.core.threads import one_thread
from brachy.errors import BrachyError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.needles.channel import RELATIVE_DIGITS
from brachy.needles.needle_path import skin_entries, target_spans
from brachy.needles.template import HEAD, OFF_LATTICE_MM, TemplateLayout, template_axes

Float = NDArray[np.float64]


@one_thread()
def lay_out(
    target: Structure,
    external: Structure,
    direction: ArrayLike,
    *,
    pitch_mm: float,
    standoff_mm: float,
    offset_mm: tuple[float, float] = (0.0, 0.0),
    overshoot_mm: float = 0.0,
) -> TemplateLayout:
    """Place a template before the skin so that its holes cover the target.

    Layer 0 passes through the centroid of the axial section of largest target area, and with no offset one hole's axis
    does. Rows and columns that no needle could use are left out. The plane is the nearest to the skin at which every
    hole whose axis crosses the target, and the half pitch around it, is `standoff_mm` or more outside.

    Parameters
    ----------
    target, external : Structure
        Target, and outline of the patient.
    direction : (3,) array
        From skin to tip.
    pitch_mm : float
        Distance of neighbouring holes, mm.
    standoff_mm : float
        Least distance of the plane from the skin along the needles, mm.
    offset_mm : (2,) of float
        Moves the holes along column and row, mm.
    overshoot_mm : float
        An axis that passes the target within this counts as crossing it, mm.

    Raises
    ------
    BrachyError
        If the target is empty, no axis crosses it, or it does not lie inside the external.

    References
    ----------
    Layers from the target's central plane outward: the study named in plans/liver-metastasis.toml.

    Examples
    --------
    >>> from brachy.needles.template import needle_direction
    >>> square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    >>> tumour = Structure("GTV", [12 * square + [0, 0, z] for z in range(-10, 11, 2)])
    >>> body = Structure("Body", [90 * square + [0, 0, z] for z in range(-90, 91, 2)])
    >>> plate = lay_out(tumour, body, needle_direction(0), pitch_mm=10.0, standoff_mm=20.0)
    >>> plate.columns, plate.rows, float(plate.origin_mm[1].round(3))
    (3, 3, -110.0)
    """
    along = np.asarray(direction, dtype=np.float64)
    along = along / np.linalg.norm(along) + 0.0
    column, row = template_axes(along)
    centre = largest_section_centroid(target)
    shift = np.asarray(offset_mm, dtype=np.float64) + OFF_LATTICE_MM
    low, high = _projection(target, centre, column, row)
    first = np.ceil((low - overshoot_mm - shift) / pitch_mm).astype(int).tolist()
    last = np.floor((high + overshoot_mm - shift) / pitch_mm).astype(int).tolist()

    def axis_mm(i: float, j: float) -> Float:
        """Point of an axis beside the centroid: depths along it count from there."""
        moved: Float = centre + (i * pitch_mm + shift[0]) * column + (j * pitch_mm + shift[1]) * row
        return moved

    tried = [(i, j) for j in range(first[1], last[1] + 1) for i in range(first[0], last[0] + 1)]
    points = np.array([axis_mm(i, j) for i, j in tried]).reshape(-1, 3)
    spans = target_spans(target, points, along, overshoot_mm)
    crossing = {place: span[0] for place, span in zip(tried, spans, strict=True) if span is not None}
    if not crossing:
        raise BrachyError(
            f"no hole's axis crosses target '{target.name}': it is narrower than the pitch of "
            f"{pitch_mm:g} mm; choose a smaller pitch or another offset"
        )
    around = {(float(i), float(j)): depth for (i, j), depth in crossing.items()}
    for (i, j), depth in crossing.items():
        for corner in ((i - 0.5, j - 0.5), (i - 0.5, j + 0.5), (i + 0.5, j - 0.5), (i + 0.5, j + 0.5)):
            around[corner] = min(depth, around.get(corner, np.inf))
    points = np.array([axis_mm(i, j) for i, j in around])
    entries = skin_entries(external, points, along, list(around.values()))
    skin = [entry.depth_mm for entry in entries if entry is not None]
    if not skin:
        raise BrachyError(
            f"target '{target.name}' does not lie inside '{external.name}': "
            "the outline of the patient must hold it"
        )
    plane = np.round(min(skin) - standoff_mm, RELATIVE_DIGITS)
    columns = [i for i, _ in crossing]
    rows = [j for _, j in crossing] + [0]
    return TemplateLayout(
        origin_mm=axis_mm(min(columns), min(rows)) + plane * along,
        direction=along,
        column=column,
        row=row,
        spacing_mm=float(pitch_mm),
        columns=max(columns) - min(columns) + 1,
        rows=max(rows) - min(rows) + 1,
        central_row=1 - min(rows),
        target=target.name,
    )


def largest_section_centroid(target: Structure) -> Float:
    """Centroid (3,) of the axial section of largest area, mm.

    Of sections equally large (to a millionth) the one nearest to the target's centroid is taken, then the lower one.

    Raises
    ------
    BrachyError
        If the target has no contours.
    """
    if target.is_empty:
        raise BrachyError(f"target '{target.name}' has no contours: draw it, or choose another target")
    if abs(target.normal @ HEAD) > np.sqrt(0.5):
        planes = target.planes()
        areas = np.array([plane.area_mm2 for plane in planes])
        centroids = np.array([plane.centroid_mm for plane in planes])
    else:  # drawn on sagittal or coronal planes: cut axially, as finely as it was drawn
        low, high = target.bounds_mm
        step = min(target.slab_stack.spacing, 2.0)
        lattice = Grid.around(low + 0.5 * step, high, step)
        share = target.fraction_mask(lattice).astype(np.float64)
        areas = share.sum(axis=(1, 2)) * step**2
        index = np.argwhere(share > 0)
        weight = share[share > 0]
        totals = np.maximum(areas / step**2, 1e-12)
        across = [np.bincount(index[:, 0], weight * index[:, k], len(areas)) / totals for k in (2, 1)]
        centroids = lattice.index_to_mm(np.column_stack([*across, np.arange(len(areas))]))
    corner = target.bounds_mm[0]
    relative = np.round(centroids - corner, RELATIVE_DIGITS)
    middle = np.round((target.centroid_mm - corner) @ HEAD, RELATIVE_DIGITS)
    largest = np.flatnonzero(areas >= areas.max() * (1 - 1e-6))
    off_middle = np.round(np.abs(relative[largest] @ HEAD - middle), RELATIVE_DIGITS - 1)
    chosen = largest[np.lexsort((relative[largest] @ HEAD, off_middle))[0]]
    found: Float = corner + relative[chosen]
    return found


def _projection(target: Structure, centre: Float, column: Float, row: Float) -> tuple[Float, Float]:
    """Least and greatest (column, row) coordinates, relative to the centre, of the target's bounding box."""
    corners = np.array(np.meshgrid(*target.bounds_mm.T)).reshape(3, -1).T - centre
    across = np.round(corners @ np.column_stack([column, row]), RELATIVE_DIGITS)
    return across.min(axis=0), across.max(axis=0)
