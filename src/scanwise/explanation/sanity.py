"""Checks that a method must pass on a network before its maps are shown.

    weights      on a network whose weights are random, layer by layer from the top, the map must change (Adebayo et al. 2018)
    repeat       a little noise in the scan must not change it
    faith        removing the highlighted area must change the output more than removing random areas or the centre
    foreground   the map must lie on the head, not beside it
    learnt       predictions must fit the labels better than shuffled labels do: the map of a network that learnt nothing, or
                 from wrong labels, explains nothing
    labels       a network trained on shuffled labels must not give the same map       (needs another training)
    seed         a network trained from another seed must give much the same           (needs another training)
    truth        where the truth is planted, it must be found                          (synthetic cohorts)

Each gives one `SanityCheck`; a method passes only where all do.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from scanwise.explanation import AUTO_METHOD, DEFAULT_METHOD, explain_arrays, uncalibrated_probs
from scanwise.explanation.gradients import without_small_structures
from scanwise.explanation.measures import (
    Faithfulness,
    auprc,
    centre_blob,
    measure_faithfulness,
    overlap,
    pointing_game,
    random_maps,
    share_inside,
)
from scanwise.progress_bar import track
from scanwise.records import BoolArray, Finding, FloatArray, IntArray

if TYPE_CHECKING:
    from scanwise.models import Network

STAGES = (0.34, 0.67, 1.0)
"""Shares of the layers, from the top, whose weights are made random one after another."""
NOISE = 3.0
"""Standard deviation of the noise of `check_repeat`, of 255."""
UNTRAINED = 0.6
"""Most that the strongest pixels may share with those of a network of random weights."""
STEADY = 0.6
"""Least that they must share with those of the same scan with noise."""
BESIDE = 1.5
"""Least ratio of the share of a map on the head to the share of the scan that the head takes, up to `MOSTLY`."""
MOSTLY = 0.8
"""Share of a map on the head that is always enough."""
SHUFFLED = 0.6
"""Most that they may share with those of a network trained on shuffled labels."""
SEEDS = 0.4
"""Least that they must share with those of a network trained from another seed; one of random weights shares about 0.3."""
CHANCE = 0.05
"""Largest share of shuffled labels that may fit the predictions as well as the true ones."""
HITS, TIMES = 0.9, 2.0
"""Bars of `check_planted_truth`: hits of the pointing game, and AUPRC over the best map that has not seen the scan."""


@dataclass(frozen=True, slots=True)
class SanityCheck:
    """Result of one check.

    Attributes:
        name: of the check.
        passed: whether the maps may be shown by this check.
        message: with the figures.
        figures: by name.
    """

    name: str
    passed: bool
    message: str
    figures: dict[str, float]

    def finding(self, method: str) -> Finding:
        message = (
            self.message
            if self.passed
            else f"{self.message} Maps of {method} are drawn grey and left out of summaries."
        )
        return Finding(f"explanation.{self.name}", "note" if self.passed else "warning", f"{method}: {message}")


@dataclass(frozen=True, slots=True)
class CheckedMaps:
    """Maps to be checked: network, method, and scans with the class that is explained.

    Attributes:
        network: any that takes scans.
        scans: (N, H, W, C) uint8.
        values: (N, H, W) the maps.
        targets: (N, 1).
        options: of `explain_arrays`: method, layer, tokens, batch, device.
    """

    network: "Network"
    scans: Any
    values: FloatArray
    targets: IntArray
    options: dict[str, Any]

    @classmethod
    def of(cls, network: "Network", scans: Any, **options: Any) -> "CheckedMaps":
        values, targets = explain_arrays(network, scans, **options)
        return cls(network, np.asarray(scans), values[:, 0], targets, options)

    def again(self, network: "Network", scans: Any = None) -> FloatArray:
        """The maps of another network, or of changed scans, about the same classes."""
        shown = self.scans if scans is None else scans
        return explain_arrays(network, shown, **{**self.options, "targets": self.targets})[0][:, 0]


def check_method(
    network: "Network",
    scans: Any,
    *,
    masks: BoolArray | None = None,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> list[SanityCheck]:
    """Every check that needs no other training.

    Args:
        network: any that takes scans; it is left unchanged.
        scans: (N, H, W, C) uint8; a few dozen are enough.
        masks: (N, H, W) of the head; None leaves that check out.
        seed: of random weights, noise and maps.
        progress: show a bar.
        options: method, layer, tokens, batch and device, as of `explain`.
    """
    return check_maps(CheckedMaps.of(network, scans, **options), masks=masks, seed=seed, progress=progress)


def check_maps(
    subject: CheckedMaps, *, masks: BoolArray | None = None, seed: int = 0, progress: bool = False
) -> list[SanityCheck]:
    """Every check that needs no other training, for maps that exist already."""
    subject = replace(subject, network=_swift(subject.network))
    steps: list[Callable[[CheckedMaps], SanityCheck]] = [
        lambda subject: check_weights(subject, seed),
        lambda subject: check_repeat(subject, seed),
        lambda subject: check_faithfulness(subject, seed),
    ]
    if masks is not None:
        steps.append(lambda subject: check_foreground(subject, masks))
    return [step(subject) for step in track(steps, "checking maps", len(steps), progress)]


def _swift(network: "Network") -> "Network":
    """A copy whose weights lie in memory as convolutions and pools on a CPU read them quickest: AlexNet's forward pass
    takes two thirds of its time."""
    return copy.deepcopy(network).to(memory_format=torch.channels_last)


def failure_reasons(checks: Sequence[SanityCheck]) -> list[str]:
    """Reasons why a method fails, a sentence a failed check; empty where it passes."""
    return [check.message.rstrip(".") for check in checks if not check.passed]


def check_weights(subject: CheckedMaps, seed: int = 0) -> SanityCheck:
    """Cascading randomisation: overlap with the map as more and more weights, from the top down, are drawn anew."""
    left = [
        float(overlap(subject.values, subject.again(other)).mean())
        for other in randomised_copies(subject.network, seed)
    ]
    passed = left[-1] <= UNTRAINED and bool(np.isfinite(subject.values).all())
    values = ", ".join(f"{value:.2f}" for value in left)
    verb = "falls" if passed else "hardly falls"
    return SanityCheck(
        "weights",
        passed,
        f"the strongest 5 % of the map {verb} when weights are made random: overlap {values} for the top third, two thirds and all "
        f"(at most {UNTRAINED:g} wanted).",
        {f"overlap_{share:g}": value for share, value in zip(STAGES, left, strict=True)},
    )


def randomised_copies(network: "Network", seed: int = 0) -> Iterator["Network"]:
    """Copies of a network, of which the layers of each of `STAGES` have weights as before training."""
    changed = copy.deepcopy(network)
    layers = [module for module in changed.modules() if any(True for _ in module.parameters(recurse=False))]
    layers.reverse()  # made from input to output
    done = 0
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for share in STAGES:
            for module in layers[done : round(share * len(layers))]:
                _randomise(module)
            done = round(share * len(layers))
            yield changed


@torch.no_grad()
def _randomise(module: nn.Module) -> None:
    """Draw a layer's weights anew, with the spread that layers start with; norms become plain."""
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for value in module.parameters(recurse=False):
        value.normal_(0, float(value.std()) if value.numel() > 1 else 0.02)


def check_repeat(subject: CheckedMaps, seed: int = 0) -> SanityCheck:
    """Repeatability: the same scans with a little noise."""
    noise = np.random.default_rng(seed).normal(0, NOISE, subject.scans.shape)
    noisy = np.clip(np.rint(subject.scans + noise), 0, 255).astype(np.uint8)
    shared = float(overlap(subject.values, subject.again(subject.network, noisy)).mean())
    return SanityCheck(
        "repeat",
        shared >= STEADY,
        f"with noise of {NOISE:g} gray values the strongest 5 % of the map overlap by {shared:.2f} (at least {STEADY:g} wanted).",
        {"overlap": shared},
    )


def check_faithfulness(subject: CheckedMaps, seed: int = 0) -> SanityCheck:
    """Deletion, insertion and ROAD, beside random maps and a centre blob; the map must beat both in two of three."""
    count, height, width = subject.values.shape
    own, *baseline_values = _faiths(
        subject, [subject.values, random_maps(count, height, width, seed), centre_blob(count, height, width)], seed
    )
    baselines = dict(zip(("random", "centre"), baseline_values, strict=True))
    names = ("deletion", "insertion", "road")
    passed_tests = [
        name for name in names if getattr(own, name) > max(getattr(baseline, name) for baseline in baselines.values())
    ]
    values_text = "; ".join(
        f"{name} {getattr(own, name):z.2f} (random {getattr(baselines['random'], name):z.2f}, "
        f"centre {getattr(baselines['centre'], name):z.2f})"
        for name in names
    )
    figures = {name: getattr(own, name) for name in names}
    figures |= {f"{name}_{baseline}": getattr(values, name) for baseline, values in baselines.items() for name in names}
    effect = "more" if len(passed_tests) >= 2 else "no more"
    return SanityCheck(
        "faith",
        len(passed_tests) >= 2,
        f"removing the highlighted area changes the output {effect} than removing random areas or the centre "
        f"({len(passed_tests)} of 3 tests passed, 2 needed; changes of log-odds: {values_text}).",
        figures,
    )


def _faiths(subject: CheckedMaps, candidates: Sequence[FloatArray], seed: int) -> list[Faithfulness]:
    """Faithfulness of several maps of the same scans; what does not depend on the map is computed once."""
    images = torch.from_numpy(subject.scans).permute(0, 3, 1, 2)
    calm = without_small_structures(images).permute(0, 2, 3, 1).numpy()
    given: dict[str, Any] = {
        name: subject.options[name] for name in ("tokens", "batch", "device") if name in subject.options
    }

    def ask(pixels: FloatArray) -> FloatArray:
        probs = uncalibrated_probs(subject.network, np.asarray(pixels, dtype=np.float32), **given)
        own = np.take_along_axis(probs, subject.targets, axis=1)[:, 0].astype(np.float64)
        return np.asarray(np.log(np.maximum(own, 1e-9)) - np.log(np.maximum(1 - own, 1e-9)))

    ends = ask(subject.scans), ask(calm)
    return [measure_faithfulness(ask, subject.scans, calm, values, seed, ends=ends) for values in candidates]


def check_foreground(subject: CheckedMaps, masks: BoolArray) -> SanityCheck:
    """Share of the map that lies on the head."""
    share, size = float(share_inside(subject.values, masks).mean()), float(masks.mean())
    return SanityCheck(
        "foreground",
        share >= min(MOSTLY, BESIDE * size),
        f"{100 * share:.0f} % of the map lies on the foreground, which takes {100 * size:.0f} % of the scan "
        f"(at least {100 * min(MOSTLY, BESIDE * size):.0f} % wanted).",
        {"inside": share, "size": size},
    )


def check_learnt(predicted: IntArray, true: IntArray, seed: int = 0, draws: int = 999) -> SanityCheck:
    """Permutation test: predictions must fit the labels better than the same labels shuffled.

    Args:
        predicted, true: (N,) one scan a subject, none from training.
        seed: of the shuffles. draws: how many.
    """
    rng = np.random.default_rng(seed)
    right = int((predicted == true).sum())
    shuffled = np.array([(predicted == rng.permutation(true)).sum() for _ in range(draws)])
    share = float((1 + (shuffled >= right).sum()) / (1 + draws))
    return SanityCheck(
        "learnt",
        share <= CHANCE,
        f"{right} of {len(true)} correct, {shuffled.mean():.1f} expected by chance; {100 * share:.1f} % of shuffled labels "
        f"do as well (at most {100 * CHANCE:g} % allowed).",
        {"right": right / len(true), "shuffled": float(shuffled.mean()) / len(true), "share": share},
    )


def check_labels_matter(subject: CheckedMaps, other: "Network") -> SanityCheck:
    """Comparison with a network trained in the same way on labels shuffled between subjects."""
    shared = float(overlap(subject.values, subject.again(other)).mean())
    return SanityCheck(
        "labels",
        shared <= SHUFFLED,
        f"a network trained on shuffled labels shares {shared:.2f} of the strongest 5 % (at most {SHUFFLED:g} wanted).",
        {"overlap": shared},
    )


def check_seed_agreement(subject: CheckedMaps, other: "Network") -> SanityCheck:
    """Comparison with a network trained in the same way from another seed."""
    shared = float(overlap(subject.values, subject.again(other)).mean())
    return SanityCheck(
        "seed",
        shared >= SEEDS,
        f"a network trained from another seed shares {shared:.2f} of the strongest 5 % (at least {SEEDS:g} wanted).",
        {"overlap": shared},
    )


def check_planted_truth(subject: CheckedMaps, planted: BoolArray) -> SanityCheck:
    """Comparison with the planted truth of a synthetic cohort, (N, H, W)."""
    hits, area = pointing_game(subject.values, planted), auprc(subject.values, planted)
    count, height, width = subject.values.shape
    blind = max(auprc(centre_blob(count, height, width), planted), auprc(random_maps(count, height, width), planted))
    return SanityCheck(
        "truth",
        hits >= HITS and area >= TIMES * blind,
        f"the strongest pixel lies in the planted truth in {100 * hits:.0f} % of scans ({100 * HITS:.0f} wanted); AUPRC {area:.3f}, "
        f"{area / blind:.2f} times the best of random and centre ({TIMES:g} wanted).",
        {"hits": hits, "auprc": area, "blind": blind},
    )


def method_name(options: dict[str, Any]) -> str:
    """Name of the method in these options."""
    chosen = str(options.get("method", AUTO_METHOD))
    return DEFAULT_METHOD if chosen == AUTO_METHOD else chosen
