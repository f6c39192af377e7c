"""Networks: uint8 scans in, one value per class out. `build_network` builds any of them from a recipe."""

from scanwise.models.deep_ensemble import DeepEnsemble
from scanwise.models.factory import build_network, describe_weights
from scanwise.models.network import Network

__all__ = ["DeepEnsemble", "Network", "build_network", "describe_weights"]
