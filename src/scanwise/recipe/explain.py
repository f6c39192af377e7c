"""The section of a recipe about heatmaps."""

from typing import Annotated, Literal

from pydantic import Field

from scanwise.recipe.section import Count, Proportion, Section


class Explain(Section):
    """Which pixels an answer hangs on, and whether the maps that say so can be trusted."""

    method: Literal[
        "auto",
        "pooled_gradients",
        "integrated_gradients",
        "occlusion",
        "grad_cam",
        "grad_cam_plus_plus",
        "layer_cam",
        "eigen_cam",
        "rollout",
        "gradient_rollout",
        "query_key",
    ] = "auto"
    """`auto` is pooled_gradients: integrated gradients from the scan without its small structures, pooled."""
    layer: str = ""
    """Of class activation maps: the layer to read; unsaid, the last one whose map has at least 7 × 7 places."""
    scans: Annotated[int, Field(ge=0)] = 24
    """Test scans, one a subject, that the checks look at; 0 makes no heatmaps."""
    examples: Count = 2
    """Pictures of each kind (surest right, surest wrong, most uncertain) for each class."""
    opacity: Proportion = 0.6
    """Of the brightest of a map over its scan."""
    heads: bool = True
    """Whether scans are of heads: then mean maps over registered heads and a table of their regions are made."""
    retrain: bool = False
    """Whether to train twice more, on labels shuffled between people and from another seed, for the checks that need it."""
