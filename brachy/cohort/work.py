"""One case of a cohort, from its row to its metrics: what runs on a worker."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from brachy.cohort.records import CaseRecord, Metric
from brachy.dosimetry.shown_metrics import UNCERTAIN, Table, metrics_in
from brachy.errors import BrachyError
from brachy.patient import overrides
from brachy.patient.evaluation_record import RuleCounts, all_met
from brachy.patient.options import (
    AssessmentOptions,
    DeviationOptions,
    ImplantedSourceOptions,
    IntervalOptions,
    NeedleOptions,
    PlanSearchOptions,
    PrescriptionOptions,
    RegistrationOptions,
    ScenarioOptions,
    SeedOptions,
    SourceOptions,
    VariantOptions,
    VolumeOptions,
    read_options,
    yes_or_no,
)
from brachy.version import __version__


def run_case(
    verb: str, number: int, case: str, given: Sequence[tuple[str, str]], keep: str = ""
) -> CaseRecord:
    """Plan, verify or Monte Carlo of one case on one thread.

    Parameters
    ----------
    verb : {"plan", "verify", "robust"}
        What to do.
    number : int
        Of the row.
    case : str
        What the verb takes; of verify the CT after the implant.
    given : sequence of (option, text)
        As in the list.
    keep : str, optional
        Folder in which the verb's own output is written as a folder NUMBER; it must be one that the worker can write.

    Returns
    -------
    CaseRecord
        Done, or failed with a reason; never an exception, so that one bad case is one bad row.
    """
    import numba

    numba.set_num_threads(1)
    started = time.monotonic()
    row = {"row": number, "case": case, "options": dict(given), "software": f"brachy {__version__}"}

    def seconds() -> float:
        return round(time.monotonic() - started, 3)

    try:
        found = {"plan": _plan, "verify": _verify, "robust": _robust}[verb](
            case, dict(given), _folder(keep, number)
        )
        done = {
            "status": "done",
            "reason": "",
            "patient_id": found.patient_id,
            "target": found.target,
            "structures": found.structures,
            "metrics": found.metrics,
        }
        return CaseRecord.model_validate({**row, **done, "seconds": seconds()})
    except BrachyError as error:
        reason = str(error)
    except MemoryError:
        reason = "out of memory: fewer workers leave more to each"
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        reason = f"internal error, please report it: {line[:500]}"
    return CaseRecord.model_validate({**row, "status": "failed", "reason": reason, "seconds": seconds()})


@dataclass(frozen=True)
class _Found:
    """What a command gives for a case: patient, first target, metrics of all structures, and columns of the table."""

    patient_id: str
    target: str
    structures: Mapping[str, Mapping[str, float | None]]
    metrics: Mapping[str, Metric]


def _folder(keep: str, number: int) -> Path | None:
    return Path(keep) / f"{number:06d}" if keep else None


def _plan(case: str, given: dict[str, str], folder: Path | None) -> _Found:
    from brachy import optimise
    from brachy.io import load
    from brachy.output import plan_folder
    from brachy.patient import privacy

    prescription, source, needle, volume, search, variant = (
        read_options(PrescriptionOptions, given),
        read_options(SourceOptions, given),
        read_options(NeedleOptions, given),
        read_options(VolumeOptions, given),
        read_options(PlanSearchOptions, given),
        read_options(VariantOptions, given),
    )
    protocol = overrides.changed_protocol(prescription, source, needle)
    loaded = load.load_case(case, masks=overrides.masks_of(volume.mask))
    overrides.must_be_rois(needle.free, loaded)
    if _anonymise(given):
        loaded = privacy.anonymised(loaded)
    wanted = overrides.planner_arguments(prescription, source, search, variant) | {"threads": 1}
    made = optimise.plan(loaded, protocol, **wanted)
    if folder is not None:
        plan_folder.write_outputs(made, loaded, folder, force=True)
    target = made.targets[0]
    structures = made.evaluation.structures
    verdicts = [goal.met for goal in made.evaluation.goals if goal.required]
    rules = RuleCounts.of(made.rules)
    return _Found(
        made.case.patient_id,
        target.roi,
        structures,
        {
            "prescription_gy": target.prescription_gy,
            "volume_cc": target.planned_volume_cc,
            **_of(structures.get(target.planned_roi) or structures.get(target.roi, {})),
            "seeds": made.seed_count,
            "needles": len(made.needles),
            "activity_mCi": sum(made.sources[s.source].apparent_activity_mCi for n in made.needles for s in n.seeds),
            "objective": made.optimiser.objective,
            "goals_met": all_met(verdicts),
            "rules_kept": rules.kept,
            "rules_broken": rules.broken,
            "rules_reported": rules.reported,
            "rules_not_checked": rules.not_checked,
        },
    )  # fmt: skip


def _verify(case: str, given: dict[str, str], folder: Path | None) -> _Found:
    from brachy.output import postimplant_folder
    from brachy.postimplant.verify import verify

    wanted = overrides.verify_arguments(
        read_options(SeedOptions, given),
        read_options(RegistrationOptions, given),
        read_options(ImplantedSourceOptions, given),
        read_options(AssessmentOptions, given),
        read_options(IntervalOptions, given),
    )
    found = verify(given.get("plan"), case, **wanted)
    if _anonymise(given):
        found = postimplant_folder.anonymised_post_implant(found)
    if folder is not None:
        postimplant_folder.write_post_implant(found, folder, force=True)
    record = found.record.as_written()
    target = record.targets[0]
    metrics = record.evaluation.structures
    structures = {
        roi: {name: value.actual for name, value in values.items()} for roi, values in metrics.items()
    }
    for roi in record.withheld:  # such doses say nothing of the implant, and a table has no place to say so
        if roi in structures:
            structures[roi] = {"volume_cc": structures[roi].get("volume_cc")}
    own = metrics[target.roi]
    planned = {f"planned_{name}": own[name].planned if name in own else None for name in UNCERTAIN}
    shifts = record.shifts
    return _Found(
        record.case.patient_id,
        target.roi,
        structures,
        {
            "prescription_gy": target.prescription_gy,
            **_of(structures[target.roi]),
            **planned,
            "volume_cc": structures[target.roi].get("volume_cc"),
            "seeds": len(record.seeds),
            "missing": None if shifts is None else shifts.missing,
            "mean_shift_mm": None if shifts is None else shifts.all.mean_mm,
            "goals_met": found.goals_met,
        },
    )


def _robust(case: str, given: dict[str, str], folder: Path | None) -> _Found:
    from brachy.evaluation.robustness import robust_folder
    from brachy.output import plan_folder
    from brachy.patient.plan import Plan
    from brachy.patient.privacy import PREFIX

    deviation, scenarios = read_options(DeviationOptions, given), read_options(ScenarioOptions, given)
    found = robust_folder(
        case, samples=deviation.samples, seed=scenarios.seed, uncertainty=deviation.uncertainty, threads=1
    )
    if folder is not None:
        plan_folder.write_texts({"robust.json": found.to_json()}, folder, force=True)
    plan = Plan.load(Path(case))
    target = plan.targets[0]
    rows = found.intervals[target.planned_roi]
    metrics: dict[str, Metric] = {
        "prescription_gy": target.prescription_gy,
        "volume_cc": target.planned_volume_cc,
    }
    for name in metrics_in(Table.COHORT_ROBUST):
        row = rows[name]
        metrics |= {
            name: row.nominal,
            f"{name}_mean": row.mean,
            f"{name}_sd": row.sd,
            f"{name}_p2_5": row.p2_5,
            f"{name}_p97_5": row.p97_5,
        }
    for goal in found.goals:
        metrics.setdefault(f"probability {goal.metric} {goal.op} {goal.limit:g}", goal.probability)
    metrics |= {"seeds": plan.seed_count, "needles": len(plan.needles)}
    patient = plan.case.patient_id
    return _Found(
        patient if patient.startswith(PREFIX) or not _anonymise(given) else "",
        target.roi,
        found.nominal,
        metrics,
    )


def _of(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: values.get(name) for name in metrics_in(Table.COHORT)}


def _anonymise(given: dict[str, str]) -> bool:
    """Whether the cohort is run with --anonymise, which is no column of a list but given with each row."""
    return yes_or_no(given.get("anonymise", "no"), "anonymise")


def version() -> str:
    """The program's version, as a worker has it."""
    return __version__
