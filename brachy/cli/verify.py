"""`brachy verify`: options in, exit code out, and what is shown of an implant."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import AnonymiseFlag
from brachy.errors import UsageError
from brachy.patient.overrides import case_name, date_of, targets_of

if TYPE_CHECKING:
    from brachy.postimplant.record import Compared, PostImplantRecord
    from brachy.postimplant.result import PostImplant

Say = Callable[[str], None]


def verify(
    first: Annotated[
        str, typer.Argument(metavar="PLAN", help="Plan folder, plan.json or a permanent-seed RTPLAN.")
    ],
    second: Annotated[
        str | None,
        typer.Argument(metavar="POSTOP", help="CT after the implant: a .dcm file, folder or zip, a volume."),
    ] = None,
    no_plan: Annotated[
        bool, typer.Option("--no-plan", help="As-implanted dosimetry alone: give POSTOP only.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder to write; default verify-NAME (with --json nothing is written)."
        ),
    ] = None,
    seeds: Annotated[
        Path | None,
        typer.Option(
            "--seeds", metavar="FILE", help="Seeds as given: a CSV (seeds.csv, review.csv) or an RTPLAN."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", help="Seeds implanted; to warn, never to fill.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region",
            metavar="ROI",
            help="Look for seeds round this ROI (`target`: the targets), not on the whole CT.",
        ),
    ] = None,
    register: Annotated[
        str,
        typer.Option(
            "--register", metavar="auto|frame|image|seeds|FILE", help="How the plan lies on the CT."
        ),
    ] = "auto",
    planning_ct: Annotated[
        str | None,
        typer.Option(
            "--planning-ct", metavar="CASE", help="Planning CT with structures, for --register image."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="MODEL|FILE", help="Seed model, see `brachy sources`.")
    ] = None,
    accept_unverified: Annotated[
        bool,
        typer.Option(
            "--accept-unverified", help="Also use a seed model whose tables were seen in one place only."
        ),
    ] = False,
    strength: Annotated[
        float | None,
        typer.Option("--strength", metavar="U", help="Air-kerma strength of a seed at implantation."),
    ] = None,
    implant_on: Annotated[
        str | None, typer.Option("--implant-on", metavar="DATE", help="YYYY-MM-DD of the implantation.")
    ] = None,
    prescription: Annotated[
        float | None, typer.Option("--prescription", metavar="GY", help="Instead of the protocol's.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="ROI[=GY]", help="Target ROI; may be repeated.")
    ] = None,
    formalism: Annotated[
        str | None, typer.Option("--formalism", metavar="1D|2D", help="TG-43 point (1D) or line source (2D).")
    ] = None,
    gate: Annotated[
        float, typer.Option("--gate", metavar="MM", help="Farthest that a seed is followed.")
    ] = 10.0,
    margin: Annotated[
        float, typer.Option("--margin", metavar="MM", help="Seeds farther outside the target are listed.")
    ] = 5.0,
    contour_sd: Annotated[
        float,
        typer.Option("--contour-sd", metavar="MM", help="SD of the target's contour, for the intervals."),
    ] = 0.0,
    sectors: Annotated[
        str, typer.Option("--sectors", metavar="auto|octants|prostate", help="Sectors of the target.")
    ] = "auto",
    other_patient: Annotated[
        bool, typer.Option("--other-patient", help="Compare although the patient IDs differ.")
    ] = False,
    review: Annotated[
        bool,
        typer.Option(
            "--review", help="Also review.csv and a picture of each doubtful seed; correct, then --seeds."
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the intervals.")] = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="By default one for each core.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if a required goal is missed.")] = False,
    anonymise: AnonymiseFlag = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")
    ] = False,
) -> int:
    """Dose an implant from its CT and compare it with the plan.

    Example: brachy verify plan-liver postop/ -o verify-liver
    """
    plan, post = _what(first, second, no_plan)
    if review and as_json and out is None:
        raise UsageError("--review writes files: give a folder with -o OUT")
    folder = out if out is not None else None if as_json else Path(f"verify-{case_name(post)}")
    if threads is not None:
        import numba

        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    from brachy.cli import console
    from brachy.output import postimplant_folder
    from brachy.output.plan_folder import check_destination
    from brachy.postimplant.verify import verify as compare

    if folder is not None:
        check_destination(folder, force)
    with console.progress(quiet=as_json) as progress:
        found = compare(
            plan, post, seeds=seeds, count=count, region=region, register=register, planning_case=planning_ct,
            source=source, strength_U=strength, prescription_gy=prescription, targets=targets_of(target),
            implant_on=date_of(implant_on, "--implant-on"), formalism=formalism, gate_mm=gate, margin_mm=margin,
            contour_sd_mm=contour_sd, sectors=sectors, other_patient=other_patient,
            accept_unverified=accept_unverified, seed=seed, progress=progress,
        )  # fmt: skip
        if anonymise:
            found = postimplant_folder.anonymised_post_implant(found)
        if folder is not None:
            progress("writing and checking")
            found = postimplant_folder.write_post_implant(found, folder, force=force, review=review)
    if as_json:
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
    from brachy.dosimetry.shown_metrics import Table, metrics_in
    from brachy.postimplant.record import Compared

    record = found.record.as_written()
    say, table, cell = console.say, console.table, console.cell
    _show_seeds(record, say)
    targets = {target.roi: target.prescription_gy for target in record.targets}
    shown = metrics_in(Table.TERMINAL_TARGETS)
    metrics = record.evaluation.structures
    rows = table(
        f"Targets ({found.formalism} dose to complete decay)", "ROI", "Rx Gy", *map(console.unit, shown)
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
        met = "met" if goal.met else "MISSED" if goal.required else "missed (an aim)"
        say(f"goal: {goal.roi} {goal.metric} {goal.op} {goal.limit:g}: {goal.value:.4g}, {met}")
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
        say(f"second opinion on the files: {found.check.verdict}")
    say("Not a medical device: for research and education.")
    if folder is not None:
        say(f"wrote {folder}")


def _show_seeds(record: "PostImplantRecord", say: Say) -> None:
    shifts, registration = record.shifts, record.registration
    if shifts is None or registration is None:
        say(f"{len(record.seeds)} seeds; no plan to compare with")
    else:
        say(f"registration: {registration.method}, {registration.note}")
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
    if record.outside:
        listed = ", ".join(str(k + 1) for k in record.outside)
        say(f"more than {record.margin_mm:g} mm outside every target: seeds {listed}")
    for roi, held in record.in_organs.items():
        say(f"in {roi}: seeds {', '.join(str(k + 1) for k in held)}")


def _show_target(record: "PostImplantRecord", roi: str, say: Say) -> None:
    from brachy.dosimetry.shown_metrics import UNCERTAIN, symbol_and_unit

    found = record.intervals[roi]
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
