"""The plan in three dimensions, in a window, as a picture, or in a notebook (PyVista).

PyVista is the extra `view`; it is imported when a scene is made, never before. A picture is rendered off-screen and
needs no display.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brachy.dosimetry.source import Source
from brachy.errors import BrachyError
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.needles.laying_out import largest_section_centroid
from brachy.needles.template import TemplateLayout
from brachy.output.figures import cuts
from brachy.output.figures.surfaces import dose_surface, structure_surface
from brachy.patient.case import Case
from brachy.patient.palette import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    WHITE,
    isodose_colour,
    role_of,
    shown,
    style_of,
)
from brachy.patient.plan import Plan
from brachy.writing import write_bytes_whole

Float = NDArray[np.float64]

RESERVED = frozenset({"CT", "needles", "seeds", "names", "names-labels", "templates", "holes"})
"""Names of what is no structure; a structure of such a name gets " (ROI)" after it."""

SEED_WIDTH_MM = 1.6
"""Seeds are drawn twice as thick as they are, to be seen; their length is true."""

TOGGLE_PIXELS = 26
"""From one box to tick to the next."""

AROUND_MM = 60.0
"""Structures are shown this far round targets and needles (engineering choice)."""


def scene(
    plan: Plan,
    case: Case,
    *,
    structures: Sequence[Structure] | None = None,
    dose: Dose | None = None,
    levels_pct: Sequence[float] = (100.0, 50.0, 150.0, 200.0),
    ct: bool = True,
    off_screen: bool = False,
    size: tuple[int, int] = (1400, 1000),
) -> Any:
    """Scene of a plan: CT slice, structures, isodose surfaces, needles, seeds, templates.

    Parameters
    ----------
    plan, case : Plan, Case
        A plan and the patient it is for.
    structures : sequence of Structure, optional
        What to show; by default the case's.
    dose : Dose, optional
        For the isodose surfaces; by default computed round the seeds, at 2 mm.
    levels_pct : sequence of float
        Isodose surfaces, % of the (lowest) prescription; the first is shown at first.
    ct : bool
        Show the CT slice through the first target's largest section.
    off_screen : bool
        Render without a window.
    size : (width, height)
        Pixels.

    Returns
    -------
    pyvista.Plotter
        `.show()` opens it. Its actors have the names of what they show: "GTV", "100 %", "needles", "seeds",
        "templates", "CT"; `.actors[name].visibility` is a toggle.

    Raises
    ------
    BrachyError
        If PyVista is not installed.

    Examples
    --------
    >>> from brachy.optimise import plan as make
    >>> from brachy.io.phantom.file import load_phantom
    >>> from brachy.patient.protocol import change, load_protocol
    >>> case = load_phantom("sphere-35mm")
    >>> quick = change(load_protocol("liver-metastasis"), search={"starts": 1, "moves": 2000, "fine_moves": 0})
    >>> plan = make(case, quick, direction=(0, 0))
    >>> plotter = scene(plan, case, off_screen=True)  # doctest: +SKIP
    >>> "seeds" in plotter.actors  # doctest: +SKIP
    True
    """
    pyvista = _pyvista()
    regions = shown(list(case.structures if structures is None else structures), plan)
    plotter: Any = pyvista.Plotter(off_screen=off_screen, window_size=list(size))
    plotter.set_background(WHITE)
    if ct:
        _add_ct(plotter, plan, case, regions)
    box = cuts.region_of(plan, case)
    limits = np.array([box.min(axis=0) - AROUND_MM, box.max(axis=0) + AROUND_MM])
    for structure in regions:
        style = style_of(role_of(structure, plan))
        surface = structure_surface(structure, limits)
        if not surface.is_empty:
            mesh = pyvista.PolyData.from_regular_faces(surface.points_mm, surface.triangles)
            name = f"{structure.name} (ROI)" if structure.name in RESERVED else structure.name
            actor = plotter.add_mesh(
                mesh, color=style.solid, opacity=style.opacity, smooth_shading=True, name=name, label=name
            )
            actor.visibility = not style.hidden
    rx, _ = cuts.prescription(plan)
    dose = dose if dose is not None else dose_round_seeds(plan)
    for place, percent in enumerate(levels_pct if dose is not None else ()):
        assert dose is not None
        surface = dose_surface(dose, percent * rx / 100.0)
        if not surface.is_empty:
            mesh = pyvista.PolyData.from_regular_faces(surface.points_mm, surface.triangles)
            actor = plotter.add_mesh(
                mesh, color=isodose_colour(percent), opacity=0.3, smooth_shading=True, name=f"{percent:g} %"
            )
            actor.visibility = place == 0
    _add_implant(plotter, plan)
    _add_templates(plotter, plan)
    _look(plotter, plan, box)
    return plotter


def _pyvista() -> Any:
    """PyVista, which only windows and rendered pictures need.

    Raises
    ------
    BrachyError
        If it is not installed.
    """
    try:
        import pyvista
    except ImportError:
        raise BrachyError(
            "a window or a picture of the scene needs PyVista, which is not installed: pip install 'brachy-seeds[view]'"
            " (in a checkout: make dev), or use --html FILE or --stl FILE"
        ) from None
    return pyvista


def dose_round_seeds(plan: Plan, spacing_mm: float = 2.0, margin_mm: float = 25.0) -> Dose | None:
    """Dose of a plan in the box round its seeds; None without seeds."""
    seeds = cuts.seeds_of(plan)
    if not len(seeds):
        return None
    grid = Grid.around(seeds.min(axis=0) - margin_mm, seeds.max(axis=0) + margin_mm, spacing_mm)
    return plan.dose_model().on(grid)


def show(plan: Plan, case: Case, **options: Any) -> None:
    """Open a window with the scene and a box to tick for each thing in it.

    Takes the options of `scene`.

    Raises
    ------
    BrachyError
        If there is no display to open a window on, or PyVista is not installed.
    """
    if os.name == "posix" and os.uname().sysname == "Linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):  # fmt: skip
        raise BrachyError("no display to open a window on: use --screenshot FILE or --html FILE")
    plotter = scene(plan, case, **options)
    _add_toggles(plotter)
    plotter.show(title=f"brachy: {plan.case.patient_id}")


def screenshot(plan: Plan, case: Case, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write a picture of the scene as PNG, rendered off-screen.

    Takes the options of `scene`.

    Raises
    ------
    BrachyError
        If PyVista is not installed, this machine cannot render, or the file cannot be written.
    """
    from io import BytesIO

    from matplotlib.image import imsave

    with _quiet():
        plotter = scene(plan, case, off_screen=True, **options)
        try:
            picture = plotter.screenshot(None, return_img=True)
        except RuntimeError as error:
            raise BrachyError(f"this machine cannot render the scene ({error}): use --html FILE") from None
        finally:
            plotter.close()
    content = BytesIO()
    imsave(content, np.ascontiguousarray(picture[:, :, :3]), format="png", metadata={"Software": ""})
    write_bytes_whole(Path(path), content.getvalue())
    return Path(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep VTK from telling that there is no display, which it can do without."""
    _pyvista()
    from vtkmodules.vtkCommonCore import vtkLogger

    before = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtkLogger.SetStderrVerbosity(before)


def _add_ct(plotter: Any, plan: Plan, case: Case, regions: Sequence[Structure]) -> None:
    """The CT slice through the first target's largest section."""
    import pyvista

    target = next((s for s in regions if s.name == plan.targets[0].roi), None)
    middle = cuts.middle_slice(plan, case.grid)
    if target is not None:
        centre = largest_section_centroid(target)
        middle = int(
            np.clip(round(float(case.grid.mm_to_index(centre[None])[0, 2])), 0, case.grid.shape[0] - 1)
        )
    cut = cuts.slice_cut(case.grid, middle, cuts.region_of(plan, case))
    hu = cuts.ct_on(cut, case).astype(np.float32)
    points = cut.centres_mm().reshape(*hu.shape, 3)
    body = next((s for s in regions if role_of(s, plan) == "external"), None)
    if body is not None:  # the air would hide needles behind it
        hu[~body.contains(cut.centres_mm()).reshape(hu.shape)] = np.nan
    slab = pyvista.StructuredGrid(points[:, :, 0], points[:, :, 1], points[:, :, 2])
    slab.point_data["HU"] = hu.ravel(order="F")
    plotter.add_mesh(
        slab,
        scalars="HU",
        cmap="gray",
        clim=(-160, 240),
        show_scalar_bar=False,
        lighting=False,
        opacity=0.9,
        nan_opacity=0.0,
        name="CT",
    )


def _add_implant(plotter: Any, plan: Plan) -> None:
    """Needles as tubes of their thickness, seeds as capsules of their length."""
    import pyvista

    if not plan.needles:
        return
    lines = [pyvista.Line(needle.hole_mm, needle.tip_mm) for needle in plan.needles]
    tubes = pyvista.merge([line.tube(radius=plan.protocol.needle.radius_mm, n_sides=12) for line in lines])
    plotter.add_mesh(tubes, color=BLUE, name="needles")
    lengths = [Source.from_dict(source.data, name=source.model).capsule_length_mm for source in plan.sources]
    capsules = [
        pyvista.Cylinder(
            center=seed.position_mm,
            direction=needle.direction,
            radius=SEED_WIDTH_MM / 2,
            height=lengths[seed.source],
            resolution=12,
        )
        for needle in plan.needles
        for seed in needle.seeds
    ]
    if capsules:
        plotter.add_mesh(pyvista.merge(capsules), color=VERMILION, name="seeds")
    places = np.array([n.hole_mm for n in plan.needles]) - 6.0 * np.array([n.direction for n in plan.needles])
    plotter.add_point_labels(
        places, [cuts.needle_name(plan, n) for n in plan.needles], font_size=16, text_color=BLACK, shape=None,
        show_points=False, always_visible=True, name="names",
    )  # fmt: skip


def _add_templates(plotter: Any, plan: Plan) -> None:
    """Each template as a plate with a ring at every hole."""
    import pyvista

    plates, rings = [], []
    for template in plan.templates:
        layout = TemplateLayout.of(template)
        # 0.7 of a pitch beyond the outermost holes (engineering choice)
        low, high = (
            ends + sign * 0.7 * layout.spacing_mm for sign, ends in zip((-1, 1), layout.extent, strict=True)
        )
        places = ((low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1]))
        corners = np.array([layout.on_plate_mm(float(x), float(y)) for x, y in places])
        plates.append(pyvista.PolyData(corners, np.array([4, 0, 1, 2, 3])).triangulate())
        for label in layout.labels:
            centre = layout.at(label)
            rings.append(pyvista.Disc(center=centre, inner=0.9, outer=1.4, normal=layout.direction, c_res=12))
    plotter.add_mesh(pyvista.merge(plates), color=GREY, opacity=0.25, name="templates")
    plotter.add_mesh(pyvista.merge(rings), color=BLACK, name="holes")


def _look(plotter: Any, plan: Plan, box: Float) -> None:
    """From before the first template, a little from the side and from above, the head up."""
    plate = plan.templates[0]
    middle = box.mean(axis=0)
    away = 0.72 * np.array(plate.direction) - 0.55 * np.array(plate.column) - 0.42 * np.array(plate.row)
    reach = float(np.linalg.norm(box.max(axis=0) - box.min(axis=0)))
    plotter.camera_position = [
        tuple(middle - 1.35 * reach * away / np.linalg.norm(away)),
        tuple(middle),
        tuple(plate.row),
    ]


def _add_toggles(plotter: Any) -> None:
    """A box to tick for each thing in the scene."""

    def switch(name: str) -> Callable[[bool], None]:
        def turn(on: bool) -> None:
            plotter.actors[name].visibility = on

        return turn

    names = [name for name in plotter.actors if name != "names"]
    rows = max(1, (plotter.window_size[1] - 30) // TOGGLE_PIXELS)
    for place, name in enumerate(names):
        x, y = 10.0 + 230.0 * (place // rows), 12.0 + TOGGLE_PIXELS * (place % rows)
        actor = plotter.actors[name]
        plotter.add_checkbox_button_widget(
            switch(name), value=bool(actor.visibility), position=(x, y), size=20, color_on=BLUE
        )
        shown = "hole names" if name == "names-labels" else name
        plotter.add_text(shown, position=(x + 28.0, y), font_size=9, color=BLACK)
