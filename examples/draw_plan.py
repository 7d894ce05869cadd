"""Draw a plan: axial CT with isodoses and needles beside the template as seen along the needles.

usage: draw_plan.py CASE [PICTURE.png]
"""

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import brachy

mpl.use("Agg")
LEVELS = {
    50: "#56b4e9",
    100: "#f0e442",
    150: "#e69f00",
    200: "#d55e00",
}  # Okabe-Ito, safe for colour-blind readers


def draw_axial(axes, case, plan, dose, target):
    """CT slice through the target's centre, isodoses in % of the prescription, needles and seeds within 5 mm."""
    grid, centre = case.grid, target.centroid_mm
    k = round(float(grid.mm_to_index(centre[None])[0, 2]))
    low, high = (
        grid.index_to_mm([[0, 0, k]])[0],
        grid.index_to_mm([[grid.shape[2] - 1, grid.shape[1] - 1, k]])[0],
    )
    axes.imshow(case.ct_hu[k], cmap="gray", vmin=-160, vmax=240, extent=(low[0], high[0], high[1], low[1]))
    for structure in case.structures:
        for contour in structure.contours_mm:
            if abs(contour[0, 2] - low[2]) < grid.spacing_mm[2] / 2:
                closed = np.vstack([contour, contour[:1]])
                wide = structure.name == target.name
                axes.plot(
                    closed[:, 0], closed[:, 1], color="#cc79a7" if wide else "white", lw=2 if wide else 0.7
                )
    x, y, z = (
        dose.grid.origin_mm[i] + np.arange(dose.grid.shape[2 - i]) * dose.grid.spacing_mm[i] for i in range(3)
    )
    percent = 100 * dose.gy[int(np.argmin(abs(z - low[2])))] / plan.targets[0].prescription_gy
    lines = axes.contour(x, y, percent, levels=list(LEVELS), colors=list(LEVELS.values()), linewidths=1.3)
    axes.clabel(lines, fmt="%d %%", fontsize=8)
    for needle in plan.needles:
        if abs(needle.tip_mm[2] - low[2]) <= 5:
            axes.plot(*zip(needle.hole_mm[:2], needle.tip_mm[:2], strict=True), color="#0072b2", lw=1)
            seeds = np.array([seed.position_mm for seed in needle.seeds])
            axes.plot(seeds[:, 0], seeds[:, 1], "s", ms=3, mfc="white", mec="black")
    axes.set(
        title=f"axial, z = {low[2]:.0f} mm", xlabel="x to the patient's left, mm", ylabel="y to posterior, mm"
    )


def draw_template(axes, plan, target):
    """Holes of the template seen along the needles: loaded ones with their number of seeds, the target's outline."""
    template = plan.templates[0]
    origin, column, row = (np.array(v) for v in (template.origin_mm, template.column, template.row))
    points = np.vstack(target.contours_mm) - origin
    axes.plot(points @ column, points @ row, ".", ms=1, color="#cc79a7")
    for c in range(template.columns):
        for r in range(template.rows):
            axes.plot(c * template.spacing_mm, r * template.spacing_mm, "o", ms=5, mfc="none", mec="0.7")
    for needle in plan.needles:
        place = np.array(needle.hole_mm) - origin
        axes.plot(place @ column, place @ row, "o", ms=13, mfc="#0072b2", mec="black")
        axes.text(
            place @ column,
            place @ row,
            len(needle.seeds),
            color="white",
            ha="center",
            va="center",
            fontsize=8,
        )
        axes.text(place @ column + 1.6, place @ row + 1.6, needle.hole, fontsize=7)
    axes.set(
        title="template along the needles, seeds per needle",
        xlabel="mm",
        ylabel="mm toward the head",
        aspect=1,
    )


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "liver-metastasis"
    picture = sys.argv[2] if len(sys.argv) > 2 else "plan.png"
    case = brachy.load_case(name)
    plan = brachy.plan(case, brachy.load_protocol("liver-metastasis"))
    target = case.structure(plan.targets[0].roi)
    low, high = target.bounds_mm
    dose = brachy.dose(brachy.Grid.around(low - 30, high + 30, 1.5), plan.implants())
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 6.5), gridspec_kw={"width_ratios": [1.5, 1]})
    draw_axial(left, case, plan, dose, target)
    draw_template(right, plan, target)
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
