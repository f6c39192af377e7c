"""Training losses: one row of `LOSSES` each, with everything that training needs to know about it.

A new loss is a function, a row here and its name in `scanwise.recipe.train.LossName`: docs/extending/loss.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

LossFunction = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
"""(N, C) logits, (N,) labels, (C,) class weights or None, and label smoothing to a scalar."""
Divisor = Callable[[Tensor, Tensor | None, int], Tensor]
"""(N,) labels, (C,) class weights or None, and C to the number that a loss divides its sum by."""

FOCUS = 2.0  # gamma of the focal loss, the value of its paper


@dataclass(frozen=True, slots=True)
class LossSpec:
    """A loss and what training needs to know about it.

    Attributes:
        name: value of `train.loss` in a recipe.
        title: name for readers.
        function: the mean loss of a batch.
        divisor: what `function` divides its sum by, so that the parts of a batch on several processes add up to its mean.
        label_smoothing: False if the recipe must not set `train.label_smoothing`.
        needs_ordinal: True if the network needs an ordinal last layer (`model.ordinal`), which needs such a loss in turn.
    """

    name: str
    title: str
    function: LossFunction
    divisor: Divisor
    label_smoothing: bool = True
    needs_ordinal: bool = False


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy of (N, C) logits and (N,) labels; a scan counts by the weight of its own label.

    torch weighs each class's part of a smoothed label apart. A rare class of weight w then draws every other scan towards
    it by `smoothing` · w / C, which outweighs their own labels.
    """
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    return (weights[labels] * losses).sum() / weights[labels].sum()


def focal(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Focal loss (Lin et al. 2017): cross-entropy scaled by (1 - p)^gamma, so that easy scans count less.

    Each class's part of a smoothed label is scaled by the probability of that class, as for a mixed label: scaled by that of
    the label alone, the loss would be zero at full confidence and smoothing would be without effect.
    """
    log_probs = logits.log_softmax(dim=1)
    of_class = (1 - log_probs.exp()) ** FOCUS * -log_probs
    losses = (1 - smoothing) * of_class.gather(1, labels[:, None])[:, 0] + smoothing * of_class.mean(dim=1)
    return losses.mean() if weights is None else (weights[labels] * losses).mean()


def corn(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """CORN (Shi et al. 2021) from the class log-probabilities of an ordinal network.

    Task k asks whether a scan that reached class k is beyond it. The tasks of a scan sum to -log P(label), and the paper
    divides by the number of tasks: k + 1 for a scan of class k, one fewer for the last class. A recipe with `smoothing` is
    invalid.
    """
    # The log-probabilities of an ordinal network are normalised already; those of another one are normalised here.
    losses = -logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    questions = (labels + 1).clamp(max=logits.shape[1] - 1).to(losses.dtype)
    each = 1.0 if weights is None else weights[labels]
    total: Tensor = (each * losses).sum() / (each * questions).sum()
    return total


def total_weight(labels: Tensor, weights: Tensor | None, num_classes: int) -> Tensor:
    """Sum of the scans' class weights; their number without weights."""
    return labels.new_tensor(len(labels)).double() if weights is None else weights[labels].double().sum()


def scan_count(labels: Tensor, weights: Tensor | None, num_classes: int) -> Tensor:
    """Number of scans, whatever the class weights are."""
    return labels.new_tensor(len(labels)).double()


def question_count(labels: Tensor, weights: Tensor | None, num_classes: int) -> Tensor:
    """Number of ordinal tasks that the scans take part in, weighted by class."""
    questions = (labels + 1).clamp(max=num_classes - 1).double()
    return (questions if weights is None else weights[labels] * questions).sum()


LOSSES: Mapping[str, LossSpec] = {
    spec.name: spec
    for spec in (
        LossSpec("cross_entropy", "cross-entropy", cross_entropy, total_weight),
        LossSpec("focal", "focal loss", focal, scan_count),
        LossSpec("corn", "CORN (ordinal)", corn, question_count, label_smoothing=False, needs_ordinal=True),
    )
}
