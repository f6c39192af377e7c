"""Words become tokens by a vocabulary that is learnt once, from training titles, and travels as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest

from scanwise.errors import DataError, RecipeError, RunError
from scanwise.models.vocabulary import Vocabulary, remove_words
from scanwise.recipe import TextSection

TITLES = ["Blue jeans for men", "Red cotton shirt", "red silk shirt, women", "Green sports shoes", ""]


def learnt(**said: int) -> Vocabulary:
    return Vocabulary.learn(TITLES, TextSection(**{"length": 6, "words": 120, **said}))


def test_tokens_are_of_one_length_cut_or_filled() -> None:
    tokens = learnt()(["red shirt", "blue jeans for men in red cotton and green silk", "", "  "])
    assert tokens.shape == (4, 6)
    assert tokens.dtype == np.int32
    assert (tokens[0] == 0).any()
    assert (tokens[1] != 0).all()
    assert (tokens[2:] == 0).all()  # missing
    assert tokens.max() < len(learnt()) <= 120


def test_capitals_do_not_matter_and_words_do() -> None:
    vocabulary = learnt()
    tokens = vocabulary(["RED shirt", "red shirt", "shirt red", "blue shirt"])
    assert (tokens[0] == tokens[1]).all()
    assert (tokens[1] != tokens[2]).any()
    assert (tokens[1] != tokens[3]).any()


def test_what_was_not_seen_in_training_is_unknown() -> None:
    """The vocabulary knows nothing of other titles: a letter that training has not is one unknown word."""
    unknown, also, known = learnt()(["ωμέγα", "привет", "red"])
    assert (unknown == also).all()
    assert not set(unknown[unknown != 0].tolist()) & {known[0]}


def test_the_order_of_the_scans_and_of_hash_tables_makes_no_difference() -> None:
    """A tokenizer whose trainer goes by its hash tables is another one each time."""
    again = {Vocabulary.learn(TITLES[::turn], TextSection(length=6, words=120)).tokenizer for turn in (1, -1) * 5}
    assert again == {learnt().tokenizer}


def test_a_saved_vocabulary_is_the_same(tmp_path: Path) -> None:
    vocabulary, file = learnt(), tmp_path / "run" / "vocabulary.json"
    vocabulary.save(file)
    again = Vocabulary.load(file)
    np.testing.assert_array_equal(again([*TITLES, "neue Hose"]), vocabulary([*TITLES, "neue Hose"]))
    assert (again.length, again.pad, again.encoder, len(again)) == (6, 0, None, len(vocabulary))
    content = json.loads(file.read_text(encoding="utf-8"))
    for damaged in ("", "[]", json.dumps({**content, "length": None}), json.dumps({"length": 3})):
        file.write_text(damaged, encoding="utf-8")
        with pytest.raises(RunError, match=r"vocabulary .*cannot be read"):
            Vocabulary.load(file)


def test_no_words_at_all_are_refused() -> None:
    with pytest.raises(DataError, match="No training scan has a title"):
        Vocabulary.learn(["", " "], TextSection())
    with pytest.raises(RecipeError, match=r"letters of the titles alone need \d+ entries.*model\.text\.words is 8"):
        learnt(words=8)


def test_class_words_are_masked_whatever_their_form() -> None:
    titles = ["Nike Men's Sports SHOES black", "Shoe rack", "Sportswear top", "glasses and a dress", "bus"]
    left = remove_words(titles, ["Sports Shoes", "Dresses", "bu"])
    assert left[0].split()[-1] == "black"
    assert not {"sports", "shoes"} & set(left[0].lower().split())
    assert left[1:] == ["rack", "Sportswear top", "glasses and a", "bus"]
    assert titles[1] == "Shoe rack"


def test_tokens_are_told_apart_by_the_words_they_are_of() -> None:
    vocabulary = learnt(length=16)
    titles = ["Men's RED-blue shirt", "", "Übergröße", " ".join(["shirt"] * 20)]
    words, places = vocabulary.words(titles)
    assert words[:3] == [("Men's", "RED-blue", "shirt"), (), ("Übergröße",)]
    tokens = vocabulary(titles)
    np.testing.assert_array_equal(places >= 0, tokens != 0)
    assert np.unique(places[0][places[0] >= 0]).tolist() == [0, 1, 2]
    assert (np.diff(places[0][places[0] >= 0]) >= 0).all()
    assert set(places[2].tolist()) <= {0, -1}  # all its pieces are one word
    alone = vocabulary([words[0][1]])[0]
    np.testing.assert_array_equal(tokens[0][places[0] == 1], alone[alone != 0])
    assert len(words[3]) == 20
    assert places[3].max() < 19  # the last words are beyond the length


def test_what_a_tokenizer_adds_is_of_no_word() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    known = {name: index for index, name in enumerate(["[PAD]", "[UNK]", "<s>", "</s>", "red", "Ġ", "shirt"])}
    bert = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))  # noqa: S106 - no password
    bert.pre_tokenizer = pre_tokenizers.Whitespace()
    bert.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    words, places = Vocabulary(bert.to_str(), 6).words(["red  new shirt"])
    assert words == [("red", "new", "shirt")]
    assert places.tolist() == [[-1, 0, 1, 2, -1, -1]]
