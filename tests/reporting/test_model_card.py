"""The model card: its metadata as the hub reads it, nothing leaked, nothing claimed that a run cannot know."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from scanwise.reporting import model_card
from scanwise.reporting.run_data import RunData
from scanwise.run import RunFolder

Make = Callable[..., RunFolder]


def test_metadata_is_read_back_as_the_hub_does(make_run: Make) -> None:
    contents = RunData.of(make_run())
    read = ModelCard(model_card.build_model_card(contents))
    assert read.data.library_name == "scanwise"
    assert read.data.model_name == contents.recipe.name
    accuracy = contents.numbers.find("accuracy", "honest", "subject")
    assert accuracy
    found = {result.metric_type: result for result in read.data.eval_results}
    assert found["accuracy"].metric_value == pytest.approx(accuracy.value, abs=1e-4)
    assert found["accuracy"].metric_args["low"] == pytest.approx(accuracy.low, abs=1e-4)
    assert "Research use only" in read.text
    assert read.text.count("the authors must add it") >= 3


def test_leaked_figures_do_not_leave(make_run: Make) -> None:
    contents = RunData.of(make_run())
    leaked = replace(contents, fits=tuple(f for f in contents.fits if f.split.protocol == "published"))
    text = model_card.build_model_card(leaked)
    assert ModelCard(text).data.eval_results is None
    assert "never tested on new people" in text
    assert "%" not in text.partition("## Evaluation")[2]


class _Hub(BaseHTTPRequestHandler):
    """What the hub's validator does with the metadata: refuse what is no YAML mapping, or results without a metric."""

    def do_POST(self) -> None:
        from ruamel.yaml import YAML

        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["content"]
        data: Any = YAML(typ="safe", pure=True).load(content.split("---")[1])
        complete = isinstance(data, dict) and all(
            {"type", "value"} <= set(metric) and {"type", "name"} <= set(result["dataset"]) and result["task"]["type"]
            for model in data.get("model-index", [])
            for result in model["results"]
            for metric in result["metrics"]
        )
        self.send_response(200 if complete else 400)
        self.end_headers()
        self.wfile.write(b"" if complete else b"incomplete")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stand_in_of_the_hub_takes_it(make_run: Make, hub: None) -> None:
    text = model_card.build_model_card(RunData.of(make_run()))
    ModelCard(text).validate()
    with pytest.raises(ValueError, match="incomplete"):
        ModelCard.validate(_Broken(text))


class _Broken(ModelCard):
    """A card that was not checked when it was made."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text.replace("    - type: accuracy\n      value", "    - value")
