"""Networks: uint8 scans in, one value a class out. `build` makes any of them from a recipe."""

from scanwise.models.deep_ensemble import DeepEnsemble
from scanwise.models.factory import build, origin
from scanwise.models.network import Network

__all__ = ["DeepEnsemble", "Network", "build", "origin"]
