"""Every public function of dosimetry and DVH has an example in its docstring; pytest runs them (--doctest-modules)."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

import brachy
import brachy.dosimetry

MODULES = [
    *(f"dosimetry.{path.stem}" for path in Path(brachy.dosimetry.__file__).parent.glob("[a-z]*.py")),
    *("units", "geometry.grid", "output.recompute", "output.figures.source_figure"),
]


def functions():
    found = {name: getattr(brachy, name) for name in brachy.__all__}
    for name in MODULES:
        module = import_module(f"brachy.{name}")
        own = inspect.getmembers(module, inspect.isfunction)
        found |= {
            f"{module.__name__}.{function}": value
            for function, value in own
            if value.__module__ == module.__name__ and not function.startswith("_")
        }
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", sorted(functions()))
def test_has_an_example(name):
    documented = functions()[name].__doc__ or ""
    assert ">>> " in documented
