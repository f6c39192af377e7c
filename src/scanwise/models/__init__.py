"""Networks: uint8 scans in, one value a class out. `build` makes any of them from a recipe."""

from scanwise.models.network import Network, build

__all__ = ["Network", "build"]
