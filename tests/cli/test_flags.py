"""Options stand once: records of options on the command line, in a cohort's list, and as keyword arguments."""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

import brachy
from brachy.cli.app import app
from brachy.cli.flags import OutputOptions, flat_options
from brachy.cohort.listing import columns_of
from brachy.errors import UsageError
from brachy.patient import options
from brachy.patient.options import Flag, NeedleOptions, SearchOptions, flags_of, given_flags, read_options
from brachy.patient.overrides import planner_arguments, verify_arguments

COMMANDS = typer.main.get_command(app).commands


@dataclass(frozen=True)
class PaintOptions:
    colour: Annotated[str | None, Flag("--colour", "NAME", "Which one.")] = None
    coats: Annotated[int, Flag("--coats", None, "How many.", least=1)] = 2
    rooms: Annotated[list[str] | None, Flag("--room", "NAME", "May be repeated.")] = None
    plan: Annotated[Path | None, Flag("--plan", "FILE", "A drawing.", in_list=False)] = None


def program(verb):
    made = typer.Typer(add_completion=False)
    made.command()(verb)
    return made


def painted(*words):
    """What a verb of three kinds of parameters is called with; and the runner's result."""
    called = []

    @flat_options
    def paint(
        wall: Annotated[str, typer.Argument(metavar="WALL")], *, dry: bool = False, paint: PaintOptions,
        output: OutputOptions,
    ) -> None:  # fmt: skip
        """Paint."""
        called.append((wall, dry, paint, output))

    return called, CliRunner().invoke(program(paint), words)


def test_a_verb_is_called_with_records():
    called, result = painted("north", "--coats", "3", "--room", "a", "--room", "b", "--force")
    assert result.exit_code == 0, result.output
    assert called == [
        ("north", False, PaintOptions(None, 3, ["a", "b"], None), OutputOptions(False, True, False))
    ]


def test_what_is_not_given_keeps_the_default_of_its_record():
    called, _ = painted("north", "--dry", "--plan", "x.dxf")
    assert called == [("north", True, PaintOptions(plan=Path("x.dxf")), OutputOptions())]


@pytest.mark.parametrize(
    "words", [("north", "--coats", "0"), ("north", "--coats", "x"), ("--force",), ("a", "b")]
)
def test_wrong_use_is_refused_before_the_verb_is_called(words):
    called, result = painted(*words)
    assert (called, result.exit_code) == ([], 2)


def test_help_has_every_option_in_the_order_of_the_verb():
    text = painted("--help")[1].output
    places = [
        text.index(word)
        for word in (
            "WALL",
            "--dry",
            "--colour",
            "--coats",
            "--room",
            "--plan",
            "--anonymise",
            "--force",
            "--json",
        )
    ]
    assert places == sorted(places)


def test_two_options_of_one_name_are_an_error_of_the_program():
    def twice(force: bool = False, *, output: OutputOptions) -> None:
        pass

    with pytest.raises(TypeError, match="two options are named force"):
        flat_options(twice)


def test_a_record_is_read_from_the_cells_of_a_list():
    given = {"colour": "red", "coats": "3", "room": "a; b", "plan": "never", "case": "x"}
    assert read_options(PaintOptions, given) == PaintOptions("red", 3, ["a", "b"], None)
    assert read_options(PaintOptions, {}) == PaintOptions()
    with pytest.raises(UsageError, match="coats: 'two' is no whole number"):
        read_options(PaintOptions, {"coats": "two"})
    with pytest.raises(UsageError, match="pitch: 'x' is not a number"):
        read_options(NeedleOptions, {"pitch": "x"})
    with pytest.raises(UsageError, match="robust: 'perhaps': write yes or no"):
        read_options(options.VariantOptions, {"robust": "perhaps"})


def test_what_was_given_is_what_differs_from_the_defaults():
    assert given_flags(NeedleOptions(), SearchOptions(seed=3), PaintOptions(coats=2)) == ["--seed"]


@pytest.mark.parametrize("verb", options.OF_VERB)
def test_every_option_is_on_the_command_line_and_every_listed_one_a_column(verb):
    flags = [flag for record in options.OF_VERB[verb] for _, flag, _, _ in flags_of(record)]
    known = {name: parameter for parameter in COMMANDS[verb].params for name in parameter.opts}
    for flag in flags:
        assert known[flag.name].help == flag.help
        assert (flag.column in columns_of(verb)) == flag.in_list
    assert set(columns_of(verb)) - {flag.column for flag in flags} == (
        {"plan"} if verb == "verify" else set()
    )


@pytest.mark.parametrize("verb", options.OF_VERB)
def test_the_documentation_of_a_cohort_names_its_columns(verb):
    page = (Path(__file__).resolve().parents[2] / "docs" / "cohort.md").read_text()
    (row,) = re.findall(rf"^\| `{verb}` \|[^|]*\| ([^|]*) \|$", page, re.MULTILINE)
    assert set(row.split(", ")) == set(columns_of(verb))


def test_the_arguments_that_options_stand_for_are_those_of_the_public_functions():
    made = planner_arguments(
        options.PrescriptionOptions(),
        options.SourceOptions(),
        options.PlanSearchOptions(),
        options.VariantOptions(),
    )
    defaults = {name: p.default for name, p in inspect.signature(brachy.plan).parameters.items()}
    assert made == {name: defaults[name] for name in made}
    made = verify_arguments(*(record() for record in options.OF_VERB["verify"]))
    defaults = {name: p.default for name, p in inspect.signature(brachy.verify).parameters.items()}
    assert made == {name: defaults[name] for name in made}


def test_no_verb_takes_more_than_a_dozen_parameters():
    """The verbs as they are written: options of one topic are one record."""
    folder = Path(inspect.getfile(flat_options)).parent
    import ast

    counts = {
        node.name: len(node.args.args) + len(node.args.kwonlyargs)
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert "plan" in counts
    assert {name: count for name, count in counts.items() if count > 13} == {}
