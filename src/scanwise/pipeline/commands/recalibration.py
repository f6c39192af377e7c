"""The gain from recalibrating with some local subjects, measured on the others."""

from typing import Any

import numpy as np

from scanwise import calibration, metrics
from scanwise.conformal import ConformalSets
from scanwise.evaluation.sample import require_labels
from scanwise.records import FloatArray, Predictions

SIZES = (10, 20, 30, 50, 100, 200)
REPEATS = 40
NAMES = tuple(name for name, spec in metrics.METRICS.items() if spec.needs_calibration)


def recalibration_curve(
    predictions: Predictions, *, alpha: float | None = None, repeats: int = REPEATS, seed: int = 0
) -> list[dict[str, Any]]:
    """Figures on the remaining subjects after a temperature, and thresholds of sets, were learnt from n local ones.

    The frozen network's probabilities stay as they are but for one number, the temperature; sets are LAC, learnt anew.
    Which n subjects are local is drawn `repeats` times; at least half of the subjects always stay to judge on.

    Args:
        predictions: with labels; rows of one subject stay together.
        alpha: allowed miscoverage of the sets, or None for no sets.
        repeats: draws of local subjects.
        seed: of the draws.

    Returns:
        dictionaries of `subjects` (0 is the run as it came), `name`, `mean`, `low` and `high` (5th and 95th percentile
        over draws), `repeats`; names are `NAMES` and, with sets, `coverage` and `mean_set_size`.
    """
    random = np.random.default_rng(seed)
    people, of_subject = np.unique(predictions.subjects, return_inverse=True)
    odds, labels = np.log(np.clip(predictions.probs, 1e-12, None)), require_labels(predictions)
    rows = _rows(0, [_figures(predictions.probs, labels)])
    for size in (size for size in SIZES if 2 * size <= len(people)):
        draws = []
        for _ in range(repeats):
            local = np.isin(of_subject, random.permutation(len(people))[:size])
            learnt = calibration.Temperature.fit(odds[local], labels[local], predictions.subjects[local])
            probs = learnt(odds[~local])
            figures = _figures(probs, labels[~local])
            if alpha is not None:
                sets = ConformalSets.fit(
                    learnt(odds[local]), labels[local], alpha=alpha, score="lac", subjects=predictions.subjects[local]
                )(probs)
                figures["coverage"] = float(sets[np.arange(len(sets)), labels[~local]].mean())
                figures["mean_set_size"] = float(sets.sum(axis=1).mean())
            draws.append(figures)
        rows += _rows(size, draws)
    return rows


def _figures(probs: FloatArray, labels: Any) -> dict[str, float]:
    return {name: float(metrics.METRICS[name](probs, labels)) for name in NAMES}


def _rows(size: int, draws: list[dict[str, float]]) -> list[dict[str, Any]]:
    rows = []
    for name in draws[0]:
        values = np.array([figures[name] for figures in draws])
        low, high = (float(end) for end in np.percentile(values, [5, 95]))
        rows.append(
            {
                "subjects": size,
                "name": name,
                "mean": float(values.mean()),
                "low": low,
                "high": high,
                "repeats": len(values),
            }
        )
    return rows
