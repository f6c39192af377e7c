"""Networks: uint8 scans in, one value per class out. `build_network` builds any of them from a recipe.

Names are loaded on first use: the vocabulary needs no torch, and a mistake on the command line shall not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanwise.models.deep_ensemble import DeepEnsemble
    from scanwise.models.factory import build_network, describe_weights
    from scanwise.models.network import Network

__all__ = ["DeepEnsemble", "Network", "build_network", "describe_weights"]

_HOMES = {
    "DeepEnsemble": "deep_ensemble",
    "Network": "network",
    "build_network": "factory",
    "describe_weights": "factory",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"scanwise.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'scanwise.models' has no attribute {name!r}")
