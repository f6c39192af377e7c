"""The exact decomposition of a score that is linear in what is seen: no gradient, no baseline, nothing estimated."""

import torch
from torch import Tensor

from scanwise.errors import RecipeError
from scanwise.explanation.query import ExplanationQuery
from scanwise.models.subject_ridge import SubjectRidge


def contributions(query: ExplanationQuery) -> Tensor:
    """(N, K, H, W) part of each place in the logit of a class, above its mean part in the others.

    It is measured from the average training person; what speaks against the class is left out. Each block of features is
    spread over the area that it was averaged from, and the blocks are summed.

    Raises:
        RecipeError: for a network that is not linear in its features.
    """
    body = query.network.body
    if not isinstance(body, SubjectRidge):
        raise RecipeError("contributions are exact for model.name: subject_ridge alone; choose another method.")
    size = query.images.shape[2:]
    with query.computing(), torch.no_grad():
        features = query.network.forward_features(query.images)
        whole = torch.zeros(len(features), body.head.weight.shape[3], *size, device=features.device)
        for block in body.contributions(features, query.tokens, query.member):
            area = size[0] * size[1] / (block.shape[2] * block.shape[3])
            whole += torch.nn.functional.interpolate(block / area, size=size, mode="nearest-exact")
    against = whole - whole.mean(1, keepdim=True)
    maps = torch.stack([against[torch.arange(len(against)), column] for column in query.targets.T], dim=1)
    return maps.clamp(min=0)
