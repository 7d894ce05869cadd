"""The structure of the package, read from the source text: layers, cycles, sizes.

Every import counts: at the top of a module, inside a function, and for type checkers alone.
"""

import ast
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "brachy"


def layers():
    """Rank of each entry directly under brachy/, from the contract that import-linter checks, too; 0 is the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [c for c in contracts if c["type"] == "layers" and "containers" not in c]
    return {
        name.strip().removeprefix("brachy."): rank
        for rank, line in enumerate(contract["layers"])
        for name in line.split(":")
    }


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules():
    return {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(text, known):
    """Modules of `known` that a source text imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module
                for alias in node.names
            }
    return {name for name in found if name in known}


@cache
def graph():
    known = modules()
    return {name: imported(path.read_text(), known) - {name} for name, path in known.items()}


def test_imports_of_every_kind_are_seen():
    text = (
        "from typing import TYPE_CHECKING\nimport a.b\nfrom a import c\nif TYPE_CHECKING:\n    from a.d import X\n"
        "def f():\n    from a.e import y\n"
    )
    assert imported(text, {"a", "a.b", "a.c", "a.d", "a.e"}) == {"a.b", "a.c", "a.d", "a.e"}
    assert "brachy.geometry.grid" in graph()["brachy.patient.case"]


@pytest.mark.parametrize("name", sorted(modules()))
def test_no_module_imports_a_layer_above(name):
    if name in (
        "brachy",
        "brachy.__main__",
    ):  # the first offers the modules' names, the second is the program
        return
    rank = layers()
    for other in graph()[name]:
        assert other != "brachy", f"{name} imports the package itself; import the module that holds the name"
        here, there = name.split(".")[1], other.split(".")[1]
        assert here == there or rank[here] < rank[there] or rank[here] == rank[there] == max(rank.values()), (
            f"{name} imports {other}, which stands above it"
        )


def test_no_cycle():
    with_parents = {name: set(uses) for name, uses in graph().items() if name != "brachy"}
    try:
        list(TopologicalSorter(with_parents).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_every_entry_is_in_a_layer():
    entries = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert entries - set(layers()) - {"__init__", "__main__", "__pycache__", "data"} == set()


def test_at_most_25_entries_and_500_lines_a_file():
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 25
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > 500} == {}
