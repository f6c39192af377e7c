"""A linear score of a person, as a network: frozen features of each scan, averaged over slabs of the person's scans.

A person with scans 0 … n - 1 in anatomical order covers the unit interval, scan r from r / n to (r + 1) / n, and so do the S
slabs. The vector of a slab is the mean over that part, so a person with one scan has it in every slab, and one with 500 has
means. The score is linear in these vectors, so it is a mean over scans as well: `forward_head` gives each scan its share,
n times what it adds, and the mean of a person's logits is exactly the logits of the person. Covariates of the person, such as
age, are one more block; each scan carries them whole, and one that is not known stands at the average of training people.
"""

import math
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from scanwise.recipe import RidgeSection


class RidgeHead(nn.Module):
    """Logits of each member, linear in the features of each slab less those of the average training person.

    Attributes:
        weight: (T, S, D, C) of the features.
        centre: (T, S, D) features of the average training person.
        covariate_weight: (T, K, C) of the covariates.
        covariate_centre: (T, K) covariates of the average training person.
        constant: (T, C) logits of that person.
    """

    def __init__(self, members: int, slabs: int, features: int, classes: int, covariates: int = 0) -> None:
        super().__init__()
        if covariates:
            self.covariate_weight = nn.Parameter(torch.zeros(members, covariates, classes), requires_grad=False)
            self.covariate_centre = nn.Parameter(torch.zeros(members, covariates), requires_grad=False)
        self.covariates = covariates
        self.weight = nn.Parameter(torch.empty(members, slabs, features, classes), requires_grad=False)
        self.centre = nn.Parameter(torch.empty(members, slabs, features), requires_grad=False)
        self.constant = nn.Parameter(torch.empty(members, classes), requires_grad=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights as a linear layer does, around features of 0."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.weight.shape[1] * self.weight.shape[2]))
        self.centre.zero_()
        self.constant.zero_()

    def of_covariates(self, tokens: Tensor | None, count: int) -> Tensor:
        """(T, N, C) part of the covariates, which follow rank and number in tokens (N, 2 + K), NaN where not known."""
        width = self.constant.shape
        if not self.covariates or tokens is None or tokens.shape[1] < 2 + self.covariates:
            return self.constant.new_zeros(width[0], count, width[1])
        own = tokens[:, 2 : 2 + self.covariates].to(self.constant)
        away = torch.nan_to_num(own - self.covariate_centre[:, None])
        return torch.einsum("tnk,tkc->tnc", away, self.covariate_weight)

    def forward(self, features: Tensor, shares: Tensor) -> Tensor:
        """(T, N, C) from features (N, D) and the share of each scan in each slab (N, S)."""
        members, slabs, width, classes = self.weight.shape
        of_slab = self.constant[:, None] / slabs - torch.einsum("tsd,tsdc->tsc", self.centre, self.weight)
        # One product for all members, slabs and classes: an outer product of features and shares would be slabs times as large.
        whole = features @ self.weight.permute(2, 0, 1, 3).reshape(width, -1)
        in_slab = whole.reshape(-1, members, slabs, classes) + of_slab
        return (in_slab * shares[:, None, :, None]).sum(2).transpose(0, 1)


class SubjectRidge(nn.Module):
    """Body of the network: a frozen timm backbone or two, the grid of their last blocks, small pixels, and the head.

    Args:
        backbone: with `forward_intermediates` and `feature_info`.
        section: of the recipe.
        classes: C; 0 for none.
        covariates: K.
        second: another backbone, and (2, 1 or C) a factor and a shift that turn normalised pixels into those that it was trained
            on; None for one alone. Its blocks come before those of the first.
    """

    takes_tokens = True
    shares_map = True

    def __init__(
        self,
        backbone: nn.Module,
        section: RidgeSection,
        classes: int,
        covariates: int = 0,
        second: tuple[nn.Module, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.second = None if second is None else second[0].requires_grad_(False)
        if second is not None:  # from the recipe, as the normalisation of the network
            self.register_buffer("change", second[1][..., None, None], persistent=False)
        both = [cast(Any, part) for part in (self.second, self.backbone) if part is not None]
        widths = [int(row["num_chs"]) for part in both for row in part.feature_info[-section.blocks :]]
        self.grid, self.pixels, self.blocks = section.grid, section.pixels, section.blocks
        places = math.prod(self.grid)
        self.sizes = [*(width * places for width in widths), math.prod(self.pixels)]
        self.members, self.slabs = section.folds, section.slabs
        self.head = RidgeHead(self.members, self.slabs, sum(self.sizes), classes, covariates)
        self.num_features = self.head_hidden_size = widths[-1]

    def forward_features(self, images: Tensor) -> Tensor:
        """(N, D) features of normalised images (N, C, H, W), block after block, as 16 bits keep them."""
        blocks = self._blocks(self.backbone, images)
        if self.second is not None:
            factor, shift = cast(Tensor, self.change)
            blocks = [*self._blocks(self.second, images * factor + shift), *blocks]
        small = adaptive_avg_pool2d(images.mean(1, keepdim=True), self.pixels).flatten(1)
        return torch.cat([*blocks, small], dim=1).half().float()

    def _blocks(self, backbone: nn.Module, images: Tensor) -> list[Tensor]:
        indices = list(range(-self.blocks, 0))
        maps = cast(Any, backbone).forward_intermediates(images, indices=indices, intermediates_only=True)
        return [adaptive_avg_pool2d(block, self.grid).flatten(1) for block in maps]

    def forward_head(self, features: Tensor, pre_logits: bool = False, tokens: Tensor | None = None) -> Tensor:
        """(T · N, C) logits, a member at a time, or (T · N, D) means of the first backbone's last block.

        Args:
            features: (N, D), which all members share.
            pre_logits: give the means of the last block.
            tokens: (N, 2 + K) rank of each scan among those of its person, their number (see `slab_shares`), and the person's
                covariates; None where neither is known.
        """
        if pre_logits:
            last = features[:, sum(self.sizes[:-2]) : sum(self.sizes[:-1])]
            return last.reshape(features.shape[0], self.num_features, -1).mean(2).repeat(self.members, 1)
        logits: Tensor = self.head(features, slab_shares(tokens, self.slabs, features.shape[0]).to(features))
        return (logits + self.head.of_covariates(tokens, logits.shape[1])).flatten(0, 1)

    def contributions(self, features: Tensor, tokens: Tensor | None, member: int | None = None) -> list[Tensor]:
        """Part of each place of each block in a scan's logits, beyond its part in those of the average training person.

        Args:
            features: (N, D).
            tokens: (N, 2), or None.
            member: one of them; None for the mean.

        Returns:
            for each block (N, C, rows, columns). Summed over blocks and places they are the scan's logits less a constant.
        """
        chosen = slice(None) if member is None else slice(member, member + 1)
        weight, centre = self.head.weight[chosen], self.head.centre[chosen, :, :, None]
        shares = slab_shares(tokens, self.slabs, len(features)).to(features)
        slopes, middles = (torch.tensordot(shares, part.mean(0), 1) for part in (weight, centre * weight))  # (N, D, C)
        adds = features[:, :, None] * slopes - middles
        shapes = [*([self.grid] * (len(self.sizes) - 1)), self.pixels]
        return [
            own.reshape(len(own), -1, *shape, own.shape[2]).sum(1).permute(0, 3, 1, 2)
            for own, shape in zip(torch.split(adds, self.sizes, dim=1), shapes, strict=True)
        ]


def slab_shares(tokens: Tensor | None, slabs: int, count: int) -> Tensor:
    """(N, S) share of each scan in each slab times the scans of its person; their mean over a person is 1.

    Args:
        tokens: (N, 2) rank and number of scans; None counts each scan alone, in all slabs alike.
        slabs: S.
        count: N.

    >>> slab_shares(torch.tensor([[0, 4], [3, 4]]), 2, 2).tolist(), slab_shares(None, 2, 1).tolist()
    ([[2.0, 0.0], [0.0, 2.0]], [[1.0, 1.0]])
    """
    if tokens is None:
        return torch.ones(count, slabs)
    rank, number = tokens[:, :1].double(), tokens[:, 1:2].double().clamp(min=1)
    edges = torch.linspace(0, 1, slabs + 1, dtype=torch.float64, device=tokens.device)
    inside = [
        (torch.minimum((rank + 1) / number, high) - torch.maximum(rank / number, low)).clamp(min=0)
        for low, high in pairwise(edges)
    ]
    return torch.cat(inside, dim=1) * slabs * number
