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

from brachy.version import __version__

# Module of each public name. Modules are nouns and public functions verbs, so that no module ever shadows a function:
# there is no module `brachy.dose` or `brachy.dvh`.
_HOME = {
    "BrachyError": "brachy.errors",
    "UsageError": "brachy.errors",
    "Grid": "brachy.geometry.grid",
    "Dose": "brachy.geometry.grid",
    "Structure": "brachy.geometry.structures",
    "Source": "brachy.dosimetry.source",
    "load_source": "brachy.dosimetry.source",
    "Implant": "brachy.dosimetry.implant",
    "Case": "brachy.patient.case",
    "load_case": "brachy.io.load",
    "Protocol": "brachy.patient.protocol",
    "load_protocol": "brachy.patient.protocol",
    "Plan": "brachy.patient.plan",
    "dose": "brachy.dosimetry.tg43",
    "dvh": "brachy.dosimetry.dvh",
    "plan": "brachy.optimise",
    "replan": "brachy.optimise",
    "plot_dvh": "brachy.output.figures.axes",
    "plot_slice": "brachy.output.figures.axes",
    "plot_template": "brachy.output.figures.axes",
    "scene": "brachy.output.figures.scene",
    "write_report": "brachy.output.report",
    "robust": "brachy.evaluation.robustness",
    "verify": "brachy.postimplant.verify",
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
    from brachy.dosimetry.dvh import dvh
    from brachy.dosimetry.implant import Implant
    from brachy.dosimetry.source import Source, load_source
    from brachy.dosimetry.tg43 import dose
    from brachy.errors import BrachyError, UsageError
    from brachy.evaluation.robustness import robust
    from brachy.geometry.grid import Dose, Grid
    from brachy.geometry.structures import Structure
    from brachy.io.load import load_case
    from brachy.optimise import plan, replan
    from brachy.output.figures.axes import plot_dvh, plot_slice, plot_template
    from brachy.output.figures.scene import scene
    from brachy.output.report import write_report
    from brachy.patient.case import Case
    from brachy.patient.plan import Plan
    from brachy.patient.protocol import Protocol, load_protocol
    from brachy.postimplant.verify import verify


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'brachy' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
