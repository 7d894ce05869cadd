"""A permanent implant that was read from an RT Plan: its seeds, sources and setups, and their strength on a day."""

from dataclasses import dataclass, replace
from datetime import date, datetime, time

import numpy as np
from numpy.typing import NDArray

from brachy import units
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.strength import question_strength
from brachy.errors import BrachyError
from brachy.io.dicom.files import shown

Float = NDArray[np.float64]

LEAST_REPORTED_DAYS = 1.0
"""Decay over less than this is not reported: a day is 1.2 % for 125I (engineering choice)."""


@dataclass(frozen=True)
class ImportedSource:
    """One kind of seed of an imported plan.

    `model_as_written` is the vendor's name; `model` is the shipped source that `brachy/data/vendor_models.toml` assigns
    to it, or None. `strength_U` is the air-kerma strength at the time `reference`.
    """

    number: int
    model_as_written: str
    model: str | None
    manufacturer: str
    strength_U: float
    half_life_days: float
    reference: datetime | None


@dataclass(frozen=True)
class ImportedSetup:
    """An application setup: a template, a needle, or in some systems a single seed."""

    number: int
    kind: str = ""
    name: str = ""
    dose_gy: float | None = None


@dataclass(frozen=True, eq=False)
class ImportedPlan:
    """Seeds of a permanent implant read from an RT Plan.

    Attributes
    ----------
    positions_mm : (n, 3) array
        Seed centres, patient frame (LPS), mm, in the order of the file.
    axes : (n, 3) array or None
        Unit vectors along the seeds; None if the file has none, then only 1D dose is possible.
    source_of, setup_of : (n,) int arrays
        Index of each seed's entry in `sources` and `setups`.
    applicator_of : tuple of str
        Needle (applicator) of each seed, "" if none is named.
    prescription_gy : float or None
        Prescribed dose, if the file states one.
    assumed : tuple of str
        Sentences about what was inferred.
    """

    positions_mm: Float
    axes: Float | None
    source_of: NDArray[np.int64]
    setup_of: NDArray[np.int64]
    applicator_of: tuple[str, ...]
    sources: tuple[ImportedSource, ...]
    setups: tuple[ImportedSetup, ...]
    prescription_gy: float | None = None
    label: str = ""
    approval: str = ""
    uid: str = ""
    structure_set_uid: str = ""
    frame_of_reference_uid: str = ""
    patient_id: str = ""
    name: str = ""
    sha256: str = ""
    plan_date: date | None = None
    assumed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.positions_mm)

    @property
    def strength_U(self) -> Float:
        """Air-kerma strength of each seed, (n,) U, at its source's `reference`."""
        return np.array([self.sources[i].strength_U for i in self.source_of])

    def at_implantation(self, implant_on: date | None = None) -> "ImportedPlan":
        """The plan with the strength of every source decayed from its reference date to the implantation.

        Parameters
        ----------
        implant_on : date, optional
            Day of the implantation; by default the plan's date (RTPlanDate). If neither is known, or a source has no
            reference date, the stated strength is used and this is added to `assumed`.

        Returns
        -------
        ImportedPlan
            `sources` have the strengths of that day, which is their reference; for a decay over a day or more, both
            days and the factor are added to `assumed`.
        """
        on = implant_on or self.plan_date
        notes: list[str] = []
        sources = []
        for entry in self.sources:
            model = f"'{entry.model_as_written}'" if entry.model_as_written else f"source {entry.number}"
            if on is None or entry.reference is None:
                missing = "day of the implantation" if on is None else "reference date of the strength"
                notes.append(
                    f"{model}: the plan names no {missing}; its strength is taken as that at implantation"
                )
                sources.append(entry)
                continue
            stated = entry.reference.date()
            days = units.days_between(stated, on)
            factor = units.decay_factor(days, entry.half_life_days)
            if abs(days) >= LEAST_REPORTED_DAYS:
                whose = "as given" if implant_on is not None else "the plan's date"
                notes.append(
                    f"{model}: strength {entry.strength_U:.4g} U on {stated}, decayed to "
                    f"{entry.strength_U * factor:.4g} U on {on}, the day of the implantation ({whose}): "
                    f"factor {factor:.3f}"
                )
            sources.append(
                replace(entry, strength_U=entry.strength_U * factor, reference=datetime.combine(on, time()))
            )
        return replace(self, sources=tuple(sources), assumed=(*self.assumed, *dict.fromkeys(notes)))

    def implants(
        self,
        source: str | None = None,
        half_life_days: float | None = None,
        accept_unverified: bool = False,
        accept_strength: bool = False,
    ) -> list[Implant]:
        """Seeds as implants, one implant for each kind of seed that is used.

        Parameters
        ----------
        source : str, optional
            Shipped model or source file for all seeds, instead of the one assigned by the table.
        half_life_days : float, optional
            Half-life instead of the plan's, which has precedence over the source's.
        accept_unverified : bool
            Also use a seed model whose tables were found in one publication only.
        accept_strength : bool
            Accept strengths that are unusual for a permanent seed.

        Raises
        ------
        BrachyError
            If a seed model of the file is not in the table and `source` is not given.
        UsageError
            If a strength is outside `brachy.dosimetry.strength.USUAL_U` and not accepted.
        """
        found = []
        for index, kind in enumerate(self.sources):
            mine = self.source_of == index
            if not mine.any():
                continue
            model = source or kind.model
            if model is None:
                raise BrachyError(
                    f"{shown(self.name)}: seed model '{shown(kind.model_as_written)}' is not in the table of vendors' "
                    "names: say which it is with --source MODEL"
                )
            question_strength(kind.strength_U, accept_strength, shown(self.name))
            found.append(
                Implant(
                    load_source(model, accept_unverified),
                    self.positions_mm[mine],
                    axes=None if self.axes is None else self.axes[mine],
                    strength_U=kind.strength_U,
                    half_life_days=half_life_days or kind.half_life_days,
                )
            )
        return found
