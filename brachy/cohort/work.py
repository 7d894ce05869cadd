"""One case of a cohort, from its row to its metrics: what runs on a worker."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brachy.dosimetry.shown_metrics import UNCERTAIN, Table, metrics_in
from brachy.errors import BrachyError, UsageError
from brachy.patient import overrides
from brachy.version import __version__


def run_case(
    verb: str, number: int, case: str, given: Sequence[tuple[str, str]], keep: str = ""
) -> dict[str, Any]:
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
    dict
        `status` "done" with `metrics` (numbers by name, of the first target) and `structures`, or "failed" with a
        `reason` of one line; never an exception, so that one bad case is one bad row.
    """
    import numba

    numba.set_num_threads(1)
    started = time.monotonic()
    record: dict[str, Any] = {
        "row": number,
        "case": case,
        "options": dict(given),
        "software": f"brachy {__version__}",
    }
    try:
        found = {"plan": _plan, "verify": _verify, "robust": _robust}[verb](
            case, dict(given), _folder(keep, number)
        )
        record |= {"status": "done", "reason": ""} | found
    except BrachyError as error:
        record |= {"status": "failed", "reason": str(error)}
    except MemoryError:
        record |= {"status": "failed", "reason": "out of memory: fewer workers leave more to each"}
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        record |= {"status": "failed", "reason": f"internal error, please report it: {line[:500]}"}
    record["seconds"] = round(time.monotonic() - started, 3)
    return record


def _folder(keep: str, number: int) -> Path | None:
    return Path(keep) / f"{number:06d}" if keep else None


def _plan(case: str, given: dict[str, str], folder: Path | None) -> dict[str, Any]:
    from brachy import optimise
    from brachy.io import load
    from brachy.output import plan_folder
    from brachy.patient import privacy

    text, number = given.get, _number(given)
    protocol = overrides.changed_protocol(
        text("protocol", "liver-metastasis"), number("margin"), number("prescription"), text("source"),
        text("activity"),
        number("strength"), text("formalism"), number("pitch"), text("direction"), number("needle-length"),
        _flag(given, "accept-unverified"),
    )  # fmt: skip
    loaded = load.load_case(case, masks=overrides.masks_of(_several(given, "mask")))
    if _flag(given, "anonymise"):
        loaded = privacy.anonymised(loaded)
    made = optimise.plan(
        loaded,
        protocol,
        targets=overrides.targets_of(_several(given, "target")),
        strength_on=overrides.date_of(text("strength-on"), "strength-on"),
        implant_on=overrides.date_of(text("implant-on"), "implant-on"),
        seed=_whole(given, "seed"),
        threads=1,
        robust=_flag(given, "robust"),
    )
    if folder is not None:
        plan_folder.write_outputs(made, loaded, folder, force=True)
    target = made.targets[0]
    structures = made.evaluation.structures
    missed = [f"{g.roi} {g.metric}" for g in made.evaluation.goals if g.required and not g.met]
    return {
        "patient_id": made.case.patient_id,
        "target": target.roi,
        "structures": structures,
        "metrics": {
            "prescription_gy": target.prescription_gy,
            "volume_cc": target.planned_volume_cc,
            **_of(structures.get(target.planned_roi) or structures.get(target.roi, {})),
            "seeds": made.seed_count,
            "needles": len(made.needles),
            "activity_mCi": sum(made.sources[s.source].apparent_activity_mCi for n in made.needles for s in n.seeds),
            "objective": made.optimiser.get("objective"),
            "goals_met": not missed,
            "rules_kept": all(rule.met for rule in made.rules),
        },
    }  # fmt: skip


def _verify(case: str, given: dict[str, str], folder: Path | None) -> dict[str, Any]:
    from brachy.output import postimplant_folder
    from brachy.postimplant.verify import verify

    text, number = given.get, _number(given)
    named = (("gate_mm", "gate"), ("margin_mm", "margin"), ("contour_sd_mm", "contour-sd"))
    lengths = {name: number(option) for name, option in named if option in given}
    found = verify(
        text("plan"), case, seeds=text("seeds"), count=_whole(given, "count", None), region=text("region"),
        register=text("register", "auto"), planning_case=text("planning-ct"), source=text("source"),
        strength_U=number("strength"), prescription_gy=number("prescription"),
        targets=overrides.targets_of(_several(given, "target")),
        implant_on=overrides.date_of(text("implant-on"), "implant-on"), formalism=text("formalism"),
        accept_unverified=_flag(given, "accept-unverified"), other_patient=_flag(given, "other-patient"),
        seed=_whole(given, "seed"),
        **lengths,
    )  # fmt: skip
    if _flag(given, "anonymise"):
        found = postimplant_folder.anonymised_post_implant(found)
    if folder is not None:
        postimplant_folder.write_post_implant(found, folder, force=True)
    record = found.record.as_written()
    target = record.targets[0]
    metrics = record.evaluation.structures
    structures = {
        roi: {name: value.actual for name, value in values.items()} for roi, values in metrics.items()
    }
    own = metrics[target.roi]
    planned = {f"planned_{name}": own[name].planned if name in own else None for name in UNCERTAIN}
    shifts = record.shifts
    return {
        "patient_id": record.case.patient_id,
        "target": target.roi,
        "structures": structures,
        "metrics": {
            "prescription_gy": target.prescription_gy,
            **_of(structures[target.roi]),
            **planned,
            "volume_cc": structures[target.roi].get("volume_cc"),
            "seeds": len(record.seeds),
            "missing": None if shifts is None else shifts.missing,
            "mean_shift_mm": None if shifts is None else shifts.all.mean_mm,
            "goals_met": found.goals_met,
        },
    }


def _robust(case: str, given: dict[str, str], folder: Path | None) -> dict[str, Any]:
    from brachy.evaluation.robustness import SAMPLES, robust_folder
    from brachy.output import plan_folder
    from brachy.patient.plan import Plan
    from brachy.patient.privacy import PREFIX
    from brachy.writing import canonical, rounded

    found = robust_folder(
        case,
        samples=_whole(given, "samples", SAMPLES) or SAMPLES,
        seed=_whole(given, "seed"),
        uncertainty=given.get("uncertainty"),
        threads=1,
    )
    if folder is not None:
        plan_folder.write_texts({"robust.json": canonical(rounded(found))}, folder, force=True)
    plan = Plan.load(Path(case))
    target = plan.targets[0]
    rows = found["intervals"][target.planned_roi]
    metrics: dict[str, Any] = {
        "prescription_gy": target.prescription_gy,
        "volume_cc": target.planned_volume_cc,
    }
    for name in metrics_in(Table.COHORT_ROBUST):
        for key in ("nominal", "mean", "sd", "p2_5", "p97_5"):
            metrics[f"{name}_{key}" if key != "nominal" else name] = rows[name][key]
    for goal in found["goals"]:
        metrics.setdefault(
            f"probability {goal['metric']} {goal['op']} {goal['limit']:g}", goal["probability"]
        )
    metrics |= {"seeds": plan.seed_count, "needles": len(plan.needles)}
    patient = plan.case.patient_id
    return {
        "patient_id": patient if patient.startswith(PREFIX) or not _flag(given, "anonymise") else "",
        "target": target.roi,
        "structures": found["nominal"],
        "metrics": metrics,
    }


def _of(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values.get(name) for name in metrics_in(Table.COHORT)}


def _number(given: dict[str, str]) -> Any:
    def of(name: str) -> float | None:
        return None if name not in given else overrides.number(given[name], name)

    return of


def _whole(given: dict[str, str], name: str, default: int | None = 0) -> Any:
    if name not in given:
        return default
    if not given[name].isdecimal() or len(given[name]) > 9:
        raise UsageError(f"{name}: '{given[name][:20]}' is no whole number")
    return int(given[name])


def _several(given: dict[str, str], name: str) -> list[str] | None:
    return [part.strip() for part in given[name].split(";") if part.strip()] if name in given else None


def _flag(given: dict[str, str], name: str) -> bool:
    value = given.get(name, "no").lower()
    if value not in ("yes", "no", "true", "false", "1", "0"):
        raise UsageError(f"{name}: '{value[:20]}': write yes or no")
    return value in ("yes", "true", "1")


def version() -> str:
    """The program's version, as a worker has it."""
    return __version__
