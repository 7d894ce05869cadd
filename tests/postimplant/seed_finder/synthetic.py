"""CT scans of seeds with known truth, built from another physics than the finder's.

A seed is a titanium tube with welded ends and a core rod, as points in space; the in-plane response is that of filtered
back-projection with a Hann-apodised ramp (its Hankel transform, with or without edge enhancement), the slice profile a
trapezoid, noise has the ramp's colour, streaks leave every metal. The finder knows straight lines and Gaussians only.
Every number here is an engineering choice unless it says otherwise.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import j0

from brachy.geometry.grid import Grid

Float = NDArray[np.float64]


@dataclass
class Scanner:
    """How a scan blurs."""

    spacing_mm: tuple[float, float, float] = (0.488, 0.488, 2.5)
    slice_thickness_mm: float = 2.5
    slice_slope_mm: float = 1.0  # each edge of the trapezoid
    cutoff_per_mm: float = 0.95  # of the Hann window; the response has a FWHM of about 1.1 mm
    edge: float = 0.0  # edge enhancement: MTF times 1 + edge (f / cutoff)
    noise_hu: float = 15.0
    streak_hu: float = 60.0
    clip_hu: float | None = None

    def mtf(self, f: Float) -> Float:
        x = np.clip(f / self.cutoff_per_mm, 0, 1)
        return 0.5 * (1 + np.cos(np.pi * x)) * (1 + self.edge * x)

    def psf(self, r_mm: Float) -> Float:
        """Point response per mm2 at a distance in the plane."""
        f = np.linspace(0, self.cutoff_per_mm, 400)
        table_r = np.linspace(0, 8, 401)
        table = 2 * np.pi * np.trapezoid(self.mtf(f) * f * j0(2 * np.pi * np.outer(table_r, f)), f, axis=1)
        return np.interp(r_mm, table_r, table, right=0.0)

    def profile(self, z_mm: Float) -> Float:
        """Slice response per mm: a trapezoid of unit area."""
        flat = 0.5 * (self.slice_thickness_mm - self.slice_slope_mm)
        rise = np.clip((flat + self.slice_slope_mm - np.abs(z_mm)) / max(self.slice_slope_mm, 1e-6), 0, 1)
        return rise / self.slice_thickness_mm


@dataclass
class Scene:
    """A scan under construction: HU and what is known to be in it."""

    scanner: Scanner
    grid: Grid
    hu: Float
    rng: np.random.Generator
    positions_mm: list[Float] = field(default_factory=list)
    axes: list[Float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    metal: Float = field(default_factory=lambda: np.zeros((0, 3)))

    @property
    def seeds_mm(self) -> Float:
        return np.array(self.positions_mm).reshape(-1, 3)


def unit(v: Float | tuple[float, ...]) -> Float:
    return np.asarray(v, dtype=float) / np.linalg.norm(v)


def seed_points(mass: float, rod_share: float = 0.5) -> tuple[Float, Float]:
    """Points (n, 3) along z and their HU mm3: a tube of 4.5 x 0.8 mm with 0.3 mm ends, and a core rod of 3 x 0.5 mm."""
    turn = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    ring = np.column_stack([np.cos(turn), np.sin(turn), np.zeros(6)])
    z = np.arange(-2.2, 2.21, 0.2)
    tube = (0.37 * ring[None] + z[:, None, None] * [0, 0, 1]).reshape(-1, 3)
    ends = np.concatenate([0.2 * ring + [0, 0, s * 2.1] for s in (-1, 1)])
    z = np.arange(-1.4, 1.41, 0.2)
    rod = (0.15 * ring[None] + z[:, None, None] * [0, 0, 1]).reshape(-1, 3)
    weights = [
        np.full(len(p), w / len(p))
        for p, w in ((tube, 0.65 * (1 - rod_share)), (ends, 0.35 * (1 - rod_share)), (rod, rod_share))
    ]
    return np.concatenate([tube, ends, rod]), mass * np.concatenate(weights)


def rotation_to(axis: Float) -> Float:
    """A rotation that takes z to `axis`."""
    w = unit(axis)
    u = unit(np.cross(w, [1.0, 0, 0] if abs(w[0]) < 0.9 else [0, 1.0, 0]))
    return np.column_stack([u, np.cross(w, u), w])


def add_points(scene: Scene, points_mm: Float, weights: Float, reach_mm: float = 4.0) -> None:
    """Add point-like matter (HU mm3) as the scanner sees it."""
    grid, scanner = scene.grid, scene.scanner
    index = grid.mm_to_index(points_mm)
    s = grid.spacing_mm
    half = np.ceil(np.array([reach_mm, reach_mm, scanner.slice_thickness_mm]) / s).astype(int)
    start = np.floor(index).astype(int)
    steps = [np.arange(-h, h + 1) for h in half]
    for chunk in range(0, len(points_mm), 64):
        part = slice(chunk, chunk + 64)
        at = [start[part, i, None] + steps[i] for i in range(3)]
        off = [(at[i] - index[part, i, None]) * s[i] for i in range(3)]
        r = np.hypot(off[1][:, :, None], off[0][:, None, :])
        plane = scanner.psf(r) * weights[part, None, None]
        along = scanner.profile(off[2])
        for n in range(len(plane)):
            z, y, x = at[2][n], at[1][n], at[0][n]
            keep = [(q >= 0) & (q < size) for q, size in zip((z, y, x), grid.shape, strict=True)]
            block = np.ix_(z[keep[0]], y[keep[1]], x[keep[2]])
            scene.hu[block] += along[n][keep[0]][:, None, None] * plane[n][np.ix_(keep[1], keep[2])][None]


def add_seed(scene: Scene, centre_mm: Float, axis: Float, kind: str, mass: float = 32000.0) -> None:
    points, weights = seed_points(mass * scene.rng.normal(1, 0.04))
    add_points(scene, points @ rotation_to(axis).T + centre_mm, weights)
    scene.positions_mm.append(np.asarray(centre_mm, dtype=float))
    scene.axes.append(unit(axis))
    scene.kinds.append(kind)
    scene.metal = np.vstack([scene.metal, centre_mm])


def add_calcification(scene: Scene, centre_mm: Float, radius_mm: float, hu: float) -> None:
    cloud = scene.rng.uniform(-1, 1, (300, 3))
    cloud = cloud[(cloud**2).sum(axis=1) < 1] * radius_mm
    add_points(scene, cloud + centre_mm, np.full(len(cloud), hu * 4 / 3 * np.pi * radius_mm**3 / len(cloud)))


def add_wire(scene: Scene, path_mm: Float, hu_mm2: float) -> None:
    """A wire along a path; hu_mm2 is HU times its cross-section."""
    step = np.linalg.norm(np.diff(path_mm, axis=0), axis=1)
    add_points(scene, 0.5 * (path_mm[1:] + path_mm[:-1]), step * hu_mm2, reach_mm=3.0)
    scene.metal = np.vstack([scene.metal, path_mm[:: max(1, len(path_mm) // 4)]])


def add_stent(
    scene: Scene, centre_mm: Float, axis: Float, radius_mm: float = 4.0, length_mm: float = 30.0
) -> None:
    """Crossed helices of 0.2 mm nitinol wire (12000 HU)."""
    turn = rotation_to(axis)
    t = np.linspace(-0.5, 0.5, int(length_mm * 6))
    for k in range(6):
        for sign in (-1, 1):
            angle = 2 * np.pi * (k / 6 + sign * 1.5 * t)
            helix = np.column_stack([radius_mm * np.cos(angle), radius_mm * np.sin(angle), t * length_mm])
            add_wire(scene, helix @ turn.T + centre_mm, 0.0314 * 12000)


def add_clip(scene: Scene, centre_mm: Float, axis: Float) -> None:
    """A closed surgical clip: two titanium legs of 0.6 mm, 8 mm long, 1.2 mm apart, joined at one end."""
    turn = rotation_to(axis)
    z = np.arange(-4, 4.01, 0.2)
    for side in (-0.6, 0.6):
        leg = np.column_stack([np.full(len(z), side), np.zeros(len(z)), z])
        add_wire(scene, leg @ turn.T + centre_mm, 0.28 * 10000)
    x = np.arange(-0.6, 0.61, 0.2)
    joint = np.column_stack([x, np.zeros(len(x)), np.full(len(x), 4.0)])
    add_wire(scene, joint @ turn.T + centre_mm, 0.28 * 10000)


def in_plane(scanner: Scanner, image: Float, spacing: Float) -> Float:
    """Blur slices by the scanner's in-plane response."""
    fy = np.fft.fftfreq(image.shape[-2], spacing[1])[:, None]
    fx = np.fft.rfftfreq(image.shape[-1], spacing[0])[None]
    out: Float = np.fft.irfft2(np.fft.rfft2(image) * scanner.mtf(np.hypot(fx, fy)), s=image.shape[-2:])
    return out


def anatomy(scene: Scene, ribs: int = 3, offset_mm: float = 0.0) -> None:
    """Liver-like tissue; `ribs` oblique ribs along the front (y = offset) of the volume, with air before them."""
    grid, scanner, rng = scene.grid, scene.scanner, scene.rng
    nz, ny, nx = grid.shape
    low = grid.index_to_mm([[0, 0, 0]])[0]
    y = (low[1] + np.arange(ny) * grid.spacing_mm[1])[:, None]
    x = (low[0] + np.arange(nx) * grid.spacing_mm[0])[None]
    middle = low[0] + 0.5 * nx * grid.spacing_mm[0]
    levels = rng.uniform(0, 1, 3) * 24.0
    front = low[1] + 12.0 + offset_mm
    for k in range(nz):
        image = np.zeros((ny, nx))
        for dz in np.linspace(-0.5, 0.5, 7):
            z = low[2] + k * grid.spacing_mm[2] + dz * (scanner.slice_thickness_mm + scanner.slice_slope_mm)
            layer = np.where(y < front - 10 + 0.002 * (x - middle) ** 2, -1000.0, 55.0)
            for rib in range(ribs):
                # the rib's centre line runs down along x: an ellipse of 4 x 6 mm half axes across it
                cy = front + 0.003 * (x - middle) ** 2
                cz = low[2] + levels[rib % 3] + 24.0 * rib + 0.35 * (x - middle)
                inside = ((y - cy) / 4.0) ** 2 + ((z - cz) / 6.0) ** 2
                core = ((y - cy) / 2.8) ** 2 + ((z - cz) / 4.8) ** 2
                layer = np.where(inside < 1, np.where(core < 1, 230.0, 1150.0), layer)
            image += (
                layer
                * scanner.profile(np.array([dz * (scanner.slice_thickness_mm + scanner.slice_slope_mm)]))[0]
            )
        norm = scanner.profile(
            np.linspace(-0.5, 0.5, 7) * (scanner.slice_thickness_mm + scanner.slice_slope_mm)
        ).sum()
        scene.hu[k] += in_plane(scanner, image / norm, grid.spacing_mm)


def finish(scene: Scene) -> NDArray[np.int16]:
    """Add streaks and noise, clip and round: the CT as stored."""
    scanner, grid, rng = scene.scanner, scene.grid, scene.rng
    s = grid.spacing_mm
    nz, ny, nx = grid.shape
    hu = scene.hu.copy()
    if scanner.streak_hu > 0:
        index = grid.mm_to_index(scene.metal)
        y, x = np.arange(ny)[:, None], np.arange(nx)[None]
        for centre in index:
            for k in {int(np.floor(centre[2])), int(np.ceil(centre[2]))} & set(range(nz)):
                dx, dy = (x - centre[0]) * s[0], (y - centre[1]) * s[1]
                r = np.hypot(dx, dy)
                for _ in range(4):
                    angle = rng.uniform(0, np.pi)
                    across = -dx * np.sin(angle) + dy * np.cos(angle)
                    height = rng.normal(0, scanner.streak_hu)
                    fall = np.where(r > 1.0, np.exp(-r / 12.0), 0.0)
                    hu[k] += height * np.exp(-0.5 * (across / 0.7) ** 2) * fall
    white = rng.normal(size=(nz, ny, nx))
    fy, fx = np.fft.fftfreq(ny, s[1])[:, None], np.fft.rfftfreq(nx, s[0])[None]
    f = np.hypot(fx, fy)
    colour = np.sqrt(f) * scanner.mtf(f)
    noise = np.fft.irfft2(np.fft.rfft2(white) * colour, s=(ny, nx))
    hu += noise * (scanner.noise_hu / noise.std())
    if scanner.clip_hu is not None:
        hu = np.minimum(hu, scanner.clip_hu)
    return np.round(np.clip(hu, -1024, 32000)).astype(np.int16)


def empty_scene(scanner: Scanner, size_mm: tuple[float, float, float], seed: int) -> Scene:
    """A volume of about that size (x, y, z) somewhere in the patient frame."""
    rng = np.random.default_rng(seed)
    nx, ny, nz = (round(length / step) for length, step in zip(size_mm, scanner.spacing_mm, strict=True))
    grid = Grid((-37.3, 18.9, -411.7), scanner.spacing_mm, (nz, ny, nx))
    return Scene(scanner, grid, np.zeros(grid.shape), rng)


def implant(
    scene: Scene, count: int, direction: Float, front_mm: float = 30.0, mass: float = 32000.0
) -> None:
    """`count` seeds on parallel needles 10 mm apart along `direction`, in groups of every kind.

    Groups along a needle: single (tilted up to 15 degrees), end to end (4.6-5.2 mm), side by side (0.9-2.5 mm), and at
    any angle (free).
    """
    rng, grid = scene.rng, scene.grid
    low = grid.index_to_mm([[0, 0, 0]])[0] + [6, front_mm, 6]
    high = grid.index_to_mm([np.array(grid.shape[::-1]) - 1])[0] - 6
    turn = rotation_to(direction)
    centre = 0.5 * (low + high)
    reach = np.linalg.norm(high - low) / 2
    steps = np.arange(-reach, reach, 10.0)
    lines = [(u, v) for u in steps for v in steps]
    rng.shuffle(lines)
    plans = ["single", "end to end", "side by side", "free"]
    left = count
    for u, v in lines:
        along = -reach + rng.uniform(0, 6)
        while along < reach and left > 0:
            kind = plans[rng.choice(4, p=[0.45, 0.25, 0.15, 0.15])] if left > 1 else "single"
            here = turn @ np.array([u, v, along]) + centre
            # needles wander a little, as in a patient
            here = here + rng.normal(0, 0.7, 3)
            if kind == "end to end":
                axis = unit(turn @ np.append(rng.normal(0, 0.07, 2), 1.0))
                pair = [here, here + axis * rng.uniform(4.6, 5.2)]
                axes = [axis, unit(axis + rng.normal(0, 0.06, 3))]
                step = 5.0
            elif kind == "side by side":
                axis = unit(turn @ np.append(rng.normal(0, 0.1, 2), 1.0))
                angle = rng.uniform(0, 2 * np.pi)
                side = rotation_to(axis) @ np.array([np.cos(angle), np.sin(angle), 0])
                pair = [here, here + side * rng.uniform(0.9, 2.5) + axis * rng.uniform(-1.5, 1.5)]
                axes = [axis, unit(axis + rng.normal(0, 0.05, 3))]
                step = 0.0
            else:
                tilt = rng.normal(0, 0.15 if kind == "single" else 2.0, 2)
                pair, axes, step = [here], [unit(turn @ np.append(tilt, 1.0))], 0.0
            if all(((p > low) & (p < high)).all() for p in pair):
                for p, a in zip(pair, axes, strict=True):
                    add_seed(scene, p, a, kind, mass)
                left -= len(pair)
            along += step + rng.choice([6.5, 8.0, 10.0])
        if left <= 0:
            return
    raise ValueError(f"no room for {left} more seeds")


SCANNERS: dict[str, Scanner] = {
    "1 mm": Scanner((0.7, 0.7, 1.0), 1.0, 0.4),
    "1.25 mm soft": Scanner((0.683, 0.683, 1.25), 1.25, 0.5, cutoff_per_mm=0.75),
    "2 mm": Scanner((0.613, 0.613, 2.0), 2.0),
    "2.5 mm": Scanner(),
    "2.5 mm soft": Scanner((0.782, 0.782, 2.5), cutoff_per_mm=0.65),
    "2.5 mm sharp": Scanner(cutoff_per_mm=1.2, edge=1.0, noise_hu=35),
    "2.5 mm clipped": Scanner(cutoff_per_mm=1.2, clip_hu=3071.0),
    "2.5 mm streaks": Scanner(streak_hu=150.0),
    "3 mm each 1.5": Scanner((0.9, 0.9, 1.5), 3.0, cutoff_per_mm=0.6),
    "5 mm": Scanner((0.7, 0.7, 5.0), 5.0),
    "5 mm sharp edge": Scanner((0.488, 0.488, 5.0), 5.0, 0.5),
}
"""Streaks of 60 HU give a spread of 30 HU at 4 mm from a seed; the clinical day-1 scan has 24."""


def scan(
    scanner: Scanner,
    count: int,
    seed: int,
    objects: bool = True,
    tilt: tuple[float, float, float] = (0, 0.9, 0.45),
) -> tuple[Scene, NDArray[np.int16]]:
    """Ribs, `count` seeds and, with `objects`, calcifications, a stent and two clips beside them."""
    size = (90.0, 100.0, 90.0) if count <= 70 else (110.0, 120.0, 110.0)
    scene = empty_scene(scanner, size, seed)
    anatomy(scene)
    if count:
        implant(scene, count, unit(tilt))
    if not objects:
        return scene, finish(scene)
    low = scene.grid.index_to_mm([[0, 0, 0]])[0]
    high = scene.grid.index_to_mm([np.array(scene.grid.shape[::-1]) - 1])[0]

    def free(axis: Float, half: float, gap: float) -> Float | None:
        for _ in range(4000):
            centre = scene.rng.uniform(low + [8, 35, 8], high - 8)
            line = np.linspace(-half, half, 9)[:, None] * unit(axis) + centre
            if not ((line > low + [4, 32, 4]) & (line < high - 4)).all():
                continue
            distance = np.linalg.norm(scene.seeds_mm[:, None] - line[None], axis=-1)
            if distance.min(initial=np.inf) > gap:
                return centre
        return None

    for _ in range(5):
        place = free(np.array([0.0, 0, 1]), 0.0, 5.0)
        if place is not None:
            add_calcification(scene, place, scene.rng.uniform(0.5, 2.0), scene.rng.uniform(400, 1200))
    axis = unit((0.2, 0.1, 1))
    place = free(axis, 12.0, 9.0)
    if place is not None:
        add_stent(scene, place, axis, 3.0, 24.0)
    for _ in range(2):
        axis = unit(scene.rng.normal(size=3))
        place = free(axis, 4.0, 6.5)
        if place is not None:
            add_clip(scene, place, axis)
    return scene, finish(scene)


@dataclass
class Score:
    """Found against truth, one to one within a gate."""

    recall: float
    precision: float
    error_mm: float
    axis_deg: float
    kinds: dict[str, tuple[int, int, float]]  # kind: found, present, median axis error


def score(scene: Scene, positions_mm: Float, axes: Float, gate_mm: float) -> Score:
    truth = scene.seeds_mm
    distance = np.linalg.norm(positions_mm[:, None] - truth[None], axis=-1)
    i, j = linear_sum_assignment(np.where(distance < gate_mm, distance, 1e3))
    near = distance[i, j] < gate_mm
    i, j = i[near], j[near]
    angle = np.degrees(np.arccos(np.clip(np.abs((axes[i] * np.array(scene.axes)[j]).sum(axis=1)), 0, 1)))
    kinds = np.array(scene.kinds)
    per_kind = {}
    for kind in sorted(set(scene.kinds)):
        own = kinds[j] == kind
        median = float(np.median(angle[own])) if own.any() else float("nan")
        per_kind[kind] = (int(own.sum()), int((kinds == kind).sum()), median)
    return Score(
        len(i) / len(truth),
        len(i) / max(len(positions_mm), 1),
        float(np.median(distance[i, j])),
        float(np.median(angle)),
        per_kind,
    )
