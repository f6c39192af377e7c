"""Bags: the scans of one person as one input, whose answers are averaged, all alike or by gated attention.

The last layer is linear, so the weighted mean of the scans' logits is the answer to the weighted mean of their features. The
logits of a scan are thus what the network says of that scan alone, and the sum over a person's scans is taken last: in
training here, of files of logits in `pooling`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from scanwise.errors import RecipeError

HIDDEN = 128
"""Units of each gate, as in the paper."""


class GatedAttention(nn.Module):
    """Score of a scan from its features, w (tanh(V z) * sigmoid(U z)) (Ilse, Tomczak & Welling 2018, equation 9).

    The softmax of the scores over the scans of a person are their weights.

    Args:
        features: D.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(features, HIDDEN), nn.Linear(features, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N,) scores from features (N, D)."""
        scores: Tensor = self.score(torch.tanh(self.content(features)) * torch.sigmoid(self.gate(features)))
        return scores.squeeze(1)


def attention_of(network: nn.Module, classifier: str) -> GatedAttention:
    """A new attention on the input of a network's last layer.

    Args:
        network: with its classifier.
        classifier: name of the last layer, "" where there is not one.

    Raises:
        RecipeError: if the last layer is not one linear layer.
    """
    last = network.get_submodule(classifier) if classifier else None
    if not isinstance(last, nn.Linear):
        raise RecipeError(
            "model.pool: attention needs a network with one linear last layer. Set model.pool to mean, or model.hidden to a layer "
            "of ours such as [128]."
        )
    return GatedAttention(last.in_features)


def pool_bags(logits: Tensor, scores: Tensor | None, sizes: Sequence[int]) -> Tensor:
    """(B, C) weighted means of the logits of each bag.

    Bags of different sizes are padded, and what is padded has the weight 0.

    Args:
        logits: (N, C) of the scans, bag after bag.
        scores: (N,) of `GatedAttention`; None weights all scans of a bag alike.
        sizes: (B,) scans of each bag, with the sum N.

    >>> pool_bags(torch.tensor([[1.0], [3.0], [9.0]]), None, [2, 1])[:, 0].tolist()
    [2.0, 9.0]
    """
    given = logits.new_zeros(len(logits)) if scores is None else scores
    padded = pad_sequence(list(torch.split(given, list(sizes))), batch_first=True, padding_value=-torch.inf)
    values = pad_sequence(list(torch.split(logits, list(sizes))), batch_first=True)
    return torch.einsum("bk,bkc->bc", padded.softmax(1), values)
