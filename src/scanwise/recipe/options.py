"""Options of timm's networks that a recipe may set: properties of the network, each within bounds.

Arguments of timm's factory are not among them: they name files to read, such as `checkpoint_path`, which older versions
unpickle.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from scanwise.errors import did_you_mean

Option = bool | int | float | str

SIZES = {
    "img_size": 4096, "patch_size": 1024, "window_size": 1024, "stem_size": 1024, "kernel_size": 64,
    "embed_dim": 8192, "dim": 8192, "num_features": 16384, "head_hidden_size": 16384, "channels": 8192,
    "depth": 256, "num_heads": 256, "head_dim": 1024, "key_dim": 1024,
    "cardinality": 256, "base_width": 1024, "groups": 1024, "num_init_features": 1024, "growth_rate": 1024,
    "output_stride": 32, "down_kernel_size": 16, "reg_tokens": 64, "num_reg_tokens": 64,
}  # fmt: skip
"""Whole numbers from 1, and the largest of each."""
RATES = (
    "drop_rate", "drop_path_rate", "attn_drop_rate", "proj_drop_rate", "pos_drop_rate", "patch_drop_rate", "drop_block_rate",
)  # fmt: skip
"""Shares from 0 to below 1."""
NUMBERS = (
    "mlp_ratio", "expand_ratio", "attn_ratio", "conv_ratio", "width", "width_factor", "init_values", "ls_init_value",
    "layer_scale_init_value", "head_init_scale", "norm_eps",
)  # fmt: skip
"""Numbers from 0 to 64."""
FLAGS = (
    "qkv_bias", "qk_norm", "class_token", "no_embed_class", "pre_norm", "fc_norm", "final_norm", "head_norm_first",
    "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "always_partition", "use_pos_embed", "use_abs_pos_emb",
    "use_rel_pos_bias", "use_post_norm", "swiglu_mlp", "scale_mlp", "conv_mlp", "conv_bias", "use_grn", "fused_conv",
    "zero_init_last", "avg_down", "preact", "distillation",
)  # fmt: skip
"""True or false."""
WORDS = ("global_pool", "pad_type", "act_layer", "norm_layer", "aa_layer", "stem_type", "weight_init")
"""Names of a few letters, from tables of timm."""
OPTIONS = (*SIZES, *RATES, *NUMBERS, *FLAGS, *WORDS)
MOST_NUMBER = 64


def check_options(options: Mapping[str, Option]) -> Mapping[str, Option]:
    """Check that each option is one that a network has, and within its bounds.

    Raises:
        ValueError: naming the option.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            raise ValueError(
                f"{name[:40]!r} is no option of a network that a recipe may set;{did_you_mean(name[:40], OPTIONS)} `scanwise "
                "recipes schema` lists them"
            )
        if expected := _expected(name, value):
            raise ValueError(f"{name} must be {expected}")
    return options


def _expected(name: str, value: Option) -> str:
    """The values that an option takes, in words; empty where this is one of them."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if name in SIZES:
        return "" if number.is_integer() and 1 <= number <= SIZES[name] else f"a whole number from 1 to {SIZES[name]}"
    if name in RATES:
        return "" if 0 <= number < 1 else "a number from 0 to below 1"
    if name in NUMBERS:
        return "" if 0 <= number <= MOST_NUMBER else f"a number from 0 to {MOST_NUMBER}"
    if name in FLAGS:
        return "" if isinstance(value, bool) else "true or false"
    return "" if isinstance(value, str) and re.fullmatch(r"\w{0,32}", value) else "a name of letters, digits and _"


NetworkOptions = Annotated[
    Mapping[str, Option],
    AfterValidator(check_options),
    Field(json_schema_extra={"propertyNames": {"enum": list(OPTIONS)}}),
]
NO_OPTIONS: Mapping[str, Option] = {}
