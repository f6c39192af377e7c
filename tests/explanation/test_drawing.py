"""Pictures of maps: what is drawn where, and what is not claimed."""

import io

import numpy as np
import pytest
from PIL import Image

from scanwise.explanation import drawing, regions, with_check_result
from scanwise.records import Heatmap


def heatmap(passed: bool | None = None, values: np.ndarray | None = None) -> Heatmap:
    spot = np.zeros((32, 32), np.float32)
    spot[10:14, 20:24] = 1
    return Heatmap(
        "a.png", 1, spot if values is None else values, "grad_cam", 0.75, passed, "it fails" if passed is False else ""
    )


GRAY = np.full((32, 32, 1), 100, np.uint8)


def test_an_overlay_shows_the_map_where_it_is_and_the_scan_elsewhere() -> None:
    shown = drawing.draw_overlay(GRAY, heatmap().values, opacity=0.5)
    assert (shown[0, 0] == 100).all()
    assert not (shown[12, 22] == 100).all()
    assert (drawing.draw_overlay(GRAY, heatmap().values, opacity=0) == 100).all()
    assert (drawing.draw_overlay(GRAY, np.zeros((32, 32))) == 100).all()


def test_a_map_that_failed_is_gray() -> None:
    failed = drawing.draw_overlay(GRAY, heatmap().values, passed=False)
    assert (failed[..., 0] == failed[..., 1]).all()
    assert (failed[..., 0] == failed[..., 2]).all()
    good = drawing.draw_overlay(GRAY, heatmap().values, passed=True)
    assert (good[12, 22, 0] != good[12, 22, 2]).any()


@pytest.mark.extended
@pytest.mark.parametrize("passed", [None, True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_panels_and_sheets_are_pictures(passed: bool | None, channels: int) -> None:
    scan = np.repeat(GRAY, channels, axis=2)
    for picture in (
        drawing.draw_panel(scan, heatmap(passed), ("well", "ill"), truth="well"),
        drawing.draw_mosaic([scan, scan], [heatmap(passed)] * 2, ["surest right", "surest wrong"], "ill").whole,
        drawing.draw_mean_maps({"mean": heatmap().values, "variance": heatmap().values}, "members"),
    ):
        assert Image.open(io.BytesIO(picture)).size[0] > 200


def test_a_faint_preference_is_drawn_faint() -> None:
    """Beside the bare scan, a map of few places; 1 is opaque, 0 leaves the scan."""
    strong = np.zeros((4, 4))
    strong[1, 3] = 1
    for channels in (1, 3):
        scan = np.repeat(GRAY, channels, axis=2)
        bright, faint, none = (
            np.asarray(Image.open(io.BytesIO(drawing.draw_thumbnail(scan, share * strong, side=32)))).astype(int)
            for share in (1, 0.1, 0)
        )
        assert bright.shape == (32, 68, 3)
        assert (none[:, :32] == 100).all()
        assert (none[:, 36:] == 100).all()
        change, little = (np.abs(one[:, 36:] - 100).sum(axis=2) for one in (bright, faint))
        assert np.unravel_index(change.argmax(), change.shape)[0] in range(8, 16)
        assert np.unravel_index(change.argmax(), change.shape)[1] in range(24, 32)
        assert 0 < little.max() < 0.3 * change.max()


@pytest.mark.parametrize("failed", [True, False])
def test_the_halves_are_drawn_with_their_marks(failed: bool) -> None:
    """A cross where each half looks, seen on the scan; what did not pass is gray and unmarked."""
    maps = {"convolution": heatmap().values, "combined": heatmap().values}
    reasons = {"convolution": ["it jumps"] if failed else [], "combined": []}
    marks = {"convolution": (12 / 32, 22 / 32, 0.1)}
    made = np.asarray(
        Image.open(io.BytesIO(drawing.draw_half_maps(GRAY, maps, "ill", marks=marks, reasons=reasons))).convert("RGB")
    )
    bare = np.asarray(
        Image.open(io.BytesIO(drawing.draw_half_maps(GRAY, maps, "ill", marks={}, reasons=reasons))).convert("RGB")
    )
    assert made.shape == bare.shape
    assert (made != bare).any() != failed
    other = drawing.draw_half_maps(GRAY, maps, "ill", marks=marks, reasons={name: [] for name in maps})
    assert (np.asarray(Image.open(io.BytesIO(other)).convert("RGB")) != made).any() == failed


def test_the_title_says_class_and_probability() -> None:
    assert drawing.heatmap_title(heatmap(), ("well", "ill"), "well") == "ill 75 %, in truth well · grad cam"


def test_an_empty_map_never_passes() -> None:
    empty = with_check_result(heatmap(values=np.zeros((32, 32), np.float32)), [])
    assert empty.passed is False
    assert "empty" in empty.reason
    assert with_check_result(heatmap(), []).passed is True
    assert with_check_result(heatmap(), ["it jumps"]).reason == "it jumps"


def test_examples_are_the_surest_and_the_least_sure() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.99, 0.01]])
    picked = drawing.pick_examples(np.array([0, 0, 0, 0, 1]), probs, 0, 1)
    assert {kind: rows.tolist() for kind, rows in picked.items()} == {
        "surest right": [0], "surest wrong": [2], "most uncertain": [3],
    }  # fmt: skip


def test_regions_of_heads_that_lie_elsewhere_are_the_same() -> None:
    """An ellipse with a bright spot in its middle, or at its front, shifted about."""
    y, x = np.mgrid[:64, :64]
    scans, middle, front = [], [], []
    for down, right in ((0, 0), (4, -3), (-3, 5), (2, 2)):
        inside = ((y - 32 - down) / 24) ** 2 + ((x - 32 - right) / 18) ** 2 < 1
        texture = 120 + 4 * np.clip(y - 32 - down, -10, 20)
        scans.append(np.where(inside, texture, 0).astype(np.uint8))
        middle.append(np.hypot(y - 32 - down, x - 32 - right) < 3)
        front.append(np.hypot(y - 12 - down, x - 32 - right) < 2)
    pixels = np.stack(scans)[..., None]
    laid = regions.align_maps(pixels, np.stack(middle).astype(np.float32))
    shares = regions.region_shares(laid)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert shares["ventricles and centre"] > 0.95
    laid = regions.align_maps(pixels, np.stack(front).astype(np.float32))
    assert regions.region_shares(laid)["front"] > 0.8
    corner = np.zeros((4, 64, 64), np.float32)
    corner[:, :8, :8] = 1
    assert regions.region_shares(regions.align_maps(pixels, corner))["outside the head"] > 0.8


@pytest.mark.parametrize("reasons", [None, [], ["it jumps"]])
def test_members_are_drawn_over_their_scans_and_gray_where_the_method_failed(reasons: list[str] | None) -> None:
    maps = np.stack([heatmap().values] * 2)
    drawn = drawing.draw_members(np.stack([GRAY] * 2), maps, 0 * maps, ["a", "b"], 3, reasons=reasons)
    shown = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
    assert (np.ptp(shown[70:-60], axis=2) > 60).any() == (not reasons)
