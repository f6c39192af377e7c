"""The section of a recipe about heatmaps."""

from typing import Annotated, Literal

from pydantic import Field

from scanwise.recipe.section import Count, Proportion, Section


class Explain(Section):
    """Heatmaps of the pixels behind a prediction, and checks of these maps."""

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
        "contributions",
    ] = "auto"
    """Explanation method; `auto` is pooled_gradients: integrated gradients from the scan without its small structures,
    pooled. `contributions` is the exact decomposition of a linear score (subject_ridge only)."""
    layer: str = ""
    """Layer to read (class activation maps only; default: the last one whose map is at least 7 × 7)."""
    scans: Annotated[int, Field(ge=0)] = 24
    """Test scans, one per subject, for the checks; 0 makes no heatmaps."""
    examples: Count = 2
    """Examples of each kind (most confident correct, most confident error, most uncertain) per class."""
    opacity: Proportion = 0.6
    """Opacity of the brightest point of a map over its scan."""
    heads: bool = True
    """Scans show heads: make mean maps over registered heads and a table of their regions."""
    retrain: bool = False
    """Train twice more for the checks that need it: on labels shuffled between people, and from another seed."""
