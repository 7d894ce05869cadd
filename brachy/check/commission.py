"""Commissioning report: dose and DVH compared with printed tables, closed forms and an independent implementation.

Each line has the expected and the found value, the difference, the tolerance and the source of the expected value.
docs/validation.md is written from the same lines.
"""

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from brachy import resources, units
from brachy.check.clinical import clinical_items
from brachy.check.independent import Seed, dose_gy, dose_rate_per_U
from brachy.check.items import CheckItem, CheckReport
from brachy.check.shapes import shape_items
from brachy.dosimetry.dvh import dvh
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import Source, load_source
from brachy.dosimetry.tg43 import dose
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.palette import css_variables
from brachy.version import __version__
from brachy.writing import canonical

Float = NDArray[np.float64]

LIMITS = (
    "TG-43 takes the patient for water without bounds: bone, lung, calcifications, contrast and air are not seen.",
    "Seeds do not shadow each other: interseed attenuation is left out.",
    "1D averages over the seed's angle; 2D takes the seed's axis to be the needle's.",
    "Closer than the tables' first radius, and inside a capsule, the dose is a convention and no measurement.",
)
"""Limits of the formalism (AAPM TG-43U1, Rivard et al., Med. Phys. 31, 633 (2004); TG-186, Beaulieu et al., Med. Phys.
39, 6208 (2012))."""

ROUNDING = 1e-9
"""Tolerance of results that may differ only by rounding (engineering choice)."""


def commission(data: Path | None = None) -> CheckReport:
    """Run all comparisons, which takes about ten seconds.

    Parameters
    ----------
    data : Path, optional
        Folder with the public clinical data sets, see `brachy.check.clinical`; without it those comparisons are left
        out.

    Returns
    -------
    CheckReport
        Verdict "pass" if every comparison is within its tolerance.

    Examples
    --------
    >>> report = commission()  # doctest: +SKIP
    >>> report.verdict  # doctest: +SKIP
    'pass'
    """
    return CheckReport.of(
        (
            *_printed(),
            *_nodes(),
            *_laws(),
            *_independent_dose(),
            *_kernels(),
            *_volumes(),
            *shape_items(),
            *(clinical_items(data) if data is not None else ()),
        )
    )


def _line(
    name: str,
    expected: float,
    found: float,
    tolerance: float,
    unit: str,
    source: str,
    *,
    relative: bool = False,
) -> CheckItem:
    difference = abs(found - expected) / (abs(expected) if relative else 1.0)
    kind = "relative" if relative else unit
    return CheckItem(
        name,
        f"{expected:.8g} {unit}".strip(),
        f"{found:.8g} {unit}".strip(),
        float(f"{difference:.2g}"),
        tolerance,
        kind,
        bool(difference <= tolerance),
        source,
    )


def _worst(name: str, difference: float, tolerance: float, source: str, kind: str = "relative") -> CheckItem:
    """Line for a comparison of many values, by their greatest difference."""
    return CheckItem(
        name,
        "0",
        f"{difference:.2g}",
        float(f"{difference:.2g}"),
        tolerance,
        kind,
        bool(difference <= tolerance),
        source,
    )


def _tables() -> dict[str, Any]:  # a TOML file of printed tables of several forms
    path = resources.folder("sources").parent / "commissioning.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _one_seed(source: Source, strength_u: float = 1.0) -> Implant:
    return Implant(source, [[0.0, 0.0, 0.0]], axes=[0.0, 0.0, 1.0], strength_U=strength_u)


def _printed() -> list[CheckItem]:
    """Dose rates, G_L and total doses as printed in reports (brachy/data/commissioning.toml)."""
    tables = _tables()
    rows = tables["dose_rate_1d"]
    source = load_source(rows["model"])
    items = []
    hours = units.total_dose_hours(source.half_life_days)
    for r, printed in zip(rows["r_cm"], rows["rate"], strict=True):
        found = float(dose([[10 * r, 0.0, 0.0]], _one_seed(source))[0]) * 100.0 / hours
        items.append(
            _line(
                f"{rows['what']} at {r:g} cm",
                printed,
                found,
                # or half a unit of the last printed digit, if that is more
                max(rows["relative_tolerance"], 0.5 * _last_digit(printed) / printed),
                "",
                rows["source"],
                relative=True,
            )
        )
    rows = tables["geometry_function"]
    for r, theta, printed in zip(rows["r_cm"], rows["theta_deg"], rows["value"], strict=True):
        found = float(source.geometry_function(r, theta))
        items.append(
            _line(
                f"G_L at {r:g} cm, {theta:g} degrees",
                printed,
                found,
                rows["absolute_tolerance"],
                "",
                rows["source"],
            )
        )
    rows = tables["total_dose"]
    found = 100.0 * float(dose([[10.0, 0.0, 0.0]], _one_seed(source), formalism="2D")[0])
    items.append(_line(rows["what"], rows["value"], found, rows["absolute_tolerance"], "cGy", rows["source"]))
    rows = tables["per_mci"]
    seed = _one_seed(source, units.strength_from_mci(1.0))
    for formalism, key in (("2D", "value_2d"), ("1D", "value_1d")):
        found = float(dose([[10.0, 0.0, 0.0]], seed, formalism=formalism)[0])
        name = f"1 mCi apparent of 6711 at 1 cm, {formalism}"
        items.append(_line(name, rows[key], found, rows["absolute_tolerance"], "Gy", rows["source"]))
    return items


def _last_digit(printed: float) -> float:
    """One unit of the third significant digit, the last one printed in the table."""
    return float(10.0 ** (math.floor(math.log10(printed)) - 2))


def _nodes() -> list[CheckItem]:
    """At every node of F of every model the dose rate must be Lambda G/G0 g F with the printed F."""
    items = []
    for model in resources.names("sources"):
        source = load_source(model)
        r, theta = np.meshgrid(source.anisotropy_r_cm, np.radians(source.anisotropy_theta_deg))
        across, along = (r * np.sin(theta)).ravel(), (r * np.cos(theta)).ravel()
        points = 10.0 * np.stack([across, np.zeros_like(across), along], axis=1)
        hours = units.total_dose_hours(source.half_life_days)
        found = 100.0 / hours * dose(points, _one_seed(source), formalism="2D", method="exact")
        expected = dose_rate_per_U(source.to_dict(), across, along, "2D")
        items.append(
            _worst(
                f"2D dose rate of {model} at all {found.size} nodes of F",
                float(np.max(np.abs(found / expected - 1.0))),
                1e-6,
                source.reference,
            )
        )
    return items


def _laws() -> list[CheckItem]:
    source = load_source("amersham_6711")
    rng = np.random.default_rng(5)
    seed = _one_seed(source)
    points = rng.uniform(-60, 60, (400, 3))
    mirrored = points * [1.0, 1.0, -1.0]
    whole = dose(points, seed, formalism="2D", method="exact")
    symmetric = dose(mirrored, seed, formalism="2D", method="exact")
    turn = Rotation.from_euler("xyz", [33, -71, 125], degrees=True)
    turned = Implant(source, [[0, 0, 0]], axes=turn.apply([0, 0, 1]), strength_U=1.0)
    rotated = dose(turn.apply(points), turned, formalism="2D", method="exact")
    law = "law"
    items = [
        _worst("F(theta) = F(180 - theta)", _apart(symmetric, whole), ROUNDING, law),
        _worst("implant and points turned together", _apart(rotated, whole), ROUNDING, law),
    ]
    many = Implant(source, rng.uniform(-20, 20, (7, 3)), axes=[0, 1, 0], strength_U=rng.uniform(0.5, 1, 7))
    total = dose(points, many, formalism="2D", method="exact")
    parts = sum(
        dose(points, Implant(source, p[None], axes=[0, 1, 0], strength_U=u), formalism="2D", method="exact")
        for p, u in zip(many.positions_mm, many.strength_U, strict=True)
    )
    items.append(
        _worst("dose of all seeds = sum of the seeds' doses", _apart(np.asarray(parts), total), ROUNDING, law)
    )
    for days in (30.0, 60.0, 180.0):
        until = float(dose([[10.0, 0, 0]], seed, days=days)[0] / dose([[10.0, 0, 0]], seed)[0])
        exact = 1.0 - 2.0 ** (-days / source.half_life_days)
        items.append(
            _line(f"fraction of the dose delivered by day {days:g}", exact, until, ROUNDING, "", "decay law")
        )
    return items


def _apart(found: Float, expected: Float) -> float:
    return float(np.max(np.abs(found / expected - 1.0)))


def _independent_dose() -> list[CheckItem]:
    """Dose of random tilted implants compared with the line source integrated numerically."""
    items = []
    rng = np.random.default_rng(11)
    for model in ("amersham_6711", "bard_stm1251", "best_2301"):
        source = load_source(model)
        positions, axes = rng.uniform(-20, 20, (8, 3)), Rotation.random(8, random_state=2).apply([0, 0, 1])
        strength = rng.uniform(0.5, 1.0, 8)
        seeds = [
            Seed(tuple(p), tuple(a), float(u), source.half_life_days, source.to_dict())
            for p, a, u in zip(positions.tolist(), axes.tolist(), strength, strict=True)
        ]
        points = rng.uniform(-60, 60, (1000, 3))
        for formalism in ("1D", "2D"):
            engine = dose(
                points,
                Implant(source, positions, axes, strength_U=strength),
                formalism=formalism,
                method="exact",
            )
            items.append(
                _worst(
                    f"{formalism} dose of 8 tilted seeds of {model} at 1000 points",
                    _apart(engine, dose_gy(points, seeds, formalism)),
                    ROUNDING,
                    "line source integrated by Gauss-Legendre quadrature",
                )
            )
    return items


def _kernels() -> list[CheckItem]:
    """Dose of the default grid kernel compared with the exact sum, outside the capsules."""
    source = load_source("amersham_6711")
    rng = np.random.default_rng(3)
    positions = rng.uniform(-25, 25, (40, 3))
    axes = Rotation.random(40, random_state=4).apply([0, 0, 1])
    implant = Implant(source, positions, axes, strength_U=0.889)
    grid = Grid((-40, -40, -40), (1.0, 1.0, 2.5), (33, 81, 81))
    centres = grid.centres_mm()
    nearest = np.full(len(centres), np.inf)
    for position in positions:
        nearest = np.minimum(nearest, np.linalg.norm(centres - position, axis=1))
    outside = (nearest > 2.3).reshape(grid.shape)
    items = []
    for formalism in ("1D", "2D"):
        exact = dose(grid, implant, formalism=formalism, method="exact").gy
        fast = dose(grid, implant, formalism=formalism).gy
        items.append(
            _worst(
                f"{formalism} grid kernel, {int(outside.sum())} voxels of 1 x 1 x 2.5 mm, 40 tilted seeds",
                _apart(fast[outside].astype(np.float64), exact[outside]),
                1e-3,
                "exact sum in float64",
            )
        )
    return items


def _volumes() -> list[CheckItem]:
    """Around one point seed the volume above a dose is that of a sphere with the isodose's radius."""
    items = []
    source = load_source("amersham_6711")
    seed = _one_seed(source)
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    # a polygon of the circle's area, so that only the slices discretise
    fitted = math.sqrt(2 * np.pi / 720 / math.sin(2 * np.pi / 720))
    unit = np.stack([fitted * np.cos(angle), fitted * np.sin(angle), np.zeros(720)], axis=1)
    heights = np.arange(-19.75, 20, 0.5).tolist()
    ball = Structure("ball", tuple(unit * math.sqrt(400.0 - z * z) + [0, 0, z] for z in heights))
    histogram = dvh(seed, ball)
    for gy in (20.0, 10.0, 5.0):
        radius = brentq(lambda r, gy=gy: float(dose([[r, 0, 0]], seed)[0]) - gy, 1.0, 40.0)
        exact = 4 / 3 * math.pi * radius**3 / 1000.0
        name = f"volume above {gy:g} Gy round one point seed of 1 U"
        items.append(
            _line(
                name, exact, histogram.V(gy), 0.005, "cc", "4/3 pi r^3 at the isodose's radius", relative=True
            )
        )
    return items


def markdown(report: CheckReport) -> str:
    """Text of docs/validation.md: all comparisons as a table, and the limits of the formalism."""
    lines = [
        "# Validation",
        "",
        f"Written by `brachy check --commission` of brachy {__version__}: {len(report.checks)} comparisons, "
        f"{report.words}. Not a medical device; for research and education.",
        "",
        "| what | expected | found | difference | tolerance | | source of the expectation |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in report.checks:
        verdict = "**FAILED**" if item.passed is False else item.verdict
        tolerance = "" if item.tolerance is None else f"{item.tolerance:g} {item.unit}".strip()
        difference = "" if item.difference is None else f"{item.difference:.2g}"
        lines.append(
            f"| {item.name} | {item.expected} | {item.found} | {difference} | {tolerance} | {verdict} | {item.source} |"
        )
    lines += ["", "## Limits of the formalism", "", *(f"- {limit}" for limit in LIMITS), ""]
    return "\n".join(lines)


def html(report: CheckReport) -> str:
    """The same table as one self-contained HTML page."""
    from html import escape

    rows = "\n".join(
        f"<tr class='{'ok' if item.passed else 'bad'}'><td>{escape(item.name)}</td><td>{escape(item.expected)}</td>"
        f"<td>{escape(item.found)}</td><td>{'' if item.difference is None else f'{item.difference:.2g}'}</td>"
        f"<td>{'' if item.tolerance is None else f'{item.tolerance:g} {escape(item.unit)}'}</td>"
        f"<td>{item.verdict}</td><td>{escape(item.source)}</td></tr>"
        for item in report.checks
    )
    limits = "\n".join(f"<li>{escape(limit)}</li>" for limit in LIMITS)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>brachy commissioning</title>"
        f"<style>{css_variables()}"
        "body{font:15px/1.45 system-ui,sans-serif;margin:2rem;max-width:75rem}table{border-collapse:collapse}"
        "td,th{border-bottom:1px solid var(--rule);padding:.3rem .6rem;text-align:left;vertical-align:top}"
        ".bad td{background:var(--bad-ground);font-weight:bold}@media print{body{margin:0}}</style>"
        f"<h1>Commissioning of brachy {escape(__version__)}: {report.verdict}</h1>"
        "<p>Not a medical device: for research and education.</p>"
        "<table><thead><tr><th>what<th>expected<th>found<th>difference<th>tolerance<th>verdict<th>source"
        f"</tr></thead><tbody>{rows}</tbody></table><h2>Limits of the formalism</h2><ul>{limits}</ul></html>\n"
    )


def commissioning_files(report: CheckReport) -> dict[str, str]:
    """Texts of commissioning.json, commissioning.html and validation.md."""
    return {
        "commissioning.json": canonical({"software": __version__, "limits": list(LIMITS), **report.data()}),
        "commissioning.html": html(report),
        "validation.md": markdown(report),
    }
