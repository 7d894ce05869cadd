"""`brachy verify`: post-implant dosimetry, and its summary on the terminal."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import AnyPlan, OutputOptions, flat_options, use_threads
from brachy.errors import UsageError
from brachy.patient.options import (
    AssessmentOptions,
    ImplantedSourceOptions,
    IntervalOptions,
    RegistrationOptions,
    SeedOptions,
)
from brachy.patient.overrides import case_name, verify_arguments

if TYPE_CHECKING:
    from brachy.postimplant.record import Compared, PostImplantRecord
    from brachy.postimplant.result import PostImplant

Say = Callable[[str], None]


@flat_options
def verify(
    first: AnyPlan,
    second: Annotated[
        str | None,
        typer.Argument(metavar="POSTOP", help="CT after the implant: a .dcm file, folder or zip, a volume."),
    ] = None,
    *,
    no_plan: Annotated[
        bool, typer.Option("--no-plan", help="As-implanted dosimetry alone: give POSTOP only.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder to write; default verify-NAME (with --json nothing is written)."
        ),
    ] = None,
    seeds: SeedOptions,
    registration: RegistrationOptions,
    source: ImplantedSourceOptions,
    assessment: AssessmentOptions,
    review: Annotated[
        bool,
        typer.Option(
            "--review", help="Also review.csv and a picture of each doubtful seed; correct, then --seeds."
        ),
    ] = False,
    intervals: IntervalOptions,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if a required goal is missed.")] = False,
    output: OutputOptions,
) -> int:
    """Dose an implant from its CT and compare it with the plan.

    Example: brachy verify plan-liver postop/ -o verify-liver
    """
    plan, post = _what(first, second, no_plan)
    if review and output.as_json and out is None:
        raise UsageError("--review writes files: give a folder with -o OUT")
    folder = out if out is not None else None if output.as_json else Path(f"verify-{case_name(post)}")
    use_threads(intervals.threads)
    from brachy.cli import console, warmup
    from brachy.output import postimplant_folder
    from brachy.output.plan_folder import check_destination
    from brachy.postimplant.verify import verify as compare

    if folder is not None:
        check_destination(folder, output.force)
    wanted = verify_arguments(seeds, registration, source, assessment, intervals)
    warmup.start("verify")
    with console.progress(quiet=output.as_json) as progress:
        found = compare(plan, post, progress=progress, **wanted)
        if output.anonymise:
            found = postimplant_folder.anonymised_post_implant(found)
        if folder is not None:
            progress("writing and checking")
            found = postimplant_folder.write_post_implant(found, folder, force=output.force, review=review)
    if output.as_json:
        sys.stdout.write(found.to_json())
    else:
        show(found, folder)
    if found.check.failed:
        return 1
    return 1 if strict and not found.goals_met else 0


def _what(first: str, second: str | None, no_plan: bool) -> tuple[str | None, str]:
    if no_plan:
        if second is not None:
            raise UsageError("--no-plan takes the CT after the implant alone: leave PLAN out")
        return None, first
    if second is None:
        raise UsageError("give PLAN and POSTOP, or POSTOP alone with --no-plan")
    return first, second


def show(found: "PostImplant", folder: Path | None) -> None:
    """Summary on the terminal: seeds, shifts, metrics beside the plan's, goals, cold spots, doubts, assumptions."""
    from brachy.cli import console
    from brachy.cli.plan_summary import goal_words
    from brachy.dosimetry.shown_metrics import Table, metrics_in
    from brachy.postimplant.record import Compared

    record = found.record.as_written()
    say, table, cell = console.say, console.table, console.cell
    _show_seeds(record, say)
    targets = {target.roi: target.prescription_gy for target in record.targets}
    shown = metrics_in(Table.TERMINAL_TARGETS)
    metrics = record.evaluation.structures
    rows = table(
        f"Targets ({found.model.formalism} dose to complete decay)", "ROI", "Rx Gy", *map(console.unit, shown)
    )
    for roi, rx in targets.items():
        found_values = [metrics[roi].get(name, Compared()) for name in shown]
        if any(value.planned is not None for value in found_values):
            rows.add_row(cell(f"{roi}, planned"), cell(rx), *(cell(value.planned) for value in found_values))
        rows.add_row(cell(f"{roi}, as implanted"), cell(rx), *(cell(value.actual) for value in found_values))
        if any(value.difference is not None for value in found_values):
            rows.add_row(
                cell(f"{roi}, difference"), cell(rx), *(cell(_signed(value)) for value in found_values)
            )
    console.show(rows)
    organs = [roi for roi in metrics if roi not in targets]
    if organs:
        names = metrics_in(Table.TERMINAL_ORGANS)
        rows = table("Organs as implanted (planned)", "ROI", *map(console.unit, names))
        for roi in organs:
            rows.add_row(cell(roi), *(cell(_beside(metrics[roi].get(name, Compared()))) for name in names))
        console.show(rows)
    for roi in targets:
        _show_target(record, roi, say)
        rows = table(f"Sectors of {roi}", "sector", "cc", "D90 Gy", "V100 %", "min Gy")
        for row in record.sectors[roi]:
            rows.add_row(*map(cell, (row.sector, row.volume_cc, row.D90_gy, row.V100_pct, row.min_gy)))
        console.show(rows)
    for goal in record.goals:
        value = "" if goal.value is None else f"{goal.value:.4g}, "
        say(f"goal: {goal.roi} {goal.metric} {goal.op} {goal.limit:g}: {value}{goal_words(goal)}")
    for doubt in record.doubts:
        which = f"seed {doubt.seed + 1}" if doubt.seed is not None else "no seed"
        say(f"doubt: {which} at {_place(doubt.position_mm)}: {doubt.reason}")
    for word, sentences in (
        ("warning", record.warnings),
        ("assumed", record.assumed),
        ("limit", record.limits),
    ):
        for sentence in sentences:
            say(f"{word}: {sentence}")
    if found.check.made:
        say(f"independent check on the files: {found.check.words}")
    say("Not a medical device: for research and education.")
    if folder is not None:
        say(f"wrote {folder}")


def _show_seeds(record: "PostImplantRecord", say: Say) -> None:
    shifts, registration = record.shifts, record.registration
    if shifts is None or registration is None:
        say(f"{len(record.seeds)} seeds; no plan to compare with")
    else:
        say(f"registration: {registration.method}, {registration.note}")
        for other in registration.agreement:
            apart = "refused" if other.apart_mm is None else f"{other.apart_mm:.1f} mm apart at most"
            say(f"  by {other.method}: {apart}; {other.note}")
        say(
            f"seeds: {shifts.planned} planned, {shifts.found} found, {shifts.matched} matched; "
            f"{shifts.missing} missing, {shifts.extra} extra: {shifts.lost} lost, {shifts.migrated} migrated"
        )
        every = shifts.all
        if every.systematic_mm is not None:
            say(
                f"shifts: mean {every.mean_mm:.2f} mm, largest {every.max_mm:.2f} mm; systematic "
                f"{_place(every.systematic_mm)}, random {every.random_mm:.2f} mm RMS"
            )
        if record.missing:
            say(f"missing: {', '.join(record.missing)}")
        for k in record.extra:
            say(f"extra: seed {k + 1} at {_place(record.seeds[k].position_mm)}")
    for rule in record.rules:
        where = f" ({rule.where})" if rule.where else ""
        count = "not checked" if rule.worst is None or rule.status == "not checked" else f"{rule.worst:g}"
        say(f"{rule.rule}: {count}{where}")


def _show_target(record: "PostImplantRecord", roi: str, say: Say) -> None:
    from brachy.dosimetry.shown_metrics import UNCERTAIN, symbol_and_unit

    found = record.intervals.get(roi, {})
    for name in UNCERTAIN:
        if name in found:
            _, unit = symbol_and_unit(name)
            low, high, level = found[name]
            say(f"{roi}: {name} within {low:.1f} to {high:.1f} {unit} ({100 * level:g} %)")
    cold = record.cold_spots[roi]
    say(f"{roi}: {cold.volume_cc:.2f} cc below the prescription in {cold.count} places")
    for spot in cold.spots[:5]:
        say(
            f"  {spot.volume_cc:.2f} cc, {spot.sector}, centre {_place(spot.centre_mm)}, "
            f"least {spot.min_gy:.0f} Gy at {_place(spot.min_at_mm)}"
        )
    further = record.further_seed[roi]
    if further is not None:
        before, after = further.V100_pct
        say(
            f"  a further seed helps most at {_place(further.position_mm)} ({further.sector}): "
            f"{further.lifted_cc:.2f} cc, V100 {before:.1f} to {after:.1f} %"
        )


def _signed(value: "Compared") -> str | None:
    return None if value.difference is None else f"{value.difference:+.2f}".replace("-0.00", "+0.00")


def _beside(value: "Compared") -> str | float | None:
    actual, planned = value.actual, value.planned
    if actual is None or planned is None:
        return actual
    now, then = (f"{each:.3g}" if abs(each) < 100 else f"{each:.1f}" for each in (actual, planned))
    return f"{now} ({then})"


def _place(mm: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in mm) + ") mm"
