"""The options of `brachy plan`, `verify` and `robust`, as records: each option is defined here and nowhere else.

`brachy.cli.flags.flat_options` makes the command line of these records, `read_options` reads the columns of a cohort's
list into them, and `brachy.patient.overrides` says what their values mean. To add an option: a field here, and its
meaning there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_type_hints

from brachy.errors import UsageError

DEFAULT_PROTOCOL = "liver-metastasis"

Record = TypeVar("Record")


class Flag(NamedTuple):
    """How an option is written on the command line, and whether a cohort's list may have a column of it.

    Parameters
    ----------
    name : str
        "--needle-length"; the column is named without the dashes.
    metavar : str or None
        What stands for the value in the help; None for yes and no, and for whole numbers.
    help : str
        One line.
    least : int or None
        Smallest whole number that is accepted.
    in_list : bool
        A list of `brachy cohort` may have a column of it.
    is_path : bool
        A relative value in a list lies beside the list.
    """

    name: str
    metavar: str | None
    help: str
    least: int | None = None
    in_list: bool = True
    is_path: bool = False

    @property
    def column(self) -> str:
        """Name of its column in a list."""
        return self.name.lstrip("-")


TARGET = Flag("--target", "ROI[=GY]", "Target ROI; may be repeated.")
PRESCRIPTION = Flag("--prescription", "GY", "Instead of the protocol's.")
IMPLANT_ON = Flag("--implant-on", "DATE", "YYYY-MM-DD of the implantation.")
ACCEPT_STRENGTH = Flag("--accept-strength", None, "Take a seed's strength outside 0.1-10 U as it is.")
FORMALISM = Flag("--formalism", "1D|2D", "TG-43 point (1D) or line source (2D).")
THREADS = Flag("--threads", "N", "By default one for each core.", least=1, in_list=False)
"""Options of several verbs."""


@dataclass(frozen=True)
class PrescriptionOptions:
    """What is planned: protocol, targets and dose."""

    protocol: Annotated[
        str, Flag("--protocol", "NAME|FILE", "Planning protocol, see `brachy protocols`.", is_path=True)
    ] = DEFAULT_PROTOCOL
    target: Annotated[list[str] | None, TARGET] = None
    margin: Annotated[float | None, Flag("--margin", "MM", "3D expansion of the target.")] = None
    prescription: Annotated[float | None, PRESCRIPTION] = None


@dataclass(frozen=True)
class ModelOptions:
    """The seed model."""

    source: Annotated[
        str | None, Flag("--source", "MODEL|FILE", "Seed model, see `brachy sources`.", is_path=True)
    ] = None
    accept_unverified: Annotated[
        bool,
        Flag("--accept-unverified", None, "Also use a seed model whose tables were seen in one place only."),
    ] = False


@dataclass(frozen=True)
class SourceOptions(ModelOptions):
    """The seeds that a plan uses, and the dose formalism."""

    activity: Annotated[
        str | None,
        Flag("--activity", "MCI", "Apparent activity of a seed; or 25.9MBq, '0.945 mCi contained'."),
    ] = None
    strength: Annotated[float | None, Flag("--strength", "U", "Air-kerma strength of a seed.")] = None
    strength_on: Annotated[
        str | None, Flag("--strength-on", "DATE", "YYYY-MM-DD the strength is stated for.")
    ] = None
    implant_on: Annotated[str | None, IMPLANT_ON] = None
    accept_strength: Annotated[bool, ACCEPT_STRENGTH] = False
    formalism: Annotated[str | None, FORMALISM] = None


@dataclass(frozen=True)
class NeedleOptions:
    """Template and needles of a plan."""

    pitch: Annotated[float | None, Flag("--pitch", "MM", "Distance of the holes.")] = None
    direction: Annotated[str | None, Flag("--direction", "AZ[,TILT]", "Needle direction in degrees.")] = None
    arrangement: Annotated[
        str | None,
        Flag("--arrangement", "KIND", "parallel, or individual: each needle at an angle of its own."),
    ] = None
    access: Annotated[
        str | None,
        Flag(
            "--access",
            "WORDS",
            "From where needles may come: front,right; head; 225..405 (docs/howto/access.md).",
        ),
    ] = None
    needle_length: Annotated[
        float | None, Flag("--needle-length", "MM", "Longest path from hole to tip.")
    ] = None
    free: Annotated[
        list[str] | None, Flag("--free", "ROI", "An organ that needles may pass; may be repeated.")
    ] = None


@dataclass(frozen=True)
class VolumeOptions:
    """What a CT volume lacks."""

    mask: Annotated[list[str] | None, Flag("--mask", "NAME=FILE", "Structure of a CT volume.")] = None


@dataclass(frozen=True)
class RunOptions:
    """Random numbers and threads. Each verb has a subclass that says what its seed is for."""

    seed: Annotated[int, Flag("--seed", None, "Seed of the search.", least=0)] = 0
    threads: Annotated[int | None, THREADS] = None


@dataclass(frozen=True)
class SearchOptions(RunOptions):
    """How long a search runs."""

    time_limit: Annotated[
        float | None,
        Flag("--time-limit", "S", "Stop the search; gives up reproducibility.", in_list=False),
    ] = None


@dataclass(frozen=True)
class PlanSearchOptions(SearchOptions):
    """The search of `brachy plan`."""

    seed: Annotated[
        int, Flag("--seed", None, "Seed of the search; the same seed, the same plan.", least=0)
    ] = 0


@dataclass(frozen=True)
class VariantOptions:
    """Which kind of plan is made, and what is stated of it."""

    alternatives: Annotated[
        int | None,
        Flag(
            "--alternatives",
            "N",
            "N different good plans (fewest needles, most homogeneous ...), in one table and a folder each.",
            least=1,
            in_list=False,
        ),
    ] = None
    robust: Annotated[
        bool,
        Flag(
            "--robust",
            None,
            "Cover the target when needles deviate too; writes robust.json (docs/robust.md).",
        ),
    ] = False
    certify: Annotated[
        bool,
        Flag("--certify", None, "Also state how far from the best the plan may be, at most.", in_list=False),
    ] = False


@dataclass(frozen=True)
class SeedOptions:
    """Where the seeds of an implant come from."""

    seeds: Annotated[
        Path | None,
        Flag("--seeds", "FILE", "Seeds as given: a CSV (seeds.csv, review.csv) or an RTPLAN.", is_path=True),
    ] = None
    count: Annotated[int | None, Flag("--count", None, "Seeds implanted; to warn, never to fill.")] = None
    region: Annotated[
        str | None,
        Flag(
            "--region", "ROI", "Look for seeds round this ROI (`target`: the targets), not on the whole CT."
        ),
    ] = None


@dataclass(frozen=True)
class RegistrationOptions:
    """How the plan lies on the CT after the implant."""

    register: Annotated[
        str, Flag("--register", "auto|frame|image|seeds|organ|FILE", "How the plan lies on the CT.")
    ] = "auto"
    planning_ct: Annotated[
        str | None,
        Flag("--planning-ct", "CASE", "Planning CT with structures, for image and organ.", is_path=True),
    ] = None


@dataclass(frozen=True)
class ImplantedSourceOptions(ModelOptions):
    """The seeds that were implanted."""

    strength: Annotated[
        float | None, Flag("--strength", "U", "Air-kerma strength of a seed at implantation.")
    ] = None
    implant_on: Annotated[str | None, IMPLANT_ON] = None
    accept_strength: Annotated[bool, ACCEPT_STRENGTH] = False


@dataclass(frozen=True)
class AssessmentOptions:
    """Dose, targets and limits against which an implant is assessed."""

    prescription: Annotated[float | None, PRESCRIPTION] = None
    target: Annotated[list[str] | None, TARGET] = None
    formalism: Annotated[str | None, FORMALISM] = None
    gate: Annotated[float, Flag("--gate", "MM", "Farthest that a seed is followed.")] = 10.0
    margin: Annotated[float, Flag("--margin", "MM", "Seeds farther outside the target are listed.")] = 5.0
    contour_sd: Annotated[
        float, Flag("--contour-sd", "MM", "SD of the target's contour, for the intervals.")
    ] = 0.0
    sectors: Annotated[
        str, Flag("--sectors", "auto|octants|prostate", "Sectors of the target.", in_list=False)
    ] = "auto"
    other_patient: Annotated[
        bool, Flag("--other-patient", None, "Compare although the patient IDs differ.")
    ] = False


@dataclass(frozen=True)
class IntervalOptions(RunOptions):
    """The intervals of `brachy verify`."""

    seed: Annotated[int, Flag("--seed", None, "Seed of the intervals.", least=0)] = 0


@dataclass(frozen=True)
class DeviationOptions:
    """How many scenarios of deviating needles and seeds, and how far they deviate."""

    samples: Annotated[int, Flag("--samples", "N", "Number of scenarios.")] = 1000
    uncertainty: Annotated[
        Path | None,
        Flag("--uncertainty", "FILE", "TOML file; default the published figures.", is_path=True),
    ] = None


@dataclass(frozen=True)
class ScenarioOptions(RunOptions):
    """The scenarios of `brachy robust`."""

    seed: Annotated[int, Flag("--seed", None, "The same seed, the same scenarios.", least=0)] = 0


OF_VERB: Mapping[str, tuple[type, ...]] = {
    "plan": (
        PrescriptionOptions, SourceOptions, NeedleOptions, VolumeOptions, PlanSearchOptions, VariantOptions,
    ),
    "verify": (
        SeedOptions, RegistrationOptions, ImplantedSourceOptions, AssessmentOptions, IntervalOptions,
    ),
    "robust": (DeviationOptions, ScenarioOptions),
}  # fmt: skip
"""Records of each verb that a cohort runs, in the order of its help."""


def flags_of(record: type) -> Iterator[tuple[str, Flag, Any, Any]]:
    """Field, flag, type and default of every option of a record.

    Examples
    --------
    >>> [(field, flag.name) for field, flag, _, _ in flags_of(VolumeOptions)]
    [('mask', '--mask')]
    """
    hints = get_type_hints(record, include_extras=True)
    for field in fields(record):
        kind, flag = get_args(hints[field.name])[:2]
        assert field.default is not MISSING, f"option {flag.name} needs a default"
        yield field.name, flag, kind, field.default


def listed_flags(verb: str) -> dict[str, Flag]:
    """Options of a verb that a list of `brachy cohort` may have a column of, by column.

    Examples
    --------
    >>> list(listed_flags("robust"))
    ['samples', 'uncertainty', 'seed']
    """
    every = (flag for record in OF_VERB[verb] for _, flag, _, _ in flags_of(record))
    return {flag.column: flag for flag in every if flag.in_list}


def given_flags(*records: Any) -> list[str]:
    """Names of the options that differ from their defaults.

    Examples
    --------
    >>> given_flags(NeedleOptions(pitch=5.0), VolumeOptions())
    ['--pitch']
    """
    return [
        flag.name
        for record in records
        for field, flag, _, default in flags_of(type(record))
        if getattr(record, field) != default
    ]


def read_options(record: type[Record], given: Mapping[str, str]) -> Record:
    """A record from the cells of a list by column; what is not given keeps its default.

    Several values in a cell are separated by semicolons; yes and no stand for flags.

    Raises
    ------
    UsageError
        With the column whose text cannot be meant.

    Examples
    --------
    >>> read_options(NeedleOptions, {"needle-length": "120", "seed": "3"})
    NeedleOptions(pitch=None, direction=None, arrangement=None, access=None, needle_length=120.0, free=None)
    """
    values = {
        field: _value(kind, flag.column, given[flag.column])
        for field, flag, kind, _ in flags_of(record)
        if flag.in_list and flag.column in given
    }
    return record(**values)


def number(text: str, option: str) -> float:
    """A finite number, or a message that names the option."""
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{option}: '{text}' is not a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise UsageError(f"{option}: '{text}' is not a finite number")
    return value


def yes_or_no(text: str, option: str) -> bool:
    """A flag of a list.

    Examples
    --------
    >>> yes_or_no("Yes", "robust"), yes_or_no("0", "robust")
    (True, False)
    """
    value = text.lower()
    if value not in ("yes", "no", "true", "false", "1", "0"):
        raise UsageError(f"{option}: '{value[:20]}': write yes or no")
    return value in ("yes", "true", "1")


def _value(kind: Any, column: str, text: str) -> Any:
    """A cell as a value of a type such as `float | None`."""
    kinds = {each for each in get_args(kind) or (kind,) if each is not type(None)}
    if list[str] in kinds:
        return [part.strip() for part in text.split(";") if part.strip()]
    if bool in kinds:
        return yes_or_no(text, column)
    if int in kinds:
        if not text.isdecimal() or len(text) > 9:
            raise UsageError(f"{column}: '{text[:20]}' is no whole number")
        return int(text)
    if float in kinds:
        return number(text, column)
    return Path(text) if Path in kinds else text
