"""How fast prediction sets are made, as a ratio to one `np.argsort` of the same array, and what they cover.

    python benchmarks/conformal.py                    # scanwise alone
    ~/peers/bin/python benchmarks/conformal.py        # and MAPIE, TorchCP, torch-uncertainty, where that has them

Peers are never dependencies of scanwise. Install them, and scanwise without its own, in an environment outside the
repository: `pip install mapie torchcp torch-uncertainty; pip install --no-deps -e .`. All get the same float32
probabilities (torch-uncertainty their logarithms, for it takes logits), calibrate on the first half and predict the
second; each time is the least of `--repeat`, in turns, and OMP_NUM_THREADS says how many threads torch may use.
"""

import argparse
import importlib.util
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from scanwise.arrays import softmax
from scanwise.conformal import ConformalSets

ALPHA, PENALTY, K_REG = 0.1, 0.01, 2
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
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


def torch_uncertainty(known: np.ndarray, labels: np.ndarray, new: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Randomised RAPS of torch-uncertainty, which takes logits and fills empty sets."""
    import torch
    from torch_uncertainty.post_processing import ConformalClsRAPS

    fitted = ConformalClsRAPS(ALPHA, torch.nn.Identity(), penalty=PENALTY, regularization_rank=K_REG)
    fitted.fit([(torch.from_numpy(np.log(known)), torch.from_numpy(labels))])
    return fitted.conformal(torch.from_numpy(np.log(new))).numpy() > 0


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


PEERS: dict[str, Fitted] = {
    "scanwise": scanwise,
    "plain": plain,
    "mapie": mapie,
    "torchcp": torchcp,
    "torch_uncertainty": torch_uncertainty,
}


def _has(name: str) -> bool:
    return name in ("scanwise", "plain") or importlib.util.find_spec(name) is not None


def seconds(function: Callable[[], np.ndarray], clock: str) -> tuple[float, np.ndarray]:
    """Time that a call took, and what it gave."""
    start = CLOCKS[clock]()
    found = function()
    return CLOCKS[clock]() - start, found


def compare(count: int, num_classes: int, repeat: int, clock: str) -> None:
    """One table: time, ratio to the argsort, coverage, mean size and, for scanwise, memory."""
    random = np.random.default_rng(0)
    half = count // 2  # MAPIE asks for two rows of each class, so both halves have every class as often
    labels = np.concatenate([random.permutation(np.arange(half) % num_classes) for _ in range(2)])
    logits = random.normal(size=(count, num_classes)).astype(np.float32)
    logits[np.arange(count), labels] += 4
    probs, draws = softmax(logits).astype(np.float32), random.random(count)
    given = probs[:half], labels[:half], probs[half:], draws
    known = {name: function for name, function in PEERS.items() if _has(name)}
    times: dict[str, list[float]] = {"argsort": [], **{name: [] for name in known}}
    told: dict[str, str] = {}
    for _ in range(repeat):
        times["argsort"].append(seconds(lambda: np.argsort(probs, axis=1), clock)[0])
        for name, function in known.items():
            if told.get(name, "").startswith("refuses"):
                continue
            try:
                took, found = seconds(lambda function=function: function(*given), clock)  # type: ignore[misc]
            except ValueError as error:
                told[name] = f"refuses: {error}"
                continue
            times[name].append(took)
            covered, size = found[np.arange(count - half), labels[half:]].mean(), found.sum(axis=1).mean()
            told[name] = f"coverage {covered:.4f}  size {size:.3f}"
    unit = min(times["argsort"])
    print(f"\n{count:,} x {num_classes:,}: one np.argsort {unit:.3f} s")
    for name in known:
        ratio = f"{min(times[name]):7.3f} s  {min(times[name]) / unit:6.2f} x argsort  " if times[name] else ""
        print(f"  {name:17} {ratio}{told[name]}")
    tracemalloc.start()
    scanwise(*given)
    print(f"  peak memory {tracemalloc.get_traced_memory()[1] / probs.nbytes:.2f} x the logits")
    tracemalloc.stop()


def main() -> None:
    """Both sizes of issue 7."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu on a busy machine, with one thread")
    given = parser.parse_args()
    compare(20_000, 1_000, given.repeat, given.clock)
    compare(1_000_000, 4, given.repeat, given.clock)


if __name__ == "__main__":
    main()
