"""Random changes do what the recipe says, no more, and the same again from the same generator."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from scanwise.recipe import Augment
from scanwise.training.augment import apply_augmentations, augment_batch, draw_affine, draw_augmentations

EVERYTHING = Augment(shift=0.1, scale=0.2, rotate=20, probability=1, flip=True)


def scans(count: int = 8, side: int = 32, channels: int = 1) -> torch.Tensor:
    draws = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(draws.normal(size=(count, channels, side, side)), (0, 0, 3, 3))
    return torch.from_numpy((128 + 127 * smooth / np.abs(smooth).max()).astype(np.uint8))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_strength_changes_nothing() -> None:
    out = augment_batch(scans(), Augment(), seeded())
    assert out.dtype == torch.float32
    assert torch.equal(out, scans().float())


def test_no_probability_changes_nothing() -> None:
    section = EVERYTHING.model_copy(update={"probability": 0.0, "flip": False})
    torch.testing.assert_close(augment_batch(scans(), section, seeded()), scans().float(), rtol=0, atol=1e-3)


def test_the_generator_alone_decides() -> None:
    one = augment_batch(scans(), EVERYTHING, seeded(5))
    torch.rand(7)  # the global generator plays no part
    assert torch.equal(augment_batch(scans(), EVERYTHING, seeded(5)), one)
    assert not torch.equal(augment_batch(scans(), EVERYTHING, seeded(6)), one)


def test_each_scan_has_its_own_draw() -> None:
    same = scans(1).repeat(6, 1, 1, 1)
    out = augment_batch(same, EVERYTHING, seeded())
    assert all(not torch.allclose(out[i], out[j]) for i in range(6) for j in range(i))


def test_the_channels_of_a_scan_move_together() -> None:
    out = augment_batch(scans(3).repeat(1, 3, 1, 1), EVERYTHING, seeded())
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(out[:, 0], out[:, 2])


def test_the_memory_format_makes_no_difference() -> None:
    stored = scans(4, channels=3).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(
        augment_batch(stored, EVERYTHING, seeded()), augment_batch(scans(4, channels=3), EVERYTHING, seeded())
    )


def test_flip_mirrors_left_and_right_in_half_of_the_scans() -> None:
    images = scans(400, side=16)
    out = augment_batch(images, Augment(flip=True), seeded())
    mirrored = [torch.equal(new, old.float().flip(2)) for new, old in zip(out, images, strict=True)]
    kept = [torch.equal(new, old.float()) for new, old in zip(out, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 160 < sum(mirrored) < 240


def test_the_stated_share_of_scans_is_changed() -> None:
    images = scans(400, side=16)
    out = augment_batch(images, Augment(rotate=30, probability=0.25), seeded())
    changed = sum(not torch.allclose(new, old.float(), atol=0.01) for new, old in zip(out, images, strict=True))
    assert 65 < changed < 135


def test_a_shift_moves_by_at_most_its_share_of_the_side_in_all_directions() -> None:
    images = torch.zeros(300, 1, 32, 32)
    images[:, :, 14:18, 14:18] = 200
    out = augment_batch(images, Augment(shift=0.25, probability=1), seeded())[:, 0].numpy()
    moved = np.array([ndimage.center_of_mass(image) for image in out]) - 15.5
    assert np.abs(moved).max() <= 0.25 * 32 + 1e-3
    assert moved.max(axis=0) == pytest.approx([8, 8], abs=0.4)
    assert moved.min(axis=0) == pytest.approx([-8, -8], abs=0.4)
    assert moved.mean(axis=0) == pytest.approx([0, 0], abs=0.9)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2  # down and across are drawn apart


def test_a_zoom_stays_within_its_share() -> None:
    images = torch.zeros(200, 1, 64, 64)
    images[:, :, 16:48, 16:48] = 1
    areas = augment_batch(images, Augment(scale=0.2, probability=1), seeded()).sum((1, 2, 3)).sqrt() / 32
    assert float(areas.min()) == pytest.approx(0.8, abs=0.02)
    assert float(areas.max()) == pytest.approx(1.2, abs=0.02)


def test_a_rotation_stays_within_its_degrees_both_ways() -> None:
    drawn = draw_affine(500, Augment(rotate=15, probability=1), seeded())
    degrees = torch.rad2deg(torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0]))
    assert float(degrees.max()) == pytest.approx(15, abs=0.2)
    assert float(degrees.min()) == pytest.approx(-15, abs=0.2)
    torch.testing.assert_close(torch.linalg.det(drawn[:, :, :2]), torch.ones(500))  # and does not zoom


@pytest.mark.parametrize("section", [Augment(rotate=40, probability=1), EVERYTHING.model_copy(update={"flip": False})])
def test_it_is_scipys_affine_transform(section: Augment) -> None:
    image = scans(1, side=33)
    (matrix,) = draw_affine(1, section, seeded(3)).double().numpy()
    out = augment_batch(image, section, seeded(3))[0, 0].numpy()
    # Ours takes (x, y) in [-1, 1] between outer edges, SciPy's (row, column) in pixels.
    turn, middle = matrix[::-1, 1::-1], 16.0
    shift = matrix[::-1, 2] * 33 / 2
    expected = ndimage.affine_transform(
        image[0, 0].numpy().astype(float), turn, middle + shift - turn @ [middle, middle], order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(out, expected, atol=0.05)


def test_a_known_rotation_is_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    module = __import__("scanwise.training.augment", fromlist=["augment"])
    cos, sin = math.cos(math.radians(20)), math.sin(math.radians(20))
    monkeypatch.setattr(module, "draw_affine", lambda *_: torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]]))
    image = scans(1)
    out = augment_batch(image, Augment(rotate=20), seeded())[0, 0].numpy()
    expected = ndimage.rotate(image[0, 0].numpy().astype(float), 20, reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(out, expected, atol=0.05)


def test_pixels_stay_within_the_range_they_had() -> None:
    images = scans(64)
    images[:32] = torch.randint(0, 2, (32, 1, 32, 32), generator=seeded(), dtype=torch.uint8) * 255
    out = augment_batch(images, EVERYTHING, seeded())
    assert float(out.min()) >= 0
    assert float(out.max()) <= 255 + 1e-3
    assert float(augment_batch(torch.full((4, 1, 16, 16), 9, dtype=torch.uint8), EVERYTHING, seeded()).max()) <= 9.001


def test_what_comes_in_from_outside_is_black() -> None:
    out = augment_batch(torch.full((20, 1, 16, 16), 255.0), Augment(shift=0.5, probability=1), seeded())
    assert float(out.min()) == 0


TONES = Augment(brightness=0.2, contrast=0.3, gamma=0.4, probability=1)


def test_tone_is_contrast_then_brightness_then_gamma() -> None:
    image = scans(1).double()[0, 0].numpy()
    ((bright, contrast, gamma),) = draw_augmentations(1, TONES, seeded(4)).tone.double().numpy()
    out = augment_batch(scans(1), TONES, seeded(4))[0, 0].numpy()
    expected = np.clip((image - image.mean()) * contrast + image.mean() + 255 * bright, 0, 255)
    np.testing.assert_allclose(out, 255 * (expected / 255) ** gamma, atol=0.01)
    assert np.abs(out - image).mean() > 1


@pytest.mark.parametrize(
    ("section", "column", "low", "high"),
    [({"brightness": 0.2}, 0, -0.2, 0.2), ({"contrast": 0.3}, 1, 0.7, 1.3), ({"gamma": 0.25}, 2, 0.8, 1.25)],
)
def test_tones_stay_within_what_the_recipe_says(
    section: dict[str, float], column: int, low: float, high: float
) -> None:
    tone = draw_augmentations(800, Augment(**section, probability=1), seeded()).tone
    assert float(tone[:, column].min()) == pytest.approx(low, abs=0.01)
    assert float(tone[:, column].max()) == pytest.approx(high, abs=0.01)
    others = [index for index in range(3) if index != column]
    assert torch.equal(tone[:, others], torch.tensor([0.0, 1.0, 1.0])[others].expand(800, 2))


def test_black_and_white_stay_under_gamma() -> None:
    edges = torch.tensor([0.0, 255.0]).reshape(1, 1, 1, 2)
    assert torch.equal(augment_batch(edges, Augment(gamma=0.5, probability=1), seeded(1)), edges)


def test_scans_whose_tone_is_left_alone_stay_to_the_bit() -> None:
    images = scans(200, side=16)
    out = augment_batch(images, TONES.model_copy(update={"probability": 0.5}), seeded())
    kept = [torch.equal(new, old.float()) for new, old in zip(out, images, strict=True)]
    assert 70 < sum(kept) < 130


def test_an_elastic_change_moves_by_at_most_its_share_smoothly() -> None:
    side = 64
    ramp = torch.arange(float(side)).expand(8, 1, side, side)  # the gray value is the place
    out = augment_batch(ramp, Augment(elastic=0.05, probability=1), seeded())
    moved = (out - ramp)[:, :, 8:-8, 8:-8]
    assert float(moved.abs().max()) <= 0.05 * side + 1e-3
    assert float(moved.abs().max()) > 0.02 * side
    assert float(moved.diff(dim=3).abs().max()) < 1  # no folds, no jumps
    assert float(moved.std(0).mean()) > 0  # each scan its own


def test_no_elastic_probability_changes_nothing() -> None:
    section = Augment(elastic=0.1, probability=0)
    torch.testing.assert_close(augment_batch(scans(), section, seeded()), scans().float(), rtol=0, atol=1e-3)


def test_drawn_changes_can_be_made_again_of_some() -> None:
    section = EVERYTHING.model_copy(update={"brightness": 0.1, "elastic": 0.03})
    drawn, rows = draw_augmentations(8, section, seeded(2)), torch.tensor([6, 1])
    whole = augment_batch(scans(), section, seeded(2))
    torch.testing.assert_close(apply_augmentations(scans()[rows], drawn.take(rows)), whole[rows], rtol=0, atol=1e-3)


def test_what_is_off_draws_nothing() -> None:
    """Else a new kind of change would change the runs of every older recipe."""
    generator, other = seeded(9), seeded(9)
    augment_batch(scans(), EVERYTHING, generator)
    torch.rand(8, generator=other)  # flip
    draw_affine(8, EVERYTHING, other)
    assert torch.equal(generator.get_state(), other.get_state())
