import json

import pytest
import tokenizers
from tokenizers import processors

from distill_jax.data.schema import Example
from distill_jax.data.tokenization import new_counts, tokenize
from distill_jax.data.views import RATIONALE_START, View
from distill_jax.data.vocabularies import CausalVocabulary, load_vocabulary
from distill_jax.errors import UserError

LENGTHS = {"inputs": 40, "targets": 16}


def test_texts_come_back_whatever_is_in_them(causal_vocabulary):
    for text in ("a man", "  two\tspaces ", "na\u00efve \u2603 \U0001f600", "1,234.5 (x)", ""):
        [ids] = causal_vocabulary.encode_targets([text])
        assert causal_vocabulary.decode([*ids, causal_vocabulary.eos_id, 7]) == text


def test_two_parts_are_joined_by_a_line_feed(causal_vocabulary):
    assert causal_vocabulary.encode("a man</s>is in") == [
        *causal_vocabulary.encode("a man"),
        causal_vocabulary.encode("\n")[0],
        *causal_vocabulary.encode("is in"),
    ]


def test_it_is_saved_and_loaded(causal_vocabulary, tmp_path):
    causal_vocabulary.save(tmp_path)
    loaded = load_vocabulary(tmp_path)
    assert (loaded.fingerprint, loaded.starts) == (causal_vocabulary.fingerprint, causal_vocabulary.starts)


def test_a_folder_of_transformers_is_a_vocabulary(causal_vocabulary, tmp_path):
    (tmp_path / "tokenizer.json").write_text(causal_vocabulary.content)
    with pytest.raises(UserError, match="no eos_token"):
        load_vocabulary(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"eos_token": {"content": "<|im_end|>"}}))
    assert load_vocabulary(tmp_path).fingerprint == causal_vocabulary.fingerprint
    config.write_text(json.dumps({"eos_token": "<eos>"}))
    with pytest.raises(UserError, match="has no token '<eos>'"):
        load_vocabulary(tmp_path)


def test_another_end_is_another_vocabulary(causal_vocabulary):
    other = CausalVocabulary(causal_vocabulary.content, "<|im_start|>")
    assert other.fingerprint != causal_vocabulary.fingerprint


def test_what_the_tokenizer_puts_before_a_text_frames_an_input(causal_vocabulary):
    tokenizer = tokenizers.Tokenizer.from_str(causal_vocabulary.content)
    start = tokenizer.token_to_id("<|im_start|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        "<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    words = CausalVocabulary(tokenizer.to_str(), "<|im_end|>")
    cue = words.encode("\nAnswer")
    assert words.frame([7, 8, 9], len(cue) + 3) == [start, 7, 8, *cue] and words.room(len(cue) + 3) == 2
    assert causal_vocabulary.frame([7, 8, 9], len(cue) + 3) == [7, 8, 9, *cue]


def test_segments_have_the_vocabularys_own_ids(causal_vocabulary):
    views = [View("label", "label"), View("rationale", "rationale", start=RATIONALE_START)]
    example = Example("1", "a man is in the park", "two", rationale="a house")
    [group] = tokenize([(0, example)], views, causal_vocabulary, LENGTHS, new_counts(views))
    label, rationale = group
    assert label.inputs == causal_vocabulary.encode("a man is in the park\nAnswer")
    assert not rationale.inputs
    assert label.targets == [*causal_vocabulary.encode(" two"), causal_vocabulary.eos_id]
    assert (label.start, rationale.start) == causal_vocabulary.starts
    assert label.start != rationale.start
