"""Every public function has an example in its docstring, and every example of every module of the package holds."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import brachy
from tests.quick_protocol import instead_of_the_shipped

PACKAGE = Path(brachy.__file__).parent


def module_names(folder):
    """Names of the modules in a folder of the package and below it; nothing is imported."""
    paths = sorted((PACKAGE / folder).rglob("*.py"))
    parts = [("brachy", *path.relative_to(PACKAGE).with_suffix("").parts) for path in paths]
    return [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts if p[-1] != "__main__"]


WITH_EXAMPLES = [
    *module_names("dosimetry"),
    *(f"brachy.{name}" for name in ("units", "geometry.grid", "output.recompute", "output.figures.source_figure")),
]  # fmt: skip
"""Modules whose public functions all have an example; so have the names of `import brachy`."""


def public_functions(module):
    found = inspect.getmembers(module, inspect.isfunction)
    return [value for name, value in found if value.__module__ == module.__name__ and name[0] != "_"]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_every_function_of_a_module_has_an_example(name):
    functions = public_functions(import_module(name))
    assert [f.__name__ for f in functions if ">>> " not in (f.__doc__ or "")] == []


@pytest.mark.parametrize("name", sorted(brachy.__all__))
def test_every_public_function_has_an_example(name):
    offered = getattr(brachy, name)
    assert not inspect.isfunction(offered) or ">>> " in (offered.__doc__ or "")


@pytest.mark.parametrize("name", module_names(""))
def test_examples_hold(name, monkeypatch, tmp_path):
    """Also as many are run as the text has: those of compiled or wrapped functions are not lost."""
    instead_of_the_shipped(monkeypatch, tmp_path)
    module = import_module(name)
    text = Path(module.__file__).read_text("utf-8")
    found = doctest.testmod(module)
    assert found == (0, text.count(">>> ") - text.count("# doctest: +SKIP"))
