"""From values to one self-contained HTML page: Jinja2 with autoescape, styles, scripts and Plotly inside."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brachy.dosimetry.shown_metrics import symbol_and_unit
from brachy.output.figures.axes import WINDOW_HU
from brachy.output.report.picture import HU_KNOTS, Legend, Picture, legend_of, window_table
from brachy.patient.palette import css_variables
from brachy.version import __version__

WINDOWS = (
    ("soft tissue", 40, 400),
    ("liver", 80, 160),
    ("bone", 450, 1500),
    ("lung", -500, 1500),
    ("seeds", 1000, 2000),
)
"""Name, level and width in HU; the usual abdominal, liver, bone and lung windows, and one for metal."""


def render(page: str, *, identifies: str = "", **values: Any) -> str:
    """Text of a page from its template and values; whatever a value holds is shown as text.

    `identifies` is what of the page identifies the patient (`brachy.patient.privacy.identifying`).
    """
    import jinja2
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("brachy.output.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(num=number, metric=metric_label, css_text=css_text, sign=sign, xyz=xyz)
    source, _, _ = environment.loader.get_source(environment, "page.css")  # type: ignore[union-attr]
    script, _, _ = environment.loader.get_source(environment, "page.js")  # type: ignore[union-attr]
    low, high = WINDOW_HU
    return environment.get_template(page).render(
        software=f"brachy {__version__}",
        identifies=identifies,
        style=Markup(f"{css_variables()}\n{source}"),
        script=Markup(script),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        knots=HU_KNOTS,
        windows=WINDOWS,
        level=round((low + high) / 2),
        width=round(high - low),
        window_table=window_table(low, high),
        **values,
    )


@dataclass(frozen=True)
class Viewer:
    """A stack of pictures, the number of the one shown first, and the meaning of the lines in them."""

    name: str
    pictures: Sequence[Picture]
    start: int
    what: str
    structures: tuple[Legend, ...]
    isodoses: tuple[Legend, ...]

    @property
    def needles(self) -> bool:
        """Whether any picture has a needle."""
        return any(picture.needles for picture in self.pictures)

    @property
    def seeds(self) -> bool:
        """Whether any picture has a seed, of the plan if there are found ones."""
        return any(picture.seeds for picture in self.pictures)

    @property
    def found(self) -> bool:
        """Whether any picture has a found seed."""
        return any(picture.found for picture in self.pictures)

    @property
    def holes(self) -> bool:
        """Whether any picture has a loaded hole of a template."""
        return any(picture.loaded for picture in self.pictures)

    @property
    def grey(self) -> bool:
        """Whether any picture has a CT image."""
        return any(picture.image for picture in self.pictures)


def viewer(name: str, pictures: Sequence[Picture], start: int, what: str) -> Viewer:
    """A viewer of pictures with its legend."""
    structures, isodoses = legend_of(pictures)
    return Viewer(name, pictures, start, what, structures, isodoses)


def number(value: Any, digits: int = 3) -> str:
    """A number as a table shows it: `digits` significant ones and all before the point; a dash for none.

    Examples
    --------
    >>> number(1234.56), number(12.345), number(0.01234), number(95.0), number(-0.0001, 2), number(None)
    ('1235', '12.3', '0.0123', '95', '-0.0001', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, (bool, str, int)):
        return str(value)
    amount = float(value)
    if not math.isfinite(amount):
        return "–"
    if amount == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(amount))))
    shown = f"{amount:.{min(places, 8)}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def metric_label(name: str) -> str:
    """A metric's name as a heading.

    Examples
    --------
    >>> metric_label("D90_gy"), metric_label("V100_pct"), metric_label("volume_cc"), metric_label("V145Gy_cc")
    ('D90, Gy', 'V100, %', 'volume, cc', 'V145 Gy, cc')
    """
    symbol, unit = symbol_and_unit(name)
    symbol = re.sub(r"^(V[\d.]+)Gy$", r"\1 Gy", symbol) if unit else symbol
    return f"{symbol}, {unit}" if unit else symbol


def xyz(vector: Sequence[float]) -> str:
    """A place in mm to 0.1.

    Examples
    --------
    >>> xyz((1.26, -0.04, 100.0))
    '1.3, 0.0, 100.0'
    """
    return ", ".join(f"{round(float(value), 1) + 0.0:.1f}" for value in vector)


def sign(text: str) -> str:
    """Relations as a printed table has them.

    Examples
    --------
    >>> sign(">= 2 mm"), sign("<= 10 mm")
    ('≥ 2 mm', '≤ 10 mm')
    """
    return text.replace(">=", "≥").replace("<=", "≤")


def css_text(value: str) -> Any:
    """Text as the inside of a CSS string, every other character than letters and digits by its number."""
    from markupsafe import Markup

    return Markup("".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):x} " for c in value))
