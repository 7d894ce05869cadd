"""The tests themselves: nothing costly is done when they are collected, and the mutants are still in the tree."""

import ast
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, times_found

TESTS = Path(__file__).resolve().parents[1]
COSTLY = {"load_phantom", "load_case", "load_volume", "prepare", "plan", "replan", "sphere", "quick_plan"}
"""Functions that build or read a case, or plan: they belong into fixtures."""


def at_import(node):
    """Nodes that are evaluated when a module is imported: bodies of functions are not."""
    yield node
    for name, field in ast.iter_fields(node):
        if name == "body" and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        for child in field if isinstance(field, list) else [field]:
            if isinstance(child, ast.AST):
                yield from at_import(child)


def called_at_import(text):
    calls = (node.func for node in at_import(ast.parse(text)) if isinstance(node, ast.Call))
    return {
        f.id if isinstance(f, ast.Name) else f.attr for f in calls if isinstance(f, (ast.Name, ast.Attribute))
    }


def test_calls_at_import_are_seen():
    text = (
        "A = plan(1)\n@mark(x.prepare())\ndef f(a=sphere()):\n    return dose()\n"
        "class B:\n    c = [load_case(i) for i in 'ab']\nd = lambda: offer()\n"
    )
    assert called_at_import(text) == {"plan", "mark", "prepare", "sphere", "load_case"}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_case_is_built_and_nothing_planned_at_import(path):
    assert called_at_import(path.read_text("utf-8")) & COSTLY == set()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_mutant_breaks_a_formula_that_is_there(mutant):
    """Where a line was rewritten, tests/mutants.py follows."""
    assert times_found(mutant) == 1
    assert mutant.old != mutant.new
    assert all((TESTS.parent / test).exists() for test in mutant.tests)
