"""Last layer for ordered classes: each of its tasks asks whether a scan is beyond a class that it has reached."""

from torch import Tensor, nn
from torch.nn import functional as F

from scanwise.errors import RecipeError
from scanwise.models.network import Network


class OrdinalLinear(nn.Linear):
    """The head of CORN (Shi et al. 2021): C - 1 binary tasks inside, C class log-probabilities outside.

    Task k gives sigma(z_k) = P(beyond class k | at least class k). A class is reached and not passed:
    log P(k) = sum over j < k of log sigma(z_j), plus log sigma(-z_k); the last class is never passed.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes - 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) features to (N, C) log-probabilities, whose exponentials sum to one."""
        return class_log_probs(super().forward(features))


def class_log_probs(questions: Tensor) -> Tensor:
    """(N, C) log-probabilities of the classes from (N, C - 1) logits of the tasks.

    >>> import torch
    >>> class_log_probs(torch.zeros(1, 2)).exp()
    tensor([[0.5000, 0.2500, 0.2500]])
    """
    reached = F.pad(F.logsigmoid(questions).cumsum(1), (1, 0))
    return reached + F.pad(F.logsigmoid(-questions), (0, 1))


def make_ordinal(network: Network) -> None:
    """Replace the linear last layer of a network by an ordinal one, with new weights.

    Raises:
        RecipeError: if its last layer is not linear, or there are fewer than two classes.
    """
    try:
        last = network.get_submodule(network.classifier) if network.classifier else None
    except AttributeError:
        last = None
    if not isinstance(last, nn.Linear) or last.out_features < 2:
        raise RecipeError(
            "model.ordinal needs a network with a linear last layer and two classes or more; leave it out."
        )
    network.set_submodule(network.classifier, OrdinalLinear(last.in_features, last.out_features))
