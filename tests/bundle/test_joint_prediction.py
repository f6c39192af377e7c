"""Requests that are predicted together get what each gets alone, whatever names they share."""

from typing import Any

import numpy as np
import pytest

from scanwise import bundle
from scanwise.bundle import NetworkOutputs
from scanwise.records import Logits, ScanNovelty
from tiny_bundles import CLASSES, write_tiny_bundle


def request_of(random_numbers: np.random.Generator, *, attention: bool) -> NetworkOutputs:
    count = int(random_numbers.integers(1, 5))
    chosen = (
        random_numbers.choice(["", "p", "q", "1\0p"], count) if random_numbers.random() < 0.7 else np.full(count, "")
    )
    columns = [name for name in ("series", "modality", "site") if random_numbers.random() < 0.5]
    logits = Logits(
        random_numbers.normal(size=(count, 1, len(CLASSES))).astype(np.float32),
        np.full(count, -1),
        np.array([f"{row}.png" for row in range(count)]),
        chosen,
        tuple(CLASSES),
        groups={name: random_numbers.choice(["", "a", "longer"], count) for name in columns},
        attention=random_numbers.normal(size=(count, 1)).astype(np.float32) if attention else None,
    )
    novelty = ScanNovelty(random_numbers.random(count) * 3, random_numbers.random(count) < 0.2)
    hashes = [random_numbers.bytes(16).hex() for _ in range(count)]
    return NetworkOutputs(logits, hashes, novelty, (("x.png", "damaged"),) * int(random_numbers.integers(2)))


@pytest.mark.parametrize("kind", ["demo", "backbone, bags with attention"])
def test_requests_predicted_together_get_what_each_gets_alone(kind: str, build_once: Any) -> None:
    folder = build_once(f"kind-{kind}", lambda folder: write_tiny_bundle(folder, kind))
    loaded = bundle.load(folder)
    random_numbers = np.random.default_rng(7)
    pooled = 0
    for count in (0, 1, 2, 5, 9, 16):
        requests = [request_of(random_numbers, attention="attention" in kind) for _ in range(count)]
        together = [answer.to_json() for answer in loaded.predict_outputs(requests)]
        assert together == [loaded.predict_outputs([request])[0].to_json() for request in requests]
        pooled += sum('"scans": 2' in answer for answer in together)
    assert pooled > 3
