"""Labels shuffled between people, through the whole procedure: nothing can be learnt, so nothing may be found.

Scans show the true class plainly, and each person is easily told from all others, so a person on two sides would be recognised.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scanwise.run import read_json
from tiny import run_command, write_csv

pytestmark = pytest.mark.slow

DRAWS, TOLERANCE = 20, 0.05
# The AUROC of nothing over 60 people has a standard error of 0.075 (Hanley & McNeil 1982); the mean of 20 one of 0.017.
PEOPLE = 60
SHARED = """\
name: permuted
classes: [a, b]
data: {size: 32}
split: {folds: 3, validation: 0.15, calibration: 0.2}
evaluation: {draws: 100}
rivals: {names: [majority]}
audit: {checks: []}
explain: {scans: 0}
"""
NETWORKS = {
    "ridge": """\
model:
  name: subject_ridge
  ridge: {backbone: {name: test_resnet}, blocks: 1, grid: [2, 2], pixels: [6, 6], slabs: 1, folds: 5}
train: {epochs: 0}
""",
    "people": """\
model: {name: small, unit: subject}
train: {epochs: 8, batch: 8, optimizer: {lr: 3e-3}}
""",
}


def write_people(folder: Path) -> list[dict[str, str]]:
    """Four scans a person: a bright or dark square by class, over a pattern that is the person's own."""
    random, rows = np.random.default_rng(0), []
    folder.mkdir()
    for person in range(PEOPLE):
        own = random.integers(40, 90, (32, 32))
        for number in range(4):
            pixels = own + random.integers(0, 6, (32, 32))
            down, right = random.integers(4, 20, 2)
            pixels[down : down + 8, right : right + 8] = 220 if person % 2 else 130
            name = f"p{person:02d}_{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            rows.append({"path": name, "label": "ab"[person % 2], "subject": f"p{person:02d}"})
    return rows


def area(folder: Path, data: Path, out: str, recipe: Path) -> float:
    done = run_command("fit", recipe, "--data", data, "--out", folder / out, "--device", "cpu", "--threads", 1)
    assert done.code == 0, done.err
    wanted = ("auroc", "subject", "network", "", -1)
    figures = read_json(folder / out / "metrics.json")
    (found,) = [m for m in figures if (m["name"], m["unit"], m["model"], m["group"], m["fold"]) == wanted]
    return float(found["value"])


@pytest.mark.parametrize("name", NETWORKS)
def test_shuffled_labels_are_not_learnt_and_true_ones_are(name: str, tmp_path: Path) -> None:
    rows, recipe = write_people(tmp_path / "data"), tmp_path / "recipe.yaml"
    recipe.write_text(SHARED + NETWORKS[name], encoding="utf-8")
    areas = []
    for draw in range(DRAWS):
        turned = np.random.default_rng(draw).permutation(PEOPLE)
        shuffled = [{**row, "label": "ab"[int(turned[int(row["subject"][1:])]) % 2]} for row in rows]
        data = write_csv(tmp_path / "data" / f"draw{draw}.csv", shuffled)
        areas.append(area(tmp_path, data, f"run{draw}", recipe))
    print(f"{name}: mean AUROC of {DRAWS} draws {np.mean(areas):.3f}, from {min(areas):.3f} to {max(areas):.3f}")  # noqa: T201
    assert abs(np.mean(areas) - 0.5) < TOLERANCE
    true = write_csv(tmp_path / "data" / "true.csv", rows)
    assert area(tmp_path, true, "true", recipe) > 0.9
