"""What training makes small: a table of functions (logits, labels, weights, smoothing) -> scalar."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]

FOCUS = 2.0  # gamma of the focal loss, the value of its paper


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy of (N, C) logits and (N,) labels; `weights` (C,) or None."""
    return F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)


def focal(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Focal loss (Lin et al. 2017): cross-entropy scaled by (1 - p)^gamma, so that easy scans count less."""
    chosen = logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    losses = F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="none")
    return ((1 - chosen.exp()) ** FOCUS * losses).mean()


def corn(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """CORN (Shi et al. 2021) of the class log-probabilities that an ordinal network gives.

    Its tasks ask, of the scans that reached class k, whether they are beyond it; the sum of a scan's tasks is
    -log P(label), and the paper divides by the number of questions: a scan of class k answers k + 1, of the last class
    one fewer. `smoothing` is refused by the recipe.
    """
    # The log-probabilities of an ordinal network are normalised already; of another one they are made so.
    losses = -logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    questions = (labels + 1).clamp(max=logits.shape[1] - 1).to(losses.dtype)
    each = 1.0 if weights is None else weights[labels]
    total: Tensor = (each * losses).sum() / (each * questions).sum()
    return total


def _weight_of(labels: Tensor, weights: Tensor | None, num_classes: int) -> Tensor:
    return labels.new_tensor(len(labels)).double() if weights is None else weights[labels].double().sum()


def _count_of(labels: Tensor, weights: Tensor | None, num_classes: int) -> Tensor:
    return labels.new_tensor(len(labels)).double()


def _questions_of(labels: Tensor, weights: Tensor | None, num_classes: int) -> Tensor:
    questions = (labels + 1).clamp(max=num_classes - 1).double()
    return (questions if weights is None else weights[labels] * questions).sum()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "focal": focal, "corn": corn}

DIVISORS: dict[str, Callable[[Tensor, Tensor | None, int], Tensor]] = {
    "cross_entropy": _weight_of,
    "focal": _count_of,
    "corn": _questions_of,
}
"""What each loss divides its sum by, told from (labels, weights, classes): so that the parts of a batch can be put together."""
