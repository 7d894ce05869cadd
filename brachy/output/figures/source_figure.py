"""Picture of a seed model: radial dose function, anisotropy function, and the dose round the seed."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from brachy.dosimetry.source import Source
from brachy.errors import UsageError
from brachy.patient.palette import BLACK, BLUE, GREY, PATTERNS, SERIES, VERMILION
from brachy.units import total_dose_hours
from brachy.writing import write_bytes_whole

ROUND_MM = 20.0
"""The dose is drawn this far from the seed's centre (engineering choice)."""

LEVELS_GY = (5.0, 10.0, 20.0, 50.0, 100.0)
"""Isodoses of a seed of 1 U, to complete decay (engineering choice)."""


def plot_source(source: Source) -> Any:
    """Matplotlib figure of a seed model: g_L(r), F(r, theta) and phi_an(r), dose of 1 U round the seed.

    Dots are the nodes of the published tables; lines are what the program makes of them, beyond the tables as well
    (grey ground).

    Returns
    -------
    matplotlib.figure.Figure
        Three axes side by side.

    Examples
    --------
    >>> from brachy.dosimetry.source import load_source
    >>> len(plot_source(load_source("amersham_6711")).axes)
    3
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15.0, 5.0), layout="constrained")
    figure.suptitle(
        f"{source.name}: {source.model} ({source.status}), {source.reference}", fontsize=10, wrap=True
    )
    radial, angular, around = figure.subplots(1, 3)
    _draw_radial(radial, source)
    _draw_anisotropy(angular, source)
    _draw_dose(around, source)
    return figure


def _draw_radial(axes: Any, source: Source) -> None:
    table_r = source.radial_r_cm
    r = np.geomspace(0.3 * table_r[0], 1.3 * table_r[-1], 400)
    axes.plot(r, source.radial_dose_function(r), color=BLUE, label="$g_L(r)$")
    axes.plot(table_r, source.radial_g, "o", color=BLUE, markersize=4)
    phi_r = source.phi_r_cm
    axes.plot(r, source.anisotropy_factor(r), color=VERMILION, linestyle="dashed", label=r"$\phi_{an}(r)$")
    axes.plot(phi_r, source.phi_an, "s", color=VERMILION, markersize=4)
    for low, high in ((r[0], table_r[0]), (table_r[-1], r[-1])):
        axes.axvspan(low, high, color=GREY, alpha=0.2, linewidth=0)
    axes.set(
        xscale="log", xlabel="r, cm", ylim=(0, 1.25), title="Radial dose function, 1D anisotropy function"
    )
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axes.legend()


def _draw_anisotropy(axes: Any, source: Source) -> None:
    theta = np.linspace(0.0, 180.0, 361)
    for number, r in enumerate(source.anisotropy_r_cm.tolist()):
        colour = SERIES[number % len(SERIES)]
        pattern = PATTERNS[number // len(SERIES) % len(PATTERNS)]
        axes.plot(theta, source.anisotropy_function(np.full(theta.shape, r), theta), color=colour, linestyle=pattern,
                  label=f"{r:g} cm")  # fmt: skip
        axes.plot(
            source.anisotropy_theta_deg, source.anisotropy_F[:, number], "o", color=colour, markersize=3
        )
    axes.axvspan(90.0, 180.0, color=GREY, alpha=0.2, linewidth=0)
    axes.set(xlabel=r"$\theta$, degrees (mirrored beyond 90)", xlim=(0, 180), ylim=(0, None))
    axes.set(title=r"Anisotropy function $F(r, \theta)$")
    axes.set_xticks(range(0, 181, 30))
    axes.legend(fontsize=8, ncols=2)


def _draw_dose(axes: Any, source: Source) -> None:
    along, across = np.meshgrid(*2 * [np.linspace(-ROUND_MM, ROUND_MM, 401)])
    r_cm = 0.1 * np.maximum(np.hypot(along, across), 1e-6)
    theta = np.degrees(np.arccos(np.clip(0.1 * along / r_cm, -1.0, 1.0)))
    gy = 0.01 * source.dose_rate(r_cm, theta) * total_dose_hours(source.half_life_days)
    levels = np.array(LEVELS_GY)
    lines = axes.contour(along, across, gy, levels=levels, colors=SERIES[: len(levels)])
    axes.clabel(lines, fmt=lambda level: f"{level:g} Gy", fontsize=8, colors=BLACK)
    half, radius = 0.5 * source.capsule_length_mm, 0.5 * source.capsule_diameter_mm
    axes.fill([-half, half, half, -half], [-radius, -radius, radius, radius], color=GREY)
    active = 5.0 * source.active_length_cm
    axes.plot([-active, active], [0, 0], color=BLACK, linewidth=1.5)
    axes.set(xlabel="along the seed, mm", ylabel="across, mm", aspect="equal")
    axes.set(title="Dose of 1 U to complete decay, 2D")


def write_source_figure(source: Source, path: Path, *, force: bool = False) -> None:
    """Write the picture of `plot_source` as PNG.

    Raises
    ------
    UsageError
        If the file exists and `force` is not given, or its name does not end with .png.
    BrachyError
        If it cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from brachy.dosimetry.source import load_source
    >>> with TemporaryDirectory() as folder:
    ...     write_source_figure(load_source("best_2301"), Path(folder) / "best.png")
    ...     (Path(folder) / "best.png").stat().st_size > 10_000
    True
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: the picture is a PNG: give a name that ends with .png")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: choose another name or add --force")
    content = BytesIO()
    plot_source(source).savefig(content, format="png", dpi=110, metadata={"Software": ""})
    write_bytes_whole(path, content.getvalue())
