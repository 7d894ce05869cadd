"""`brachy plan`: a case in, a folder out."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from brachy.cli.flags import (
    OutputOptions,
    PrintedTemplateOption,
    VerboseOption,
    flat_options,
    print_note,
    use_threads,
)
from brachy.errors import UsageError
from brachy.patient.options import (
    NeedleOptions,
    PlanSearchOptions,
    PrescriptionOptions,
    SourceOptions,
    VariantOptions,
    VolumeOptions,
    given_flags,
)
from brachy.patient.overrides import (
    case_name,
    changed_protocol,
    masks_of,
    must_be_rois,
    planner_arguments,
    time_limit_of,
)

if TYPE_CHECKING:
    from brachy.cli.console import Progress
    from brachy.patient.case import Case
    from brachy.patient.plan import Plan


@dataclass(frozen=True)
class EditOptions:
    """A plan that is changed by hand instead of made anew."""

    edited: Annotated[
        Path | None,
        typer.Option("--from", metavar="PLAN", help="Change this plan of the same case, with --edit."),
    ] = None
    edit: Annotated[
        Path | None,
        typer.Option(
            "--edit", metavar="CSV", help="Seeds and needles to add, move or remove (docs/formats.md)."
        ),
    ] = None
    optimise_rest: Annotated[
        bool, typer.Option("--optimise-rest", help="Fix the edited needles and optimise all others again.")
    ] = False


@flat_options
def plan(
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="A .dcm file, folder or zip; a CT volume; a phantom.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder to write; default plan-NAME (with --json nothing is written)."
        ),
    ] = None,
    prescription: PrescriptionOptions,
    source: SourceOptions,
    needle: NeedleOptions,
    volume: VolumeOptions,
    search: PlanSearchOptions,
    guide: PrintedTemplateOption = None,
    edit: EditOptions,
    variant: VariantOptions,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if a required goal or a rule is missed.")
    ] = False,
    verbose: VerboseOption = False,
    output: OutputOptions,
) -> int:
    """Plan an implant: case in, folder out.

    Example: brachy plan liver-metastasis -o plan-liver
    """
    given = given_flags(prescription, source, needle, variant)
    _must_agree(edit, [name for name in given if name != "--accept-unverified"])
    if variant.robust and variant.alternatives is not None:
        raise UsageError("--robust and --alternatives exclude each other: plan twice")
    use_threads(search.threads)
    time_limit_of(search.time_limit)
    protocol = changed_protocol(prescription, source, needle)
    from brachy.output.printed_template import printed_template_options

    measures = printed_template_options(guide, protocol.needle.radius_mm)
    folder = out if out is not None else None if output.as_json else Path(f"plan-{case_name(case)}")

    from brachy import optimise
    from brachy.cli import console, plan_summary, warmup
    from brachy.io import load
    from brachy.output import plan_folder
    from brachy.patient import privacy
    from brachy.patient.lineage import ancestors_for_child
    from brachy.patient.plan import Plan

    if folder is not None:
        plan_folder.check_destination(folder, output.force)
    warmup.start("plan")
    with console.progress(quiet=output.as_json):
        loaded = load.load_case(case, masks=masks_of(volume.mask))
    must_be_rois(needle.free, loaded)
    if output.anonymise:
        loaded = privacy.anonymised(loaded)
    count = variant.alternatives
    if count is not None and folder is None:
        raise UsageError("--alternatives writes a folder: give -o OUT beside --json")
    with console.progress(quiet=output.as_json) as progress:
        if edit.edited is not None:
            named = [("edited", _edited(edit, loaded, search, output.anonymise, progress))]
        else:
            wanted = planner_arguments(prescription, source, search, variant) | {"progress": progress}
            if count is None:
                named = [("plan", optimise.plan(loaded, protocol, **wanted))]
            else:
                del wanted["robust"]  # refused above together with alternatives
                named = optimise.plan_alternatives(loaded, protocol, count, **wanted)
    made = named[0][1]
    if folder is not None:
        if count is None:
            ancestors = ancestors_for_child(edit.edited) if edit.edited is not None else ()
            plan_folder.write_outputs(
                made, loaded, folder, force=output.force, printed_template=measures, ancestors=ancestors,
                robust=variant.robust, threads=search.threads, say=print_note,
            )  # fmt: skip
        else:
            plan_folder.write_alternatives(
                named, loaded, folder, force=output.force, printed_template=measures, say=print_note
            )
        made = Plan.load(folder)
    if output.as_json:
        sys.stdout.write(made.to_json())
    else:
        plan_summary.show_plan(made, folder, full=verbose)
        if count is not None:
            plan_summary.show_alternatives(named, count)
    if made.check.failed:
        return 1
    return _verdict(made) if strict else 0


def _must_agree(edit: EditOptions, given: list[str]) -> None:
    """Refuse --from without --edit, one of them alone, and options that the plan itself answers."""
    if edit.edited is None and edit.edit is None:
        if edit.optimise_rest:
            raise UsageError("--optimise-rest goes with --from PLAN --edit CSV")
        return
    if edit.edited is None or edit.edit is None:
        raise UsageError("--from PLAN and --edit CSV go together: give both")
    if given:
        raise UsageError(
            f"{given[0]} cannot be changed in a plan that is edited: plan again, or leave it out"
        )


def _edited(
    edit: EditOptions, case: "Case", search: PlanSearchOptions, anonymise: bool, progress: "Progress"
) -> "Plan":
    """The plan of --from with the changes of --edit."""
    from brachy import optimise
    from brachy.optimise.replanning.edits import read_edits
    from brachy.patient import privacy
    from brachy.patient.plan import Plan

    assert edit.edited is not None
    assert edit.edit is not None
    before = Plan.load(edit.edited)
    if anonymise:
        privacy.must_be_nameless(before, str(edit.edited))
    return optimise.plan_edited(
        before, case, read_edits(edit.edit, before), optimise_rest=edit.optimise_rest, seed=search.seed,
        threads=search.threads, time_limit=search.time_limit, progress=progress,
    )  # fmt: skip


def _verdict(made: "Plan") -> int:
    """Exit code of --strict."""
    unmet = [
        g for g in made.evaluation.goals if g.required and not g.met
    ]  # a goal that is not checked is not met
    broken = [r for r in made.rules if r.broken]
    return 1 if unmet or broken else 0
