"""Are a rare class's weight and label smoothing learnt together? 60 people with 4 dark scans each, 5 with a bright one.

    python benchmarks/rare_class.py --out /tmp/rare

Fits a small network for each setting of the loss and prints the accuracy by subject on the honest test side.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from scanwise.pipeline import fit
from scanwise.records import load_metrics

SETTINGS = {
    "weights": ["train.class_weights=true"],
    "weights, smoothing 0.1": ["train.class_weights=true", "train.label_smoothing=0.1"],
    "weights, smoothing 0.1, focal": ["train.class_weights=true", "train.label_smoothing=0.1", "train.loss=focal"],
    "weights, classes drawn evenly": ["train.class_weights=true", "train.sampling=classes"],
}


def write_scans(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name, people, scans, gray in (("dark", 60, 4, 60), ("bright", 5, 1, 180)):
        (folder / name).mkdir(parents=True)
        for person in range(people):
            for scan in range(scans):
                pixels = random.normal(gray, 20, (32, 32)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{name}{person:02d}_{scan}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_scans(arguments.out / "scans")
    common = ["data.size=32", "train.epochs=8", "train.stages=[]", "rivals.names=[majority]", "audit.checks=[]"]
    for index, (name, settings) in enumerate(SETTINGS.items()):
        run = fit("demo", data=arguments.out / "scans", subject=r"([a-z]+\d+)_\d", out=arguments.out / f"run{index}",
                  settings=[*common, *settings])  # fmt: skip
        found = [m for m in load_metrics(run.metrics) if m.name == "accuracy" and m.unit == "subject"]
        print(f"{name:32} {next(m.value for m in found if m.model == 'network' and not m.group):.1%} by subject")


if __name__ == "__main__":
    main()
