"""The kernels that each verb needs, with the types that they are compiled for, in units for one process each.

Kernels of `tree` and `tg43` have their types in their decorators: importing the module compiles them. Those of other
modules would be compiled at the first call, for the types of its arguments; these types are listed here.
tests/core/test_warm.py holds the list against what verbs call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from numba import boolean, float32, float64, int8, int64, types, uint64

from brachy.core import loading, polygon, search

VERBS = ("plan", "replan", "verify", "robust", "dose", "dvh")
"""Verbs that need kernels; the others need none, or those of these."""

_F1, _F2, _F3 = float64[::1], float64[:, ::1], float64[:, :, ::1]
_SINGLE_1, _SINGLE_2, _SINGLE_3 = float32[::1], float32[:, ::1], float32[:, :, ::1]
_I1, _I2, _BYTES = int64[::1], int64[:, ::1], int8[::1]
_TRUTH_1, _TRUTH_2, _TRUTH_3 = boolean[::1], boolean[:, ::1], boolean[:, :, ::1]

_STACK = types.NamedTuple((_F2, _I1, _F1, _F1, _F2, _I1, _F2), polygon.Stack)
_TERMS = types.NamedTuple((_I1, _F2, _SINGLE_2), loading.Terms)
_ARRAYS = types.NamedTuple(
    (_SINGLE_2, _I1, _I1, _F1, *(_I1,) * 6, _F1, _I2, _I2, _F1, _I1, _I1, _F1, _F1, _I1, _F1, _F1),
    loading.SearchArrays,
)
_STATE = types.NamedTuple((_BYTES, _SINGLE_1, *(_I1,) * 7, _F1, _BYTES), loading.State)
_SCHEDULE = types.NamedTuple((int64, float64, float64, _F1), search.Schedule)

Types = tuple[Any, ...]


@dataclass(frozen=True)
class Unit:
    """Kernels of a module of brachy/core that one process compiles; if none is named, what importing it compiles."""

    name: str
    """What they compute, in words."""
    module: str
    verbs: tuple[str, ...]
    kernels: tuple[tuple[str, Types], ...] = ()
    """Name and argument types."""


_PLANNING = ("plan", "replan")
_DOSE = (*_PLANNING, "verify", "robust", "dose")
_VOLUMES = (*_PLANNING, "verify", "robust", "dvh")

UNITS = (
    Unit(
        "search",
        "search",
        _PLANNING,
        (
            ("anneal", (_ARRAYS, _TERMS, _STATE, _SCHEDULE, int64, int64, uint64[::1])),
            ("descend", (_ARRAYS, _TERMS, _STATE, boolean, int64)),
            ("greedy", (_ARRAYS, _TERMS, _STATE)),
        ),
    ),
    Unit("dose on grids", "tree", _DOSE),
    Unit(
        "seeds on CT",
        "capsule",
        ("verify",),
        (
            (
                "assemble",
                (
                    _SINGLE_3,
                    _TRUTH_3,
                    _F1,
                    _I1,
                    _I1,
                    _F2,
                    int64,
                    _F1,
                    int64,
                    _F1,
                    _F2,
                    _F1,
                ),
            ),
            ("add_images", (_F2, _F1, _F1, _I1, _F3, float64)),
            ("add_images", (_F2, _F1, _F1, _I1, _SINGLE_3, float64)),
            ("damped_step", (_F2, int64, float64, float64, float64, _F2, _F1, float64)),
            ("prior", (_F2, int64, float64, float64, float64)),
            ("closest_axes", (_F1, _F1, float64)),
        ),
    ),
    Unit(
        "distances from contours",
        "polygon",
        (*_PLANNING, "verify", "robust"),
        (
            ("distance", (_STACK, _F2, float64, boolean)),
            ("inside", (_STACK, _F2)),
        ),
    ),
    Unit("areas of contours", "raster", _VOLUMES, (("add_coverage", (_F2, _F2, float64, _F2, _F2, _F2)),)),
    Unit(
        "voxels of contours",
        "raster",
        (*_PLANNING, "verify"),
        (("slice_fractions", (_STACK, _F2, _F1, _F1, _SINGLE_3)),),
    ),
    Unit("samples of volumes", "raster", _VOLUMES, (("samples", (_STACK, float64, _F2)),)),
    Unit("needle paths", "polygon", _PLANNING, (("line_intervals", (_STACK, _F2, _F1)),)),
    Unit(
        "start of the search",
        "loading",
        _PLANNING,
        (
            ("set_loading", (_ARRAYS, _TERMS, _STATE, _BYTES)),
            ("exact_dose", (_ARRAYS, _BYTES)),
            ("hinge_sums", (_TERMS, _F1)),
        ),
    ),
    Unit("direct dose", "tg43", (*_PLANNING, "verify")),
    Unit("needles at angles", "segments", _PLANNING, (("mark_near", (*(_F2,) * 4, float64, _TRUTH_2)),)),
    Unit(
        "bright spots on CT",
        "peaks",
        ("verify",),
        (
            ("elongations", (_SINGLE_3, _F1, _I2, float64, int64)),
            ("is_local_maximum", (_SINGLE_3, types.Array(int64, 2, "F"), _I1, _TRUTH_1)),
        ),
    ),
    Unit(
        "limits of seeds",
        "influence",
        _PLANNING,
        (("fill_rows", (*(_F2,) * 4, float64, float64, _SINGLE_2)),),
    ),
)
"""Those that take longest first, so that processes end together."""


def units_of(verb: str) -> tuple[Unit, ...]:
    """Units that a verb needs, the longest first.

    Examples
    --------
    >>> [unit.name for unit in units_of("dose")]
    ['dose on grids']
    """
    return tuple(unit for unit in UNITS if verb in unit.verbs)


def modules_of(verb: str) -> tuple[str, ...]:
    """Modules of brachy/core whose kernels a verb needs."""
    return tuple(sorted({unit.module for unit in units_of(verb)}))


def compile_unit(name: str) -> None:
    """Compile a unit's kernels, or load them if they are in the cache."""
    (unit,) = (unit for unit in UNITS if unit.name == name)
    module = import_module(f"brachy.core.{unit.module}")
    for kernel, arguments in unit.kernels:
        compiled: Callable[..., Any] = getattr(module, kernel)
        compiled.compile(arguments)  # type: ignore[attr-defined]
