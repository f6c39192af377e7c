"""Covariates of a person, such as age, under the last layer of a network: further features beside those of the scan.

A linear last layer on both is a sum, so the part of the covariates is added to the logits that the scan gives. It is the same
for all scans of a person.
"""

import torch
from torch import Tensor, nn


class CovariateTerm(nn.Module):
    """Logits of standardised covariates, without a constant; one that is not known stands at the mean of training people.

    Args:
        covariates: K.
        classes: C.

    Attributes:
        means, spreads: (K,) of training people.
        weight: (K, C), from 0.
    """

    means: Tensor
    spreads: Tensor

    def __init__(self, covariates: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(covariates))
        self.register_buffer("spreads", torch.ones(covariates))
        self.weight = nn.Parameter(torch.zeros(covariates, classes))

    def set_scale(self, means: Tensor, spreads: Tensor) -> None:
        """Take the means (K,) and spreads (K,) of training people."""
        self.means.copy_(means)
        self.spreads.copy_(spreads)

    def forward(self, covariates: Tensor) -> Tensor:
        """(N, C) from covariates (N, K), NaN where one is not known."""
        away = (covariates.to(self.means) - self.means) / self.spreads
        return torch.nan_to_num(away) @ self.weight
