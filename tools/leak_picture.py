"""Draw docs/leak.png, the picture of the leak story, from the figures of docs/log.md (the public four-class set, by scan).

.venv/bin/python tools/leak_picture.py
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

OUT = Path(__file__).parents[1] / "docs" / "leak.png"
MAJORITY = 50.0
ROWS = {  # accuracy in percent: value, low, high
    "nearest neighbour": ((53.0, 46.8, 59.0), (99.3, 98.3, 99.7)),
    "network": ((54.0, 43.2, 62.5), (72.9, 68.0, 77.1)),
}
SIDES = (("new people", "#1b6ca8", 0.18), ("the same people on both sides: leaked", "#c8553d", -0.18))


def main() -> None:
    figure, axes = plt.subplots(figsize=(8, 2.6), dpi=130, layout="constrained")
    for number, (name, color, shift) in enumerate(SIDES):
        for row, estimates in enumerate(ROWS.values()):
            value, low, high = estimates[number]
            axes.barh(row - shift, value, height=0.32, color=color, label=name if row == 0 else None)
            axes.plot([low, high], [row - shift] * 2, color="black", linewidth=1.2)
            axes.text(high + 1, row - shift, f"{value:.0f} %", va="center")
    axes.axvline(MAJORITY, color="gray", linestyle=":", label="always the largest class")
    axes.set_yticks(range(len(ROWS)), list(ROWS))
    axes.invert_yaxis()
    axes.set(xlim=(0, 110), xlabel="accuracy by scan, %, with 95 % intervals over people")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(OUT)


if __name__ == "__main__":
    main()
