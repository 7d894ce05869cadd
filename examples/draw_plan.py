"""Draw a plan: axial CT with isodoses and needles beside the template as seen along the needles.

usage: draw_plan.py [CASE [PICTURE.png]]
"""

import sys

from matplotlib.figure import Figure

import brachy
from brachy.output.figures.axes import plot_slice, plot_template


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "phantoms/liver-metastasis.toml"
    picture = sys.argv[2] if len(sys.argv) > 2 else "plan.png"
    case = brachy.load_case(name)
    plan = brachy.plan(case, brachy.load_protocol("liver-metastasis"))
    figure = Figure(figsize=(14, 6.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_slice(plan, case, axes=left, legend=False)
    plot_template(plan, case, axes=right)
    figure.savefig(picture, dpi=80)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main()
