"""Which scans does a trained network's detector tell from its own test scans? AUROC and share flagged, a line a kind.

    python benchmarks/out_of_distribution.py RUN --data DATA --other fashion=FOLDER --other 'head CT=FOLDER'

RUN is a finished run with an honest fit, DATA the folder that its scans lie in. Test scans of that fit stand for what
is usual. Held against them are the scans of other folders, and test scans that were changed. Scores: the default; the
distance to training scans in the network's features alone, the Mahalanobis distance, the energy of the logits; and two
rules that need no network: how far the mean of the border is from the usual one, and how far the histogram of the
pixels is from the mean one of training scans. The share flagged is at the threshold of the bundle.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scanwise import bundle, novelty
from scanwise.cohort.decoding.readers import DecodedScan
from scanwise.cohort.decoding.streams import read_files
from scanwise.pipeline.stages import prediction as prediction_stage
from scanwise.pipeline.stages import selective
from scanwise.prediction import predict_batches
from scanwise.records import FloatArray, Logits
from scanwise.run import RunFolder

SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--other", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--most", type=int, default=1000, help="scans of each other folder")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = RunFolder.open(arguments.run)
    place, loaded = run.fit("honest", 0), bundle.load(run.path)
    train, validation, calibration, test = (
        Logits.load(place.logits(side)) for side in ("train", "validation", "calibration", "test")
    )
    detector = loaded.predictors["scan"].detector
    if detector is None:
        raise SystemExit(f"{run.path} has no honest fit, so nothing was learnt that tells strange scans.")

    def read(paths: list[Path]) -> np.ndarray:
        found = read_files(paths, loaded.recipe.data)
        return np.stack([scan.pixels for scan in found if isinstance(scan, DecodedScan)])

    def ask(pixels: np.ndarray) -> Logits:
        count = len(pixels)
        batches = (pixels[start : start + 64] for start in range(0, count, 64))
        logits, features = predict_batches(loaded.network, batches)
        names = np.array([str(row) for row in range(count)])
        return replace(
            test, logits=logits, labels=np.zeros(count, np.int64), scans=names, subjects=names, groups={},
            features=features, appearance=novelty.appearance_features(pixels),
        )  # fmt: skip

    usual = read([arguments.data / scan for scan in test.scans.tolist()])
    learnt = read([arguments.data / scan for scan in train.scans.tolist()])
    kinds: dict[str, np.ndarray] = {}
    for other in arguments.other:
        name, _, folder = other.partition("=")
        files = sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in SUFFIXES)
        chosen = np.random.default_rng(0).permutation(len(files))[: arguments.most]
        kinds[name] = read([files[index] for index in chosen])
    rows = np.arange(len(usual))
    kinds |= {name: change(usual, rows) for name, change in prediction_stage.ALTERATIONS.items()}
    kinds |= {"upside down": usual[:, ::-1].copy(), "mirrored": usual[:, :, ::-1].copy(), "half as bright": usual // 2}

    scores = dict(selective.detection_scores(detector, train, validation))
    rules = rules_of(learnt)
    cut, by_subject = detector.thresholds["scan"], detector.thresholds["subject"]
    flags, people = detector(test)[1], detector.by_subject(test)[1]
    print(
        f"threshold {cut.threshold:.2f} usual distances, false-alarm rate {100 * cut.false_alarm:.1f} % set on "
        f"{cut.count} calibration subjects (by subject {by_subject.threshold:.2f})\n"
        f"flagged of its own test side: {100 * flags.mean():.1f} % of {len(flags)} scans, {100 * people.mean():.1f} % of "
        f"{len(people)} subjects; of the calibration side {100 * detector(calibration)[1].mean():.1f} % of scans\n"
    )
    names = [*scores, *(f"rule: {name}" for name in rules)]
    print(f"{'AUROC':<16}{'scans':>6}{'flagged':>9}" + "".join(f"{name:>17}" for name in names))
    own = {name: score(test) for name, score in scores.items()} | {name: rule(usual) for name, rule in rules.items()}
    for kind, pixels in kinds.items():
        strange = ask(pixels)
        found = {name: score(strange) for name, score in scores.items()}
        found |= {name: rule(pixels) for name, rule in rules.items()}
        areas = "".join(f"{selective.detection_auroc(own[name], values):>17.4f}" for name, values in found.items())
        print(f"{kind:<16}{len(pixels):>6}{100 * detector(strange)[1].mean():>8.1f}%{areas}", flush=True)


def rules_of(learnt: np.ndarray) -> dict[str, Callable[[np.ndarray], FloatArray]]:
    """Trivial rules, from the pixels (M, H, W, C) of training scans."""
    edge, shares = float(np.median(border(learnt))), histograms(learnt).mean(axis=0)
    return {
        "border": lambda pixels: np.abs(border(pixels) - edge),
        "histogram": lambda pixels: np.abs(histograms(pixels) - shares).sum(axis=1),
    }


def border(pixels: np.ndarray) -> FloatArray:
    """(N,) mean of the outermost sixteenth of each side."""
    width = max(1, pixels.shape[1] // 16)
    outside = np.ones(pixels.shape[1:3], dtype=bool)
    outside[width:-width, width:-width] = False
    return np.asarray(pixels[:, outside].mean(axis=(1, 2)))


def histograms(pixels: np.ndarray) -> FloatArray:
    """(N, 16) how often each sixteenth of the range occurs."""
    flat = (pixels >> 4).reshape(len(pixels), -1)
    return np.stack([np.bincount(row, minlength=16) / row.size for row in flat])


if __name__ == "__main__":
    main()
