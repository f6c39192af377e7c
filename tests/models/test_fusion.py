"""Networks that read words: the contract of all networks, and what fusion adds to it: either alone is enough."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanwise.errors import DataError, RecipeError, WeightsError
from scanwise.models import Network, build_network
from scanwise.models.vocabulary import Vocabulary
from scanwise.prediction import predict_batches, predict_scans
from scanwise.recipe import Model, TextSection

TEXT = {"words": 50, "length": 5, "width": 16, "layers": 2, "heads": 2}
FUSION = {"image": {"name": "test_resnet"}, "width": 16, "heads": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "text": {"name": "text", "text": TEXT},
    "text, hidden": {"name": "text", "text": TEXT, "hidden": [8]},
    "fusion": {"name": "fusion", "text": TEXT, "fusion": FUSION},
    "fusion, hidden": {"name": "fusion", "text": TEXT, "fusion": FUSION, "hidden": [8]},
    "fusion of a transformer": {
        "name": "fusion",
        "text": TEXT,
        "fusion": {**FUSION, "image": {"name": "test_vit", "options": {"img_size": 32}}},
    },
    "fusion, ensemble": {"name": "fusion", "text": TEXT, "fusion": FUSION, "members": {"kind": "batch_ensemble"}},
}
CLASSES = 3
TOKENS = torch.tensor([[3, 4, 5, 0, 0], [6, 7, 8, 9, 10], [11, 0, 0, 0, 0], [0, 0, 0, 0, 0]])

every = pytest.mark.parametrize("name", NETWORKS)


def make(name: str, channels: int = 3, classes: int = CLASSES, **said: Any) -> Network:
    torch.manual_seed(0)
    return build_network(Model(**{**NETWORKS[name], **said}), classes, channels).eval()


def pixels(channels: int = 3, count: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@every
@torch.inference_mode()
def test_the_contract_holds_with_words(name: str, channels: int) -> None:
    network, images = make(name, channels), pixels(channels)
    assert network.takes_tokens
    logits = network(images, TOKENS)
    assert logits.shape == (4, CLASSES)
    assert torch.isfinite(logits).all()
    maps = network.forward_features(images)
    torch.testing.assert_close(network.forward_head(maps, tokens=TOKENS), logits, rtol=0, atol=0)
    features = network.forward_head(maps, pre_logits=True, tokens=TOKENS)
    assert features.ndim == 2
    if network.members == 1:
        torch.testing.assert_close(network.get_submodule(network.classifier)(features), logits)
    members = network.forward_members(images, TOKENS)
    assert members.shape == (4, network.members, CLASSES)
    torch.testing.assert_close(members.softmax(2).mean(1), logits.softmax(1))
    for row in range(4):  # a scan has one answer in any batch
        one = network(images[row : row + 1], TOKENS[row : row + 1])
        torch.testing.assert_close(one, logits[row : row + 1], rtol=1e-4, atol=1e-5)


@every
def test_training_reaches_every_parameter_and_no_classes_give_features(name: str) -> None:
    network = make(name).train()
    torch.nn.functional.cross_entropy(network(pixels(), TOKENS), torch.tensor([0, 1, 2, 0])).backward()
    assert not [key for key, weight in network.named_parameters() if weight.grad is None]
    features = make(name, classes=0)
    with torch.inference_mode():
        found = features(pixels(), TOKENS)
        maps = features.forward_features(pixels())
        torch.testing.assert_close(found, features.forward_head(maps, pre_logits=True, tokens=TOKENS))


@every
@torch.inference_mode()
def test_one_seed_gives_the_same_bits_and_a_state_dict_goes_round(name: str) -> None:
    one, same = make(name), make(name)
    torch.manual_seed(1)
    other = build_network(Model(**NETWORKS[name]), CLASSES, 3).eval()
    logits = one(pixels(), TOKENS)
    assert torch.equal(same(pixels(), TOKENS), logits)
    assert not torch.equal(other(pixels(), TOKENS), logits)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(pixels(), TOKENS), logits)


@every
@torch.inference_mode()
def test_both_are_looked_at_in_their_order(name: str) -> None:
    network = make(name)
    logits = network(pixels(), TOKENS)
    swapped = TOKENS[:, [1, 0, 2, 3, 4]]
    assert not torch.allclose(network(pixels(), swapped)[0], logits[0], atol=1e-6)
    assert torch.allclose(network(pixels(), swapped)[3], logits[3])
    if "fusion" in name:
        assert not torch.allclose(network(pixels().flip(0), TOKENS), logits, atol=1e-6)
    else:
        assert torch.equal(network(pixels().flip(0), TOKENS), logits)
        assert torch.equal(network(None, TOKENS), logits)


@torch.inference_mode()
def test_what_fills_a_title_is_not_read() -> None:
    network = make("fusion")
    short = torch.tensor([[3, 4, 0, 0, 0]])
    torch.testing.assert_close(
        network(pixels(count=1), short), network(pixels(count=1), short[:, :2]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", [name for name in NETWORKS if "fusion" in name])
@torch.inference_mode()
def test_fusion_answers_when_one_is_missing(name: str) -> None:
    network, images = make(name), pixels()
    together, alone, read = network(images, TOKENS), network(images), network(None, TOKENS)
    for logits in (alone, read):
        assert torch.isfinite(logits).all()
        assert not torch.allclose(logits, together, atol=1e-6)
    torch.testing.assert_close(together[3], alone[3], rtol=1e-4, atol=1e-5)  # a title of nothing is a missing one
    assert torch.isfinite(network(None, TOKENS * 0)).all()
    with pytest.raises(DataError, match="needs one of them"):
        network(None, None)


@torch.inference_mode()
def test_shares_sum_to_one_and_follow_what_is_there() -> None:
    network = make("fusion")
    maps = network.forward_features(pixels())
    shares = network.body.shares(maps, TOKENS)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert (shares[:3] > 0).all()
    torch.testing.assert_close(shares[3], torch.tensor([1.0, 0.0]))  # no words
    torch.testing.assert_close(network.body.shares(maps, None)[:, 0], torch.ones(4))
    torch.testing.assert_close(network.body.shares(None, TOKENS)[:3, 1], torch.ones(3))
    network.body.gate.bias.fill_(100)
    torch.testing.assert_close(network.body.shares(maps, TOKENS)[:, 0], torch.ones(4))


@torch.inference_mode()
def test_each_looks_at_the_other() -> None:
    network = make("fusion")
    maps = network.forward_features(pixels())
    at_words, at_image = network.body.attention_maps(maps, TOKENS)
    places = maps.shape[2] * maps.shape[3]
    assert at_words.shape == (4, 1 + places, 6)
    assert at_image.shape == (4, 6, 1 + places)
    torch.testing.assert_close(at_words.sum(2), torch.ones(4, 1 + places))
    assert (at_words[2, :, 2:] == 0).all()  # what fills is not looked at
    assert (at_words[3, :, 0] == 1).all()


def test_training_loses_some_of_each_and_never_both() -> None:
    network = make("fusion").body.train()
    network.missing = 0.25
    seen, said = torch.ones(4000, 7, dtype=torch.bool), torch.ones(4000, 5, dtype=torch.bool)
    said[::2, 1:] = False  # half have no words: these keep their image
    torch.manual_seed(0)
    images, words = network._drop_parts(seen, said)
    gone = ~images[:, 1:].any(1), ~words[:, 1:].any(1)
    assert images[:, 0].all()
    assert words[:, 0].all()
    assert not (gone[0] & gone[1]).any()
    assert not gone[0][::2].any()
    for lost in (gone[0][1::2], gone[1][1::2]):
        assert abs(float(lost.float().mean()) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)
    one = make("fusion").train()
    torch.manual_seed(0)
    assert not torch.allclose(one(pixels(), TOKENS), make("fusion")(pixels(), TOKENS))


def test_words_go_to_those_that_read_alone() -> None:
    torch.manual_seed(0)
    network = build_network(Model(name="small"), 3, 3)
    with pytest.raises(DataError, match="images alone"):
        network(pixels(), TOKENS)
    with pytest.raises(DataError, match="reads words alone"):
        make("text")(pixels())


class Scans:
    def read(self, indices: Any) -> Any:
        return pixels().permute(0, 2, 3, 1).numpy()[indices]


@every
def test_prediction_takes_words_along(name: str) -> None:
    network, rows = make(name), np.array([2, 0, 3])
    logits, _ = predict_scans(network, Scans(), rows, tokens=TOKENS.numpy().astype(np.int32), batch=2)
    with torch.no_grad():
        expected = network.forward_members(pixels()[rows], TOKENS[rows]).numpy()
        read = network.forward_members(None, TOKENS[rows]).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    without, _ = predict_scans(network, None, rows, tokens=TOKENS.numpy())
    np.testing.assert_allclose(without, read, rtol=1e-4, atol=1e-5)
    if "fusion" in name:
        seen, _ = predict_batches(network, [(Scans().read(rows), None)])
        np.testing.assert_allclose(seen, network.forward_members(pixels()[rows]).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_draws_of_dropout_run_trunk_and_words_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make("fusion", dropout=0.5, members={"kind": "mc_dropout", "count": 6})
    calls, real = [], network.body.words.forward
    monkeypatch.setattr(network.body.words, "forward", lambda tokens: calls.append(len(tokens)) or real(tokens))
    logits, _ = predict_scans(network, Scans(), np.arange(4), tokens=TOKENS.numpy())
    assert logits.shape == (4, 6, 3)
    assert (logits.std(1) > 0).all()
    assert calls == [4, 1, 4]
    assert predict_scans(network, None, np.arange(4), tokens=TOKENS.numpy())[0].shape == (4, 6, 3)


# --- Hugging Face encoders ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with its tokenizer, as anybody's local folder."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer

    place = tmp_path_factory.mktemp("encoder") / "tiny"
    vocabulary = Vocabulary.learn(["red shirt", "blue jeans", "green shoes"], TextSection(words=60))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    quick = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(vocabulary.tokenizer), **special)
    quick.save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(place)
    return place


@pytest.mark.parametrize(
    ("name", "stored"), [("text", "float32"), ("fusion", "float32"), ("text", "float16"), ("fusion", "bfloat16")]
)
def test_an_encoder_from_a_folder(folder: Path, name: str, stored: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    if stored != "float32":
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        half = shutil.copytree(folder, tmp_path / "half")
        transformers.BertModel.from_pretrained(folder).to(getattr(torch, stored)).save_pretrained(half)
        folder = half
    section = Model(**{**NETWORKS[name], "text": {"encoder": str(folder), "length": 6}})
    vocabulary = Vocabulary.learn([], section.text)
    tokens = torch.from_numpy(vocabulary(["red jeans", "", "blue"]).astype(np.int64))
    torch.manual_seed(3)
    network = build_network(section, 3, 3).eval()
    state = network.body.words.encoder.encoder.state_dict()
    found = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {getattr(torch, stored)}
    assert all(torch.equal(state[key], tensor.float()) for key, tensor in found.items())
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    with torch.inference_mode():
        logits = network(pixels(count=3), tokens)
        assert torch.isfinite(logits).all()
        torch.testing.assert_close(network(pixels(count=3)[1:2], tokens[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)
        other = network(pixels(count=3), torch.from_numpy(vocabulary(["red shoes", "", "blue"]).astype(np.int64)))
    assert not torch.allclose(other[0], logits[0])
    vocabulary.save(tmp_path / "vocabulary.json")  # in a bundle, where the folder is gone
    known = Vocabulary.load(tmp_path / "vocabulary.json").encoder
    gone = section.model_copy(update={"text": section.text.model_copy(update={"encoder": str(tmp_path / "gone")})})
    again = build_network(gone, 3, 3, pretrained=False, encoder=known).eval()
    trained = {
        key: tensor * 1.001 if tensor.is_floating_point() else tensor for key, tensor in network.state_dict().items()
    }
    network.load_state_dict(trained)  # values that half precision does not hold
    again.load_state_dict(trained)
    with torch.inference_mode():
        torch.testing.assert_close(again(pixels(count=3), tokens), network(pixels(count=3), tokens), rtol=0, atol=0)


def test_an_encoder_that_cannot_be_had_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    def of(encoder: Any, **said: Any) -> Model:
        return Model(name="text", text={"encoder": str(encoder), "length": 6}, **said)

    with pytest.raises(RecipeError, match=r"cannot be loaded.*model\.text\.encoder to small"):
        build_network(of(tmp_path / "nowhere"), 3, 3)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((folder / "config.json").read_bytes())
    (bare / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(WeightsError, match="no safetensors"):
        build_network(of(bare), 3, 3)
    with pytest.raises(RecipeError, match=r"reads 8 tokens, but model\.text\.length is 9"):
        Vocabulary.learn([], TextSection(encoder=str(folder), length=9))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RecipeError, match=r"pip install 'scanwise\[text\]'"):
        build_network(Model(name="text", text={"encoder": str(tmp_path)}), 3, 3)
