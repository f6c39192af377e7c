"""Weights on disk: what goes in comes out, every key is accounted for, and nothing in a file is executed."""

import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scanwise.errors import RecipeError, WeightsError
from scanwise.models import build_network, describe_weights, weights
from scanwise.recipe import Model

SHARED = Path(os.environ.get("SCANWISE_SHARED") or Path(__file__).parents[3] / "shared")
ABC = ("a", "b", "c")
MOBILENET = SHARED / "weights" / "mobilenetv2_035.pth"


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    network = build_network(Model(name="small"), 3, 1)
    network.body.blocks[0][1].running_mean.uniform_()  # buffers travel too
    return network


def fresh(num_classes: int = 3, channels: int = 1) -> nn.Module:
    torch.manual_seed(1)
    return build_network(Model(name="small", mean=(0.3,)), num_classes, channels)


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_safetensors_come_back_bit_for_bit_with_the_normalisation(small: nn.Module, tmp_path: Path) -> None:
    weights.save_weights(small.to(memory_format=torch.channels_last), tmp_path / "deep" / "model.safetensors")
    other = fresh()
    weights.load_weights(other, tmp_path / "deep" / "model.safetensors")
    assert_equal(small, other)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


def test_the_same_weights_are_the_same_bytes(small: nn.Module, tmp_path: Path) -> None:
    for name in ("a", "b"):
        weights.save_weights(small, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


WRAPPINGS = {
    "DataParallel": lambda name: f"module.{name}",
    "compile": lambda name: f"_orig_mod.{name}",
    "compiled DataParallel": lambda name: f"_orig_mod.module.{name}",
    "DataParallel of compiled": lambda name: f"module._orig_mod.{name}",
    "three deep": lambda name: f"module._orig_mod.module.{name}",
    "compiled blocks": lambda name: name.replace("body.blocks.", "body.blocks._orig_mod."),
    "parallel features": lambda name: name.replace("body.blocks.", "body.blocks.module."),  # as torchvision's AlexNet
    "inside and outside": lambda name: "module." + name.replace("body.", "body._orig_mod."),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappers_leave_no_trace(small: nn.Module, tmp_path: Path, wrapping: str) -> None:
    state = {WRAPPINGS[wrapping](name): tensor for name, tensor in small.state_dict().items()}
    torch.save(state, tmp_path / "wrapped.pth")
    other = fresh()
    weights.load_weights(other, tmp_path / "wrapped.pth")
    assert_equal(small, other)


@pytest.mark.extended
def test_real_wrappers_too(small: nn.Module, tmp_path: Path) -> None:
    torch.save(nn.DataParallel(small).state_dict(), tmp_path / "parallel.pth")
    torch.save({"state_dict": torch.compile(small).state_dict(), "epoch": 3}, tmp_path / "compiled.pth")
    for file in ("parallel.pth", "compiled.pth"):
        other = fresh()
        weights.load_weights(other, tmp_path / file)
        assert_equal(small, other)


def test_two_keys_that_become_one_are_refused(small: nn.Module, tmp_path: Path) -> None:
    state = dict(small.state_dict())
    state["module.body.head.bias"] = torch.ones(3)
    torch.save(state, tmp_path / "twice.pth")
    with pytest.raises(WeightsError, match=r"body\.head\.bias"):
        weights.load_weights(fresh(), tmp_path / "twice.pth")


def damage(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    if how == "missing":
        del state["body.head.bias"], state["body.blocks.0.1.running_mean"]
    elif how == "surplus":
        state["body.extra.weight"] = torch.ones(2)
    elif how == "shape":
        state["body.blocks.1.0.weight"] = torch.ones(7, 16, 3, 3)
    return state


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("missing", r"2 missing \(body\.blocks\.0\.1\.running_mean, body\.head\.bias\)"),
        ("surplus", r"1 unknown to it \(body\.extra\.weight\)"),
        ("shape", r"1 of another shape \(body\.blocks\.1\.0\.weight\)"),
    ],
)
def test_every_key_is_accounted_for(small: nn.Module, tmp_path: Path, how: str, told: str, suffix: str) -> None:
    from safetensors.torch import save_file

    state, file = damage(dict(small.state_dict()), how), tmp_path / f"weights.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
    other = fresh()
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match=told) as caught:
        weights.load_weights(other, file)
    assert str(file) in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())  # nothing half-loaded


def test_all_that_differs_is_told_at_once(small: nn.Module, tmp_path: Path) -> None:
    state = dict(small.state_dict())
    for how in ("missing", "surplus", "shape"):
        damage(state, how)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"missing .*unknown to it .*of another shape"):
        weights.load_weights(fresh(), tmp_path / "weights.pth")


def test_weights_of_the_backbone_alone_are_told_where_they_belong(tmp_path: Path) -> None:
    ridge = {"backbone": {"name": "mobilenetv2_035"}}
    whole = build_network(Model(name="subject_ridge", weights="none", ridge=ridge), 3, 3).state_dict()
    file = tmp_path / "backbone.pth"
    torch.save({name.split("backbone.")[1]: values for name, values in whole.items() if "backbone." in name}, file)
    with pytest.raises(WeightsError, match=r"those of the backbone.*model\.ridge\.backbone\.weights"):
        build_network(Model(name="subject_ridge", weights=str(file), ridge=ridge), 3, 3)


def test_foreign_weights_owe_every_key_but_the_classifier_of_another_size(small: nn.Module, tmp_path: Path) -> None:
    state = dict(small.body.state_dict())
    torch.save(state, tmp_path / "three.pth")
    body = build_network(Model(name="small", weights=str(tmp_path / "three.pth")), 5, 1).body
    assert body.head.weight.shape == (5, 96)
    assert torch.equal(body.blocks[3][0].weight, state["blocks.3.0.weight"])
    said = {"weights": str(tmp_path / "three.pth"), "class_order": ABC}
    same = build_network(Model(name="small", **said), 3, 1, classes=ABC).body
    assert torch.equal(same.head.weight, state["head.weight"])
    headless = build_network(Model(name="small", weights=str(tmp_path / "three.pth")), 0, 1).body
    assert torch.equal(headless.blocks[0][0].weight, state["blocks.0.0.weight"])
    del state["blocks.3.0.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(WeightsError, match=r"1 missing \(blocks\.3\.0\.weight\)"):
        build_network(Model(name="small", weights=str(tmp_path / "less.pth")), 5, 1)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("by", ["pickle", "torch"])
def test_a_pickle_bomb_does_not_go_off(small: nn.Module, tmp_path: Path, by: str) -> None:
    file, mark = tmp_path / "bomb.pth", tmp_path / "exploded"
    content = {"body.head.bias": Bomb(mark)}
    if by == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(WeightsError, match="Nothing in it was executed"):
        weights.load_weights(small, file)
    assert not mark.exists()
    torch.load(file, weights_only=False) if by == "torch" else pickle.loads(file.read_bytes())  # noqa: S301
    assert mark.exists()  # it was a live one


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_no_damage_to_a_file_is_more_than_a_weights_error(small: nn.Module, tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    weights.save_weights(small, whole) if suffix == "safetensors" else torch.save(small.state_dict(), whole)
    content, draws = whole.read_bytes(), np.random.default_rng(0)
    hurt = [b"", b"\x80", b"hello, weights", bytes(draws.integers(0, 256, 500, np.uint8)), b"\x80\x02]q\x00."]
    hurt += [content[:n] for n in (1, 8, 100, len(content) // 2, len(content) - 1)]
    file = tmp_path / f"hurt.{suffix}"
    for damaged in hurt:
        file.write_bytes(damaged)
        with pytest.raises(WeightsError, match=re.escape(str(file))):
            weights.read_weights(file)


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    for content in (torch.ones(3), {"a": 1}, [torch.ones(3)], {"state_dict": {"a": "b"}}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match="no state dict"):
            weights.read_weights(tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no file of weights"):
        weights.read_weights(tmp_path / "nowhere.pth")


def test_colour_weights_become_gray_ones_by_their_sum(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    colour = timm.create_model("test_resnet", num_classes=0).eval()
    torch.save(colour.state_dict(), tmp_path / "colour.pth")
    gray = build_network(Model(name="test_resnet", weights=str(tmp_path / "colour.pth")), 0, 1).body.eval()
    first = colour.pretrained_cfg["first_conv"]
    torch.testing.assert_close(
        gray.get_submodule(first).weight, colour.get_submodule(first).weight.sum(dim=1, keepdim=True)
    )
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():  # a gray scan looks as it did in three equal channels
        torch.testing.assert_close(gray(image), colour(image.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


def test_a_network_with_two_last_layers_takes_no_file(tmp_path: Path) -> None:
    section = Model(name="deit_tiny_distilled_patch16_224", options={"img_size": 32, "depth": 1})
    file = tmp_path / "two.pth"
    torch.save(build_network(section, 4, 3).body.state_dict(), file)
    with pytest.raises(RecipeError, match=r"not one last layer but several.*two\.pth.*hub"):
        build_network(section.model_copy(update={"weights": str(file)}), 4, 3)


@pytest.mark.skipif(
    not MOBILENET.is_file(), reason=f"no {MOBILENET}: set SCANWISE_SHARED to the folder of real weights"
)
@pytest.mark.parametrize("channels", [1, 3])
def test_real_weights_load_whole(channels: int) -> None:
    section = Model(name="mobilenetv2_035", weights=str(MOBILENET), options={"pad_type": "same"})
    network = build_network(section, 4, channels).eval()
    state, own = weights.read_weights(MOBILENET), network.body.state_dict()
    assert own.keys() - state.keys() == {"classifier.weight", "classifier.bias"}
    for name in state.keys() - {"conv_stem.weight"}:
        assert torch.equal(own[name], state[name])
    stem = state["conv_stem.weight"] if channels == 3 else state["conv_stem.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(own["conv_stem.weight"], stem)


@pytest.mark.skipif(
    not MOBILENET.is_file(), reason=f"no {MOBILENET}: set SCANWISE_SHARED to the folder of real weights"
)
@torch.inference_mode()
def test_real_weights_go_under_attention_whole() -> None:
    """mobilenet-attention, on its real and frozen backbone, in its smallest size."""
    options = {"pad_type": "same"}
    section = Model(name="mobilenetv2_035", weights=str(MOBILENET), options=options, attention={"width": 64})
    body, state = build_network(section, 4, 3).body.eval(), weights.read_weights(MOBILENET)
    own = body.backbone.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in state.items())
    maps = body.forward_features(torch.randn(1, 3, 128, 128))
    assert body.attention.attention_map(maps).shape == (1, 16, 16)


@pytest.mark.skipif(
    not MOBILENET.is_file(), reason=f"no {MOBILENET}: set SCANWISE_SHARED to the folder of real weights"
)
def test_real_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match="missing"):
        build_network(Model(name="test_resnet", weights=str(MOBILENET)), 4, 1)


# --- the two-stage system: torchvision's resnet50 under the published head, saved under DataParallel ---

PUBLISHED = ("MildDemented", "ModerateDemented", "NonDemented", "VeryMildDemented")
CLINICAL = ("nondemented", "verymilddemented", "milddemented", "moderatedemented")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.resnet50()
    theirs.fc = nn.Sequential(nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.3), nn.Linear(512, 4))
    for name, buffer in theirs.named_buffers():  # norms that do nothing would hide a mix-up
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.05)
        elif name.endswith("running_var"):
            buffer.uniform_(0.8, 1.2)
    file = tmp_path_factory.mktemp("published") / "best.pth"
    torch.save(nn.DataParallel(theirs).state_dict(), file)
    return theirs.eval(), file


def two_stage(file: Path, colour: bool = True, **said: object) -> Model:
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)} if colour else {}
    return Model(name="resnet50", weights=str(file), hidden=(512,), dropout=0.3, **imagenet, **said)


@torch.inference_mode()
def test_a_published_checkpoint_gives_its_own_logits(published: tuple[nn.Module, Path]) -> None:
    import torchvision

    theirs, file = published
    assert all(name.startswith("module.") for name in torch.load(file, weights_only=True))
    image = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = theirs(normalise(image / 255))
    ours = build_network(two_stage(file, class_order=PUBLISHED), 4, 3, classes=PUBLISHED).eval()
    torch.testing.assert_close(ours(image), expected, rtol=1e-5, atol=1e-5)
    ordered = build_network(two_stage(file, class_order=PUBLISHED), 4, 3, classes=CLINICAL).eval()
    torch.testing.assert_close(ordered(image), expected[:, [2, 3, 0, 1]], rtol=1e-5, atol=1e-5)


@pytest.mark.extended
def test_a_backbone_alone_goes_under_our_head(published: tuple[nn.Module, Path], tmp_path: Path) -> None:
    theirs, _ = published
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")}
    for extra in ({}, {"fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)}):
        torch.save(state | extra, tmp_path / "imagenet.pth")
        ours = build_network(two_stage(tmp_path / "imagenet.pth", colour=False), 4, 1).body  # gray, too
        assert torch.equal(ours.backbone.layer4[2].conv3.weight, theirs.layer4[2].conv3.weight)
        torch.testing.assert_close(ours.backbone.conv1.weight, theirs.conv1.weight.sum(1, keepdim=True))
    del state["layer4.2.conv3.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(WeightsError, match=r"1 missing \(backbone\.layer4\.2\.conv3\.weight\)"):
        build_network(two_stage(tmp_path / "less.pth"), 4, 3)


def test_a_head_of_another_width_is_told(published: tuple[nn.Module, Path]) -> None:
    with pytest.raises(WeightsError, match=r"of another shape \(head\.0\.bias, head\.0\.weight"):
        build_network(two_stage(published[1]).model_copy(update={"hidden": (256,)}), 4, 3)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "small"])
def test_every_kind_of_backbone_goes_under_our_head(name: str, tmp_path: Path) -> None:
    bare = {"name": name, "options": {"img_size": 32} if name == "test_vit" else {}}
    torch.manual_seed(0)
    plain = build_network(Model(**bare), 5, 3).body
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    for said in ({"hidden": (8,)}, {"attention": {"width": 8}}):
        body = build_network(Model(**bare, **said, weights=str(tmp_path / "plain.pth")), 3, 3).body
        state = plain.state_dict()
        mine = body.backbone.state_dict()
        assert mine
        assert all(torch.equal(state[key], tensor) for key, tensor in mine.items())
        torch.save(body.state_dict(), tmp_path / "own.pth")
        own = Model(**bare, **said, weights=str(tmp_path / "own.pth"), class_order=ABC)
        again = build_network(own, 3, 3, classes=ABC).body
        assert_equal(body, again)


# --- class order, class count, export ---


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (("MildDemented", "NonDemented"), r"have 2 classes.*scans 4.*only in the scans: verymild.*, moderate"),
        ((*PUBLISHED[:3], "Questionable"), r"Only in the weights: Questionable; only in the scans: verymilddemented"),
        ((*PUBLISHED[:3], "NonDemented"), r"only in the scans: verymilddemented"),
    ],
)
def test_a_class_order_that_is_not_ours_is_refused_with_what_differs(theirs: tuple[str, ...], told: str) -> None:
    with pytest.raises(WeightsError, match=told):
        weights.map_class_order(theirs, CLINICAL)


def test_classes_go_by_name_whatever_their_spelling() -> None:
    assert weights.map_class_order(("1- Stroke", "2- Control"), ("2_control", "1 STROKE")) == [1, 0]


def test_classes_that_differ_in_a_sign_are_not_one() -> None:
    assert weights.map_class_order(("HER2+", "HER2-", "HER2"), ("HER2-", "her2", "her2 +")) == [1, 2, 0]
    with pytest.raises(WeightsError, match=r"Only in the weights: <5mm; only in the scans: >5mm"):
        weights.map_class_order(("<5mm", "normal"), (">5mm", "normal"))


def test_a_class_order_needs_a_classifier_of_that_size(small: nn.Module, tmp_path: Path) -> None:
    state = small.body.state_dict()
    torch.save(state, tmp_path / "three.pth")
    said = {"name": "small", "weights": str(tmp_path / "three.pth")}
    with pytest.raises(WeightsError, match=r"are for 3 classes, but model\.class_order names 2"):
        build_network(Model(**said, class_order=("a", "b")), 2, 1, classes=("b", "a"))
    turned = build_network(Model(**said, class_order=("a", "b", "c")), 3, 1, classes=("c", "a", "b")).body
    assert torch.equal(turned.head.weight, state["head.weight"][[2, 0, 1]])
    assert torch.equal(turned.head.bias, state["head.bias"][[2, 0, 1]])
    del state["head.weight"], state["head.bias"]
    torch.save(state, tmp_path / "three.pth")
    with pytest.raises(WeightsError, match="no trained classifier"):
        build_network(Model(**said, class_order=("a", "b", "c")), 3, 1, classes=("c", "a", "b"))


@pytest.mark.parametrize("name", ["small", "test_resnet", "test_convnext"])
def test_a_checkpoint_for_other_classes_says_so(name: str, tmp_path: Path) -> None:
    weights.save_weights(build_network(Model(name=name), 5, 1), tmp_path / "five.safetensors")
    with pytest.raises(WeightsError, match="they are for 5 classes and it has 3"):
        weights.load_weights(build_network(Model(name=name), 3, 1), tmp_path / "five.safetensors")


def test_an_export_is_a_plain_state_dict_that_comes_back(small: nn.Module, tmp_path: Path) -> None:
    file = weights.export_weights(small, tmp_path / "checkpoints", 10)
    assert file == tmp_path / "checkpoints" / "model_epoch_10.pth"
    state = torch.load(file, weights_only=True)
    small.body.load_state_dict(state)
    own = Model(name="small", weights=str(file), class_order=ABC)
    assert_equal(build_network(own, 3, 1, classes=ABC).body, small.body)
    assert [found.name for found in file.parent.iterdir()] == [file.name]


MEMBERS = {"kind": "batch_ensemble", "count": 2, "sigma": 0.3, "layers": 3}
EXPORTED = {
    "batch ensemble": {"members": MEMBERS},
    "ordinal": {"ordinal": True},
    "ensemble with attention": {"members": MEMBERS, "attention": {"width": 8}, "hidden": (8,)},
}


@pytest.mark.parametrize("kind", EXPORTED)
@torch.inference_mode()
def test_an_export_of_a_converted_network_comes_back(kind: str, tmp_path: Path) -> None:
    """Members and the questions about stages are made after a plain network's weights are in, but theirs come after."""
    torch.manual_seed(0)
    network = build_network(Model(name="small", **EXPORTED[kind]), 3, 1).eval()
    said = {"name": "small", **EXPORTED[kind], "weights": str(weights.export_weights(network, tmp_path, 1))}
    again = build_network(Model(**said, class_order=ABC), 3, 1, classes=ABC).eval()
    assert_equal(again.body, network.body)
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    fresh_head = build_network(Model(**said), 3, 1).eval()
    assert torch.equal(fresh_head.forward_features(images), network.forward_features(images))
    assert not torch.equal(fresh_head(images), network(images))
    order = ("c", "a", "b")
    if kind == "ordinal":
        with pytest.raises(WeightsError, match="has 2 tasks for 3 classes in their order"):
            build_network(Model(**said, class_order=order), 3, 1, classes=ABC)
    else:
        turned = build_network(Model(**said, class_order=order), 3, 1, classes=ABC).eval()
        torch.testing.assert_close(turned(images), network(images)[:, [1, 2, 0]])


def test_a_plain_classifier_answers_no_ordinal_questions(small: nn.Module, tmp_path: Path) -> None:
    said = {"name": "small", "ordinal": True, "weights": str(weights.export_weights(small, tmp_path, 1))}
    with pytest.raises(WeightsError, match=r"Leave model\.class_order out"):
        build_network(Model(**said, class_order=ABC), 3, 1, classes=ABC)
    assert build_network(Model(**said), 3, 1).body.head.weight.shape == (2, 96)


# --- what became of a file's classifier is said ---


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_classifier_whose_classes_nobody_names_is_not_used(
    small: nn.Module, tmp_path: Path, num_classes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As many classes are not the same classes: the published file has them by the alphabet, the scans by severity."""
    file = weights.export_weights(small, tmp_path, 1)
    section = Model(name="small", weights=str(file), members={"kind": "deep_ensemble", "count": 2})
    for network in build_network(section, num_classes, 1).networks:
        assert not torch.equal(network.body.head.weight[:2], small.body.head.weight[:2])
        assert torch.equal(network.body.blocks[3][0].weight, small.body.blocks[3][0].weight)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(r"model_epoch_1\.pth, for 3 classes, is not used.*model\.class_order", record.getMessage())
    assert describe_weights(section).endswith("with a fresh classifier")


def test_a_classifier_that_is_used_or_not_there_is_a_note(
    small: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    section = Model(name="small", weights=str(weights.export_weights(small, tmp_path, 1)), class_order=ABC)
    with caplog.at_level("INFO", "scanwise"):
        build_network(section, 3, 1, classes=ABC)
        assert "its 3 classes mapped by name" in caplog.text
        assert describe_weights(section).endswith("with its classifier")
        state = {name: tensor for name, tensor in small.body.state_dict().items() if not name.startswith("head.")}
        torch.save(state, tmp_path / "bare.pth")
        caplog.clear()
        bare = Model(name="small", weights=str(tmp_path / "bare.pth"))
        build_network(bare, 3, 1)
        assert "has no classifier" in caplog.text
        caplog.clear()
        build_network(bare, 0, 1)  # features only: there is none to speak of
        build_network(bare, 3, 1, tell=False)
    assert not caplog.records


def test_the_classifier_under_a_head_of_ours_is_told_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(build_network(Model(name="test_resnet"), 7, 3).body.state_dict(), tmp_path / "seven.pth")
    build_network(Model(name="test_resnet", hidden=(8,), weights=str(tmp_path / "seven.pth")), 3, 3)
    assert "for 7 classes, is not used" in caplog.text


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10)}, tmp_path / "small.pth")
    file = tmp_path / "bomb.pth"
    with zipfile.ZipFile(tmp_path / "small.pth") as small, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in small.namelist():
            bomb.writestr(name, bytes(100_000_000) if name.endswith("data/0") else small.read(name))
    with pytest.raises(
        WeightsError, match=r"bomb\.pth holds no weights: it is a small file that would unpack to 100 MB"
    ):
        weights.read_weights(file)
