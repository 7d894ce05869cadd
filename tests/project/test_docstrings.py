"""Every public function of dosimetry and DVH has an example in its docstring; pytest runs them (--doctest-modules)."""

import inspect
from importlib import import_module

import pytest

import brachy

ROOMS = [
    *("bed", "dosimetry", "dose_volume", "histograms", "implant", "metrics", "recompute", "sampling"),
    *("source", "source_file", "source_figure", "strength", "units", "grid"),
]


def functions():
    found = {name: getattr(brachy, name) for name in brachy.__all__}
    for room in ROOMS:
        module = import_module(f"brachy.{room}")
        own = inspect.getmembers(module, inspect.isfunction)
        found |= {
            f"{room}.{name}": value
            for name, value in own
            if value.__module__ == module.__name__ and not name.startswith("_")
        }
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", sorted(functions()))
def test_has_an_example(name):
    documented = functions()[name].__doc__ or ""
    assert ">>> " in documented
