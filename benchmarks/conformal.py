"""How fast prediction sets are made, as a ratio to one `np.argsort` of the same array, and what they cover.

    python benchmarks/conformal.py                    # scanwise alone
    ~/peers/bin/python benchmarks/conformal.py        # and MAPIE, TorchCP, torch-uncertainty, where that has them

Peers are never dependencies of scanwise. Install them, and scanwise without its own, in an environment outside the
repository: `pip install mapie torchcp torch-uncertainty; pip install --no-deps -e .`. All get the same float32
probabilities, calibrate on the first half and predict the second; each time is the least of `--repeat`.
"""

import argparse
import importlib.util
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from scanwise.conformal import ConformalSets
from scanwise.risk import softmax

ALPHA, PENALTY, K_REG = 0.1, 0.01, 2
Fitted = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def scanwise(known: np.ndarray, labels: np.ndarray, new: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Randomised RAPS."""
    half = len(known)
    sets = ConformalSets.fit(known, labels, alpha=ALPHA, penalty=PENALTY, k_reg=K_REG, draws=draws[:half])
    return sets(new, draws[half:])


def mapie(known: np.ndarray, labels: np.ndarray, new: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """RAPS of MAPIE 1.x around a classifier that hands its input back."""
    from mapie.classification import SplitConformalClassifier
    from mapie.conformity_scores import RAPSConformityScore
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        def fit(self, features: np.ndarray, _: np.ndarray) -> "Given":
            self.classes_ = np.arange(features.shape[1])
            return self

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            return features

        def predict(self, features: np.ndarray) -> np.ndarray:
            return features.argmax(axis=1)

    inner = Given().fit(known, labels)
    fitted = SplitConformalClassifier(
        inner, confidence_level=1 - ALPHA, conformity_score=RAPSConformityScore(size_raps=0.2), prefit=True
    )
    fitted.conformalize(known, labels)
    return np.asarray(fitted.predict_set(new)[1][:, :, 0])


def torchcp(known: np.ndarray, labels: np.ndarray, new: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Randomised RAPS of TorchCP."""
    import torch
    from torchcp.classification.predictor import SplitPredictor
    from torchcp.classification.score import RAPS

    predictor = SplitPredictor(RAPS(penalty=PENALTY, kreg=K_REG, score_type="identity"))
    predictor.calculate_threshold(torch.from_numpy(known), torch.from_numpy(labels), ALPHA)
    return np.asarray(predictor.predict_with_logits(torch.from_numpy(new))).astype(bool)


def plain(known: np.ndarray, labels: np.ndarray, new: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The textbook in NumPy: argsort everything, twice."""
    half = len(known)

    def scores(probs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        order = np.argsort(-probs, axis=1)
        own = np.take_along_axis(probs, order, axis=1)
        along = np.cumsum(own, axis=1) - own * (1 - numbers[:, None])
        along += PENALTY * np.maximum(np.arange(1, probs.shape[1] + 1) - K_REG, 0)
        found = np.empty(probs.shape)
        np.put_along_axis(found, order, along, axis=1)
        return found

    strange = np.sort(scores(known, draws[:half])[np.arange(half), labels])
    return scores(new, draws[half:]) <= strange[int(np.ceil((half + 1) * (1 - ALPHA))) - 1]


PEERS: dict[str, Fitted] = {"scanwise": scanwise, "plain": plain, "mapie": mapie, "torchcp": torchcp}


def least(function: Callable[[], object], repeat: int) -> float:
    """The least wall time of several calls, in seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(count: int, num_classes: int, repeat: int) -> None:
    """One table: time, ratio to the argsort, coverage, mean size and, for scanwise, memory."""
    random = np.random.default_rng(0)
    labels = random.integers(0, num_classes, count)
    logits = random.normal(size=(count, num_classes)).astype(np.float32)
    logits[np.arange(count), labels] += 4
    probs, draws = softmax(logits).astype(np.float32), random.random(count)
    half = count // 2
    given = probs[:half], labels[:half], probs[half:], draws
    unit = least(lambda: np.argsort(probs, axis=1), repeat)
    print(f"\n{count:,} x {num_classes:,}: one np.argsort {unit:.3f} s")
    for name, function in PEERS.items():
        if name not in ("scanwise", "plain") and importlib.util.find_spec(name) is None:
            continue
        try:
            found = function(*given)
        except ValueError as error:
            print(f"  {name:10} refuses: {error}")
            continue
        covered, size = found[np.arange(count - half), labels[half:]].mean(), found.sum(axis=1).mean()
        seconds = least(lambda function=function: function(*given), repeat)  # type: ignore[misc]
        print(f"  {name:10} {seconds:7.3f} s  {seconds / unit:6.2f} x argsort  coverage {covered:.4f}  size {size:.3f}")
    tracemalloc.start()
    scanwise(*given)
    print(f"  peak memory {tracemalloc.get_traced_memory()[1] / probs.nbytes:.2f} x the logits")
    tracemalloc.stop()


def main() -> None:
    """Both sizes of issue 7."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    compare(20_000, 1_000, repeat)
    compare(1_000_000, 4, repeat)


if __name__ == "__main__":
    main()
