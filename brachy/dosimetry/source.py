"""TG-43 source models: loading them, and the dose rate around one seed.

A model is one file (`brachy/data/sources/*.toml`, or the user's own .toml or .csv, see docs/source-files.md). Lengths
of the TG-43 tables are in cm and rates in cGy/h per U, as the reports print them. `Source.dose_rate` is plain numpy;
tests compare the compiled kernels with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brachy import resources
from brachy.dosimetry.source_file import SourceFile, parse, read_csv
from brachy.errors import UsageError

Float = NDArray[np.float64]

UNVERIFIED = "unverified"


@dataclass(frozen=True, eq=False)
class Source:
    """One seed model: TG-43 data in cm and cGy/h per U, capsule in mm. Arrays are read-only.

    Attributes
    ----------
    name : str
        File stem, e.g. "amersham_6711".
    dose_rate_constant : float
        Lambda, cGy/h/U.
    active_length_cm : float
        L of the line source.
    capsule_length_mm, capsule_diameter_mm : float
        Outer size of the capsule.
    half_life_days : float
        Half-life, d.
    radial_r_cm, radial_g : (n,) arrays
        Radial dose function g_L(r), line source.
    anisotropy_r_cm, anisotropy_theta_deg, anisotropy_F : (k,), (m,), (m, k) arrays
        2D anisotropy function; rows are angles from the seed's axis, 0 to 90 degrees.
    phi_r_cm, phi_an : (p,) arrays
        1D anisotropy function.
    phi_an_origin : str
        "published", or "integrated" (from F by quadrature, TG-43U1 section III.B.6).
    status : str
        "verified", "unverified" or "user".
    reference, caveats : str, tuple of str
        Publication of the data, and known reservations about them.
    U_per_contained_mCi : float or None
        Air-kerma strength of 1 mCi CONTAINED activity, where the file gives it.

    Notes
    -----
    Interpolation and extrapolation. g: log-linear in r, exponential beyond the table through its last two nodes, the
    first node's value below it. F: bilinear in r and theta, symmetric about 90 degrees, nearest node outside. phi_an:
    linear in r, constant outside. 1D: r is at least half the outer diameter. 2D: a point inside the capsule is moved
    outward, perpendicular to the axis, to the capsule's side.

    References
    ----------
    Rivard et al., Med. Phys. 31, 633 (2004), AAPM TG-43U1: eq. (1) for 2D, eq. (11) for 1D, eq. (4) for G_L.
    """

    name: str
    model: str
    manufacturer: str
    nuclide: str
    half_life_days: float
    dose_rate_constant: float
    active_length_cm: float
    capsule_length_mm: float
    capsule_diameter_mm: float
    radial_r_cm: Float
    radial_g: Float
    anisotropy_r_cm: Float
    anisotropy_theta_deg: Float
    anisotropy_F: Float
    phi_r_cm: Float
    phi_an: Float
    phi_an_origin: str
    status: str
    reference: str
    caveats: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    U_per_contained_mCi: float | None = None
    _data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @staticmethod
    def from_dict(data: Mapping[str, Any], name: str) -> "Source":
        """Source from a parsed source file or from the copy in a plan; `name` names it in error messages.

        Raises
        ------
        UsageError
            If a key is missing or a table is wrong; the message names the file, table, row and column.

        Examples
        --------
        >>> source = load_source("amersham_6711")
        >>> Source.from_dict(source.to_dict(), "copy").dose_rate_constant
        0.965
        """
        return _from_file(parse(data, name), name)

    def to_dict(self) -> dict[str, Any]:  # content of a source file: text, numbers and tables
        """The whole source file as plain JSON values; `Source.from_dict` reads it back."""
        return SourceFile.model_validate(self._data).model_dump(exclude_none=True)

    def geometry_function(self, r_cm: ArrayLike, theta_deg: ArrayLike = 90.0) -> Float:
        """G_L(r, theta) in cm^-2, TG-43U1 eq. (4); 1 / (r^2 - L^2/4) on the axis. Arrays broadcast.

        Examples
        --------
        >>> round(float(load_source("amersham_6711").geometry_function(1.0, 90.0)), 8)
        0.99259965
        """
        r, theta = np.asarray(r_cm, dtype=np.float64), np.radians(np.asarray(theta_deg, dtype=np.float64))
        return _geometry(r * np.sin(theta), r * np.cos(theta), self.active_length_cm)

    def radial_dose_function(self, r_cm: ArrayLike) -> Float:
        """g_L(r): log-linear between nodes, exponential beyond the last node, below the first node its value."""
        r, nodes, log_g = np.asarray(r_cm, dtype=np.float64), self.radial_r_cm, np.log(self.radial_g)
        slope = (log_g[-1] - log_g[-2]) / (nodes[-1] - nodes[-2])
        inside: Float = np.interp(r, nodes, log_g)
        result: Float = np.exp(inside + slope * np.maximum(r - nodes[-1], 0.0))
        return result

    def anisotropy_function(self, r_cm: ArrayLike, theta_deg: ArrayLike) -> Float:
        """F(r, theta): bilinear, symmetric about 90 degrees, nearest node outside the table. Arrays broadcast."""
        r, theta = np.broadcast_arrays(np.asarray(r_cm, np.float64), np.asarray(theta_deg, np.float64))
        folded = np.minimum(theta, 180.0 - theta)
        i, u = _bracket(self.anisotropy_r_cm, r)
        j, v = _bracket(self.anisotropy_theta_deg, folded)
        f = self.anisotropy_F
        i1, j1 = np.minimum(i + 1, f.shape[1] - 1), np.minimum(j + 1, f.shape[0] - 1)
        result: Float = (1 - v) * ((1 - u) * f[j, i] + u * f[j, i1]) + v * (
            (1 - u) * f[j1, i] + u * f[j1, i1]
        )
        return result

    def anisotropy_factor(self, r_cm: ArrayLike) -> Float:
        """phi_an(r): linear in r, constant outside the table."""
        result: Float = np.interp(np.asarray(r_cm, dtype=np.float64), self.phi_r_cm, self.phi_an)
        return result

    def dose_rate(self, r_cm: ArrayLike, theta_deg: ArrayLike | None = None) -> Float:
        """Dose rate to water in cGy/h per U: 2D line source with `theta_deg`, 1D point source without.

        Parameters
        ----------
        r_cm : array
            Distance from the seed's centre, cm, 0 or more.
        theta_deg : array, optional
            Angle from the seed's axis, degrees, 0 to 180. Broadcasts with `r_cm`.

        Raises
        ------
        ValueError
            If a distance is negative or a value is not a number.

        References
        ----------
        TG-43U1 (Med. Phys. 31, 633): eq. (1) for 2D and eq. (11) for 1D.

        Examples
        --------
        >>> source = load_source("amersham_6711")
        >>> round(float(source.dose_rate(1.0, 90.0)), 6), round(float(source.dose_rate(1.0)), 6)
        (0.965, 0.91096)
        """
        r = np.asarray(r_cm, dtype=np.float64)
        if not np.all(r >= 0):
            raise ValueError("a distance r_cm is negative or not a number")
        radius_cm, half_cm = self.capsule_diameter_mm / 20.0, self.capsule_length_mm / 20.0
        if theta_deg is None:
            return self.point_rate(np.maximum(r, radius_cm))
        theta = np.radians(np.asarray(theta_deg, dtype=np.float64))
        if not np.all(np.isfinite(theta)):
            raise ValueError("an angle theta_deg is not a number")
        across, along = np.abs(r * np.sin(theta)), r * np.cos(theta)
        inside = (np.abs(along) <= half_cm) & (across < radius_cm)
        return self.line_rate(np.where(inside, radius_cm, across), along)

    def point_rate(self, r_cm: Float) -> Float:
        """1D dose rate in cGy/h per U at r > 0, cm; points inside the capsule are not moved."""
        constant = self.dose_rate_constant / self.geometry_function(1.0, 90.0)
        geometry = self.geometry_function(r_cm)
        result: Float = constant * geometry * self.radial_dose_function(r_cm) * self.anisotropy_factor(r_cm)
        return result

    def line_rate(self, across_cm: Float, along_cm: Float) -> Float:
        """2D dose rate in cGy/h per U at distances from the axis and along it, cm; points inside are not moved."""
        r = np.hypot(across_cm, along_cm)
        angle = np.degrees(np.arctan2(across_cm, along_cm))
        constant = self.dose_rate_constant / self.geometry_function(1.0, 90.0)
        geometry = _geometry(across_cm, along_cm, self.active_length_cm)
        result: Float = (
            constant * geometry * self.radial_dose_function(r) * self.anisotropy_function(r, angle)
        )
        return result


def load_source(model: str | Path, accept_unverified: bool = False) -> Source:
    """Seed model by its shipped name, or from a .toml or .csv file.

    Parameters
    ----------
    model : str or Path
        Name of a shipped model (`brachy sources` lists them) or path of a source file.
    accept_unverified : bool
        Also load models whose tables were found in one publication only.

    Raises
    ------
    UsageError
        If there is no such model, if it is unverified and that was not accepted, or if the file is wrong.

    Examples
    --------
    >>> load_source("amersham_6711").model
    'OncoSeed 6711'
    """
    path = _find(str(model))
    if path.suffix.lower() == ".csv":
        data = read_csv(path)
    else:
        data = resources.toml_of(resources.read_bounded(path, path.name), path.name)
    source = _from_file(parse(data, path.name), path.stem)
    if source.status == UNVERIFIED and not accept_unverified:
        raise UsageError(
            f"source {source.name} is unverified (its tables were seen in one place only): "
            "add --accept-unverified (accept_unverified=True) to use it all the same"
        )
    return source


def available_sources() -> list[Source]:
    """All shipped models, the unverified ones last.

    Examples
    --------
    >>> sorted({source.status for source in available_sources()})
    ['unverified', 'verified']
    """
    names = (*resources.names("sources"), *unverified_names())
    return [load_source(name, accept_unverified=True) for name in names]


def source_warnings(source: Source) -> list[str]:
    """Warnings that a plan must carry about the data of its seed model.

    Examples
    --------
    >>> source_warnings(load_source("bard_stm1251"))
    []
    >>> source_warnings(load_source("ibt_1251l", accept_unverified=True))[0]
    'seed model ibt_1251l is UNVERIFIED: its tables were seen in one place only, and were accepted all the same'
    """
    if source.status == UNVERIFIED:
        return [
            f"seed model {source.name} is UNVERIFIED: its tables were seen in one place only, and were accepted all "
            "the same"
        ]
    if source.status != "verified":
        return [
            f"seed model {source.name} is the user's own: its tables are not checked against a publication; "
            f"half-life {source.half_life_days:g} d"
        ]
    return []


def unverified_names() -> list[str]:
    """Names of the shipped models that need `accept_unverified`.

    Examples
    --------
    >>> "oncura_thinseed_9011" in unverified_names()
    True
    """
    return sorted(path.stem for path in (resources.folder("sources") / UNVERIFIED).glob("*.toml"))


def _find(model: str) -> Path:
    path = Path(model)
    if path.suffix.lower() == ".csv":
        if not resources.is_file(path):
            raise UsageError(
                f"no file {model}: give an existing .csv or .toml, or a name listed by `brachy sources`"
            )
        return path
    unverified = resources.folder("sources") / UNVERIFIED / f"{model}.toml"
    if path.name == model and resources.is_file(unverified):
        return unverified
    return resources.find("sources", model)


def _from_file(file: SourceFile, name: str) -> Source:
    def fixed(values: Any) -> Float:
        array = np.array(values, dtype=np.float64)
        array.setflags(write=False)
        return array

    return Source(
        name=name,
        model=file.model,
        manufacturer=file.manufacturer,
        nuclide=file.nuclide,
        half_life_days=file.half_life_days,
        dose_rate_constant=file.dose_rate_constant.cGy_per_h_U,
        active_length_cm=file.active_length.mm / 10.0,
        capsule_length_mm=file.capsule.length_mm,
        capsule_diameter_mm=file.capsule.diameter_mm,
        radial_r_cm=fixed(file.radial_dose_function.r_cm),
        radial_g=fixed(file.radial_dose_function.g),
        anisotropy_r_cm=fixed(file.anisotropy_function.r_cm),
        anisotropy_theta_deg=fixed(file.anisotropy_function.theta_deg),
        anisotropy_F=fixed(file.anisotropy_function.F),
        phi_r_cm=fixed(file.anisotropy_1d.r_cm),
        phi_an=fixed(file.anisotropy_1d.phi),
        phi_an_origin=file.anisotropy_1d.origin,
        status=file.status,
        reference=file.reference,
        caveats=tuple(file.caveats),
        aliases=tuple(file.aliases),
        U_per_contained_mCi=None if file.contained_activity is None else file.contained_activity.U_per_mCi,
        _data=file.model_dump(exclude_none=True),
    )


def _geometry(across_cm: Float, along_cm: Float, length_cm: float) -> Float:
    """G_L from cylindrical coordinates: beta / (L across), with beta = atan2(L across, r^2 - L^2/4)."""
    x = np.abs(length_cm * across_cm)
    q = across_cm**2 + along_cm**2 - length_cm**2 / 4.0
    on_axis = x <= 1e-12 * np.abs(q)
    result: Float = np.where(
        on_axis, 1.0 / np.where(q == 0, np.inf, np.abs(q)), np.arctan2(x, q) / np.where(x == 0, 1.0, x)
    )
    return result


def _bracket(nodes: Float, values: Float) -> tuple[NDArray[np.intp], Float]:
    """Index of the node below each value and the fraction of the way to the next node, limited to the table."""
    index = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, max(len(nodes) - 2, 0))
    if len(nodes) == 1:
        return index, np.zeros_like(values)
    fraction: Float = np.clip((values - nodes[index]) / (nodes[index + 1] - nodes[index]), 0.0, 1.0)
    return index, fraction
