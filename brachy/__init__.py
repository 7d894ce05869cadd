"""Planning, dosimetry and verification of permanent 125I seed implants.

Names are loaded on first use, so that `import brachy` is quick: see `__all__` for what there is.

Examples
--------
>>> import brachy
>>> source = brachy.load_source("amersham_6711")
>>> seed = brachy.Implant(source, [[0.0, 0.0, 0.0]], strength_U=1.0)
>>> gy = brachy.dose([[10.0, 0.0, 0.0]], seed)
>>> round(float(gy[0]), 2)
18.74
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# A room is a noun and a public function a verb, so that no module ever shadows a function:
# `brachy.dose(...)` lives in the room `dosimetry`, `brachy.dvh(...)` in `dose_volume`.
_HOME = {
    "BrachyError": "brachy.errors",
    "UsageError": "brachy.errors",
    "Grid": "brachy.grid",
    "Dose": "brachy.grid",
    "Structure": "brachy.structures",
    "Source": "brachy.source",
    "load_source": "brachy.source",
    "Implant": "brachy.implant",
    "Case": "brachy.case",
    "load_case": "brachy.reading",
    "Protocol": "brachy.protocol",
    "load_protocol": "brachy.protocol",
    "Plan": "brachy.planfile",
    "dose": "brachy.dosimetry",
    "dvh": "brachy.dose_volume",
    "plan": "brachy.optimise",
    "replan": "brachy.optimise",
    "plot_dvh": "brachy.figures",
    "plot_slice": "brachy.figures",
    "plot_template": "brachy.figures",
    "scene": "brachy.view",
    "write_report": "brachy.report",
    "robust": "brachy.robustness",
    "verify": "brachy.verification.postimplant",
}

__all__ = [
    "BrachyError",
    "Case",
    "Dose",
    "Grid",
    "Implant",
    "Plan",
    "Protocol",
    "Source",
    "Structure",
    "UsageError",
    "__version__",
    "dose",
    "dvh",
    "load_case",
    "load_protocol",
    "load_source",
    "plan",
    "plot_dvh",
    "plot_slice",
    "plot_template",
    "replan",
    "robust",
    "scene",
    "verify",
    "write_report",
]

if TYPE_CHECKING:
    from brachy.case import Case
    from brachy.dose_volume import dvh
    from brachy.dosimetry import dose
    from brachy.errors import BrachyError, UsageError
    from brachy.figures import plot_dvh, plot_slice, plot_template
    from brachy.grid import Dose, Grid
    from brachy.implant import Implant
    from brachy.optimise import plan, replan
    from brachy.planfile import Plan
    from brachy.protocol import Protocol, load_protocol
    from brachy.reading import load_case
    from brachy.report import write_report
    from brachy.robustness import robust
    from brachy.source import Source, load_source
    from brachy.structures import Structure
    from brachy.verification.postimplant import verify
    from brachy.view import scene


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'brachy' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
