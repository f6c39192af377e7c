"""The example of docs/extending/network.md runs as it is printed."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from scanwise.models.network import Body

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "network.md"


def test_the_example_learns_and_is_a_network_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert "after one step" in capsys.readouterr().out
    assert 0 < names["after"].item() < names["before"].item()
    network, images = names["network"], names["images"]
    assert isinstance(network.body, Body)
    assert network.get_submodule(network.classifier).out_features == 2
    maps = network.forward_features(images)
    torch.testing.assert_close(network.forward_head(maps), network(images), rtol=0, atol=0)
    assert network.forward_head(maps, pre_logits=True).shape == (8, 32)
    assert names["spec"].name not in names["NETWORKS"]  # the table itself stays as it is
