"""Checks pass where a network has learnt what it should, and fail where it has not, or where a map says nothing of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import make, scans
from trained import held_out, network

from scanwise.explanation import sanity, uncalibrated_probs
from scanwise.explanation.measures import SHARES
from scanwise.explanation.sanity import CheckedMaps


@pytest.fixture(scope="module")
def learnt() -> CheckedMaps:
    return CheckedMaps.of(network(), held_out(24).scans)


@pytest.mark.extended
def test_a_network_that_learnt_passes(learnt: CheckedMaps) -> None:
    before = {name: value.clone() for name, value in learnt.network.state_dict().items()}
    checks = sanity.check_method(learnt.network, learnt.scans, masks=held_out(24).head)
    assert [one.name for one in checks] == ["weights", "repeat", "faith", "foreground"]
    assert not sanity.failure_reasons(checks), sanity.failure_reasons(checks)
    assert all(one.finding("grad_cam").severity == "note" for one in checks)
    assert all(torch.equal(value, before[name]) for name, value in learnt.network.state_dict().items())


@pytest.mark.extended
def test_checks_ask_about_as_many_scans_at_a_time_as_the_maps(learnt: CheckedMaps, batches_seen: list[int]) -> None:
    sanity.check_faithfulness(
        replace(
            learnt, scans=learnt.scans[:6], values=learnt.values[:6], targets=learnt.targets[:6], options={"batch": 4}
        )
    )
    assert max(batches_seen) == 4


@pytest.mark.extended
def test_a_network_trained_on_shuffled_labels_fails() -> None:
    other, seen = network(shuffled=True), held_out(80)
    checks = [
        sanity.check_learnt(uncalibrated_probs(other, seen.scans).argmax(axis=1)[::2], seen.labels[::2]),
        sanity.check_planted_truth(CheckedMaps.of(other, seen.scans[:24]), seen.truth[:24]),
    ]
    assert [one.passed for one in checks] == [False, False], [one.message for one in checks]
    found = checks[0].finding(sanity.method_name({}))
    assert found.severity == "warning"
    assert found.check == "explanation.learnt"
    assert "drawn grey" in found.message


@pytest.mark.extended
def test_a_network_that_learnt_is_told_from_chance() -> None:
    seen = held_out(80)
    said = uncalibrated_probs(network(), seen.scans).argmax(axis=1)
    assert sanity.check_learnt(said[::2], seen.labels[::2]).passed


@pytest.mark.extended
def test_shuffled_labels_give_another_map_and_the_same_network_does_not(learnt: CheckedMaps) -> None:
    assert sanity.check_labels_matter(learnt, network(shuffled=True)).passed
    assert not sanity.check_labels_matter(learnt, learnt.network).passed
    assert sanity.check_seed_agreement(learnt, network(seed=1)).passed
    assert not sanity.check_seed_agreement(learnt, make("small", 2)).passed  # it has learnt nothing
    upside = CheckedMaps(learnt.network, learnt.scans, -learnt.values, learnt.targets, learnt.options)
    assert not sanity.check_seed_agreement(upside, learnt.network).passed


@pytest.mark.extended
def test_a_map_that_does_not_ask_the_network_fails(learnt: CheckedMaps, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge detector: it depends on the scan alone, whatever the weights."""
    down, right = np.gradient(learnt.scans[..., 0].astype(float), axis=(1, 2))
    edges = np.hypot(down, right)
    blind = CheckedMaps(learnt.network, learnt.scans, edges, learnt.targets, learnt.options)
    monkeypatch.setattr(CheckedMaps, "again", lambda self, network, scans=None: edges)
    assert not sanity.check_weights(blind).passed
    assert not sanity.check_faithfulness(blind).passed


def test_what_depends_on_no_map_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, asked = CheckedMaps.of(make("small"), scans(2), method="grad_cam"), []

    def counted(network: object, pixels: np.ndarray, **given: object) -> np.ndarray:
        asked.append(pixels)
        return uncalibrated_probs(subject.network, pixels)

    monkeypatch.setattr(sanity, "uncalibrated_probs", counted)
    sanity.check_faithfulness(subject)
    assert len(asked) == 2 + 3 * 3 * len(SHARES)  # scan and plain scan; then three maps, three ways to change the scan
    assert len({pixels.tobytes() for pixels in asked}) == len(asked)


def test_the_copy_that_is_checked_answers_as_the_network_does() -> None:
    """It lies in memory in another order, and the network itself stays in its own."""
    plain = make("small")
    other = sanity._swift(plain)
    assert all(weight.is_contiguous() for weight in plain.parameters())
    assert any(not weight.is_contiguous() for weight in other.parameters())
    np.testing.assert_allclose(uncalibrated_probs(other, scans(3)), uncalibrated_probs(plain, scans(3)), atol=1e-5)


@pytest.mark.extended
def test_a_map_beside_the_head_fails(learnt: CheckedMaps) -> None:
    head = held_out(24).head
    beside = CheckedMaps(learnt.network, learnt.scans, (~head).astype(float), learnt.targets, learnt.options)
    assert not sanity.check_foreground(beside, head).passed


@pytest.mark.extended
def test_a_method_that_jumps_with_noise_fails(learnt: CheckedMaps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CheckedMaps, "again", lambda self, network, scans=None: np.random.default_rng(3).random(self.values.shape)
    )
    assert not sanity.check_repeat(learnt).passed


@pytest.mark.extended
def test_the_planted_truth_itself_passes_and_a_centre_blob_does_not(learnt: CheckedMaps) -> None:
    from scanwise.explanation.measures import centre_blob

    truth = held_out(24).truth
    known = CheckedMaps(learnt.network, learnt.scans, truth.astype(float), learnt.targets, learnt.options)
    assert sanity.check_planted_truth(known, truth).passed
    blob = CheckedMaps(learnt.network, learnt.scans, centre_blob(*truth.shape), learnt.targets, learnt.options)
    assert not sanity.check_planted_truth(blob, truth).passed


def test_weights_are_drawn_anew_from_the_top() -> None:
    plain = make("small")
    before = {name: value.clone() for name, value in plain.named_parameters()}
    changed = [
        {name for name, value in other.named_parameters() if not torch.equal(value, before[name])}
        for other in sanity.randomised_copies(plain)
    ]
    assert changed[0] < changed[1] < changed[2]
    assert any("head" in name for name in changed[0])
    assert not any("blocks.0" in name for name in changed[0])
    assert {name for name in before if "weight" in name and "head" not in name} - changed[2] <= {
        f"body.blocks.{block}.1.weight"
        for block in range(4)  # norms start at one
    }
    assert all(torch.equal(value, before[name]) for name, value in plain.named_parameters())


@pytest.mark.parametrize("kind", ["vit", "attention", "members"])
def test_every_network_can_be_checked(kind: str) -> None:
    method = "gradient_rollout" if kind == "vit" else "layer_cam"
    checks = sanity.check_method(make(kind), scans(3), masks=np.ones((3, 32, 32), dtype=bool), method=method)
    assert len(checks) == 4
    assert all(np.isfinite(list(one.figures.values())).all() for one in checks)
