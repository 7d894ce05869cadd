"""`brachy plan`: options in, a folder out."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brachy.cli.flags import (
    AnonymiseFlag,
    ForceFlag,
    FormalismOption,
    GuideOption,
    JsonFlag,
    SourceOption,
    UnverifiedFlag,
    say_note,
    use_threads,
)
from brachy.errors import UsageError
from brachy.patient.overrides import case_name, changed_protocol, date_of, masks_of, targets_of

if TYPE_CHECKING:
    from brachy.patient.plan import Plan

DEFAULT_PROTOCOL = "liver-metastasis"


def plan(
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="A .dcm file, folder or zip; a CT volume; a phantom.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder to write; default plan-NAME (with --json nothing is written)."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option("--protocol", metavar="NAME|FILE", help="Planning protocol, see `brachy protocols`."),
    ] = DEFAULT_PROTOCOL,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="ROI[=GY]", help="Target ROI; may be repeated.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", metavar="MM", help="3D expansion of the target.")
    ] = None,
    prescription: Annotated[
        float | None, typer.Option("--prescription", metavar="GY", help="Instead of the protocol's.")
    ] = None,
    source: SourceOption = None,
    accept_unverified: UnverifiedFlag = False,
    activity: Annotated[
        str | None,
        typer.Option(
            "--activity",
            metavar="MCI",
            help="Apparent activity of a seed; or 25.9MBq, '0.945 mCi contained'.",
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option("--strength", metavar="U", help="Air-kerma strength of a seed.")
    ] = None,
    strength_on: Annotated[
        str | None,
        typer.Option("--strength-on", metavar="DATE", help="YYYY-MM-DD the strength is stated for."),
    ] = None,
    implant_on: Annotated[
        str | None, typer.Option("--implant-on", metavar="DATE", help="YYYY-MM-DD of the implantation.")
    ] = None,
    formalism: FormalismOption = None,
    pitch: Annotated[
        float | None, typer.Option("--pitch", metavar="MM", help="Distance of the holes.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option("--direction", metavar="AZ[,TILT]", help="Needle direction in degrees.")
    ] = None,
    needle_length: Annotated[
        float | None, typer.Option("--needle-length", metavar="MM", help="Longest path from hole to tip.")
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option("--mask", metavar="NAME=FILE", help="Structure of a CT volume.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the search; the same seed, the same plan.")
    ] = 0,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="By default one for each core.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", metavar="S", help="Stop the search; gives up reproducibility."),
    ] = None,
    guide: GuideOption = None,
    edited: Annotated[
        Path | None,
        typer.Option("--from", metavar="PLAN", help="Change this plan of the same case, with --edit."),
    ] = None,
    edit: Annotated[
        Path | None,
        typer.Option(
            "--edit", metavar="CSV", help="Seeds and needles to add, move or remove (docs/formats.md)."
        ),
    ] = None,
    optimise_rest: Annotated[
        bool, typer.Option("--optimise-rest", help="Fix the edited needles and optimise all others again.")
    ] = False,
    alternatives: Annotated[
        int | None,
        typer.Option(
            "--alternatives",
            metavar="N",
            min=1,
            help="N different good plans (fewest needles, most homogeneous ...), in one table and a folder each.",
        ),
    ] = None,
    robust: Annotated[
        bool,
        typer.Option(
            "--robust", help="Cover the target when needles deviate too; writes robust.json (docs/robust.md)."
        ),
    ] = False,
    certify: Annotated[
        bool, typer.Option("--certify", help="Also state how far from the best the plan may be, at most.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if a required goal or a rule is missed.")
    ] = False,
    anonymise: AnonymiseFlag = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> int:
    """Plan an implant: case in, folder out.

    Example: brachy plan liver-metastasis -o plan-liver
    """
    given = {
        "--target": target, "--margin": margin, "--prescription": prescription, "--source": source,
        "--activity": activity, "--strength": strength, "--strength-on": strength_on, "--implant-on": implant_on,
        "--formalism": formalism, "--pitch": pitch, "--direction": direction, "--needle-length": needle_length,
        "--alternatives": alternatives, "--certify": certify or None,
        "--robust": robust or None,
        "--protocol": None if protocol == DEFAULT_PROTOCOL else protocol,
    }  # fmt: skip
    _must_agree(edited, edit, optimise_rest, [name for name, value in given.items() if value is not None])
    if robust and alternatives is not None:
        raise UsageError("--robust and --alternatives exclude each other: plan twice")
    use_threads(threads)
    if time_limit is not None and not time_limit > 0:
        raise UsageError(f"--time-limit {time_limit:g}: give seconds above 0")
    chosen = changed_protocol(
        protocol, margin, prescription, source, activity, strength, formalism, pitch, direction, needle_length,
        accept_unverified,
    )  # fmt: skip
    from brachy.output.printed_template import guide_of

    measures = guide_of(guide, chosen.needle.radius_mm)
    folder = out if out is not None else None if as_json else Path(f"plan-{case_name(case)}")

    from brachy import optimise
    from brachy.cli import console
    from brachy.io import load
    from brachy.output import plan_folder
    from brachy.patient import privacy
    from brachy.patient.lineage import ancestors_for_child
    from brachy.patient.plan import Plan

    if folder is not None:
        plan_folder.check_destination(folder, force)
    loaded = load.load_case(case, masks=masks_of(mask))
    if anonymise:
        loaded = privacy.anonymised(loaded)
    if alternatives is not None and folder is None:
        raise UsageError("--alternatives writes a folder: give -o OUT beside --json")
    with console.progress(quiet=as_json) as progress:
        if edited is not None and edit is not None:
            from brachy.optimise.replanning.edits import read_edits

            before = Plan.load(edited)
            if anonymise:
                privacy.must_be_nameless(before, str(edited))
            found = optimise.plan_edited(
                before,
                loaded,
                read_edits(edit, before),
                optimise_rest=optimise_rest,
                seed=seed,
                threads=threads,
                time_limit=time_limit,
                progress=progress,
            )
            named = [("edited", found)]
        else:
            wanted: dict[str, Any] = {
                "targets": targets_of(target),
                "strength_on": date_of(strength_on, "--strength-on"),
                "implant_on": date_of(implant_on, "--implant-on"),
                "seed": seed,
                "threads": threads,
                "time_limit": time_limit,
                "progress": progress,
                "certify": certify,
            }
            if robust:
                named = [("robust", optimise.plan(loaded, chosen, robust=True, **wanted))]
            else:
                named = optimise.plan_alternatives(loaded, chosen, alternatives or 1, **wanted)
    made = named[0][1]
    if folder is not None:
        if alternatives is None:
            ancestors = ancestors_for_child(edited) if edited is not None else ()
            plan_folder.write_outputs(
                made, loaded, folder, force=force, guide=measures, ancestors=ancestors, robust=robust,
                threads=threads, say=say_note,
            )  # fmt: skip
        else:
            plan_folder.write_alternatives(named, loaded, folder, force=force, guide=measures, say=say_note)
        made = Plan.load(folder)
    if as_json:
        sys.stdout.write(made.to_json())
    else:
        console.show_plan(made, folder)
        if alternatives is not None:
            console.show_alternatives(named, alternatives)
    if made.check.failed:
        return 1
    return _verdict(made) if strict else 0


def _must_agree(edited: Path | None, edit: Path | None, optimise_rest: bool, given: Sequence[str]) -> None:
    """Refuse --from without --edit, one of them alone, and options that the plan itself answers."""
    if edited is None and edit is None:
        if optimise_rest:
            raise UsageError("--optimise-rest goes with --from PLAN --edit CSV")
        return
    if edited is None or edit is None:
        raise UsageError("--from PLAN and --edit CSV go together: give both")
    if given:
        raise UsageError(
            f"{given[0]} cannot be changed in a plan that is edited: plan again, or leave it out"
        )


def _verdict(made: "Plan") -> int:
    missed = [g for g in made.evaluation.goals if g.required and not g.met]
    broken = [r for r in made.rules if not r.met]
    return 1 if missed or broken else 0
