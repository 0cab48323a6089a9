import math

import pytest
from teacher_helpers import CLASSES

from distill_jax.data.schema import Example
from distill_jax.scoring.metrics import is_same_value
from distill_jax.teachers.messages import Token
from distill_jax.teachers.quality import (
    Sample,
    arithmetic_holds,
    judge,
    label_named,
    label_probabilities,
    read_sample,
)

log = math.log


@pytest.mark.parametrize(
    ("rationale", "holds"),
    [
        ("He had 3 and 4 more. 3 + 4 = 7.", True),
        ("He had 3 and 4 more. 3 + 4 = 8.", False),
        ("So 12 - 5 = 7 and then 7 * 2 = 15.", False),
        ("17 + 15 + 2 = 34 kids", True),
        ("She has 2 x 3 = 6 boxes", True),
        ("$1,200 / 4 = $300", True),
        ("10 / 4 = 2.5", True),
        ("10 / 3 = 3.33", True),
        ("10 / 3 = 3.34", False),
        ("(2 + 3) * 4 = 20.", True),
        ("5 - 8 = -3", True),
        ("x = 4, so half of it is 2", True),
        ("No numbers at all.", True),
        ("There are 7 rows of 36. 7 * 36 is 252.", True),  # not written as an equality: not judged
        ("20% * 50 = 10", True),
        ("5 / 10 = 50%", True),
        ("5 / 10 = 60%", False),
        ("2 * 3 = 6 + 1 = 7", True),
        ("2 * 3 = 6 + 1 = 8", False),
        ("17 + (-18) = 17 - 18 = -1", True),
        ("17 + (-18) = 17 - 18 = 1", False),
        ("The box 3 + 4 = 7", True),
        ("He has 5. 3 + 4 = 8", False),
        ("-3 + 5 = 2", True),
        ("1" * 20_000, True),  # no backtracking
        ("1 + " * 5_000, True),
        ("8 / 0 = 4", True),  # has no value: not judged
    ],
)
def test_arithmetic(rationale, holds):
    assert arithmetic_holds(rationale) == holds


@pytest.mark.parametrize(
    ("rationale", "label", "named"),
    [
        ("Only a train station has trains.", "train station", True),
        ("Only a Train Station.", "train station", True),
        ("Trains stop there.", "train", False),  # a part of a word is not the word
        ("3 + 4 = 7.", "(3 + 4)", True),  # its value
        ("They are 1,000 in all.", "( 400 + 600 )", True),
        ("It is 8.", "(3 + 4)", False),
    ],
)
def test_label_named(rationale, label, named):
    assert label_named(rationale, label) == named


def told(text, *alternatives):
    """A token and its alternatives, with probabilities."""
    own = {text: log(1.0 - sum(p for _, p in alternatives))}
    return Token(text, own[text], own | {t: log(p) for t, p in alternatives})


def test_label_probabilities_of_labels_that_are_one_token():
    tokens = [told("neutral", ("entailment", 0.2), ("contradiction", 0.1)), told(".")]
    assert label_probabilities(tokens, CLASSES) == pytest.approx((0.2, 0.7, 0.1))


def test_label_probabilities_of_labels_in_pieces():
    """P = 0.6 * 0.9, 0.6 * 0.1 and 0.3: what is not a label (0.1) is left out, and the sum made 1."""
    tokens = [told("train", ("boat", 0.3), ("zebra", 0.1)), told(" station", (" yard", 0.1))]
    found = label_probabilities(tokens, ["train station", "train yard", "boat"])
    assert found == pytest.approx((0.54 / 0.9, 0.06 / 0.9, 0.3 / 0.9))


def test_label_probabilities_of_pieces_of_words():
    tokens = [told("ent", ("neut", 0.25), ("contra", 0.25)), told("ailment")]
    assert label_probabilities(tokens, CLASSES) == pytest.approx((0.5, 0.25, 0.25))


def test_label_probabilities_of_letters():
    texts = ["a) cat", "b) dog", "c) cow"]
    tokens = [told("b", ("a", 0.3), ("c", 0.1)), told(") dog")]
    assert label_probabilities(tokens, texts) == pytest.approx((0.3, 0.6, 0.1))


def test_label_probabilities_of_an_answer_that_is_none_of_the_labels():
    assert label_probabilities([told("maybe")], CLASSES) is None


def sample(label, rationale="because", problem="", probs=None):
    return Sample("text", label, rationale, problem, probs)


ROW = Example("1", "x", "neutral")


def test_the_majority_and_its_rationales():
    samples = [
        sample("neutral", "one"),
        sample("entailment", "two"),
        sample("neutral", "three"),
        sample("entailment", "bad", problem="arithmetic"),
        sample(None, None, problem="unparsed"),
        sample("neutral", "one"),
    ]
    verdict = judge(ROW, samples, CLASSES)
    assert (verdict.example.teacher_label, verdict.example.rationale) == ("neutral", "one")
    assert verdict.agreement == 0.75 and verdict.rationales == ("one", "three")
    assert verdict.example.label_probs == pytest.approx((0.25, 0.75, 0.0))
    assert verdict.example.label == "neutral"


def test_equations_of_one_value_vote_together():
    samples = [sample("(2 + 3)"), sample("(6 - 2)"), sample("(3 + 2)")]
    verdict = judge(ROW, samples, None, is_same_value)
    assert verdict.example.teacher_label == "(2 + 3)" and verdict.agreement == pytest.approx(2 / 3)
    assert verdict.example.label_probs is None


def test_a_tie_goes_to_the_first():
    assert judge(ROW, [sample("b"), sample("a")], None).example.teacher_label == "b"


def test_no_sample_with_a_vote():
    verdict = judge(ROW, [sample(None, None, "unparsed")], CLASSES)
    assert verdict.example == ROW and verdict.agreement is None


def test_the_probabilities_of_the_samples_are_averaged():
    samples = [sample("neutral", probs=(0.2, 0.7, 0.1)), sample("neutral", probs=(0.0, 0.9, 0.1))]
    assert judge(ROW, samples, CLASSES).example.label_probs == pytest.approx((0.1, 0.8, 0.1))
    mixed = [sample("neutral", probs=(0.2, 0.7, 0.1)), sample("entailment")]
    assert judge(ROW, mixed, CLASSES).example.label_probs is None  # 0.6, 0.35, 0.05: not of the label voted for
    mixed.append(sample("neutral"))
    assert judge(ROW, mixed, CLASSES).example.label_probs == pytest.approx((0.4, 1.7 / 3, 0.1 / 3))


def test_one_sample_without_log_probabilities_gives_no_distribution():
    assert judge(ROW, [sample("neutral")], CLASSES).example.label_probs is None


def stored(text, parser="anli", **fields):
    return {"text": text, "parser": parser, "sampling": {}} | fields


def test_reading_a_stored_completion():
    read = read_sample(stored("It is so. So the answer is **Neutral**."), CLASSES, str)
    assert (read.label, read.rationale, read.problem) == ("neutral", "It is so.", "")
    assert read_sample(stored("It is so. So the answer is maybe."), CLASSES, str).problem == "unknown_label"
    assert read_sample(stored("It is so."), CLASSES, str).problem == "unparsed"
    stop = stored("It is. So the answer is neutral.\n\nHence more", sampling={"stop": ["\n\n"]})
    assert read_sample(stop, CLASSES, str).label == "neutral"


def test_checks_take_the_vote():
    line = stored("3 + 4 = 8. The answer is (3 + 4).", "svamp")
    assert read_sample(line, None, str, ["arithmetic"]).problem == "arithmetic"
    assert read_sample(line, None, str, ["label-named"]).problem == "label-named"
    assert read_sample(line, None, str, ["label-not-named"]).problem == ""


def test_tasks_compare_labels_their_own_way():
    from distill_jax.config import RowsOptions
    from distill_jax.teachers.rows import rows_of

    rows = rows_of(RowsOptions(source="arithmetic"))
    assert rows.same("( 2 + 3 )", "(3 + 2)") and not rows.same("( 2 + 3 )", "(3 - 2)")


@pytest.mark.parametrize(
    ("text", "finish", "label", "problem"),
    [
        ("It is. So the answer is bill", "length", None, "cut"),
        ("Let us think", "length", None, "cut"),
        ("It is. So the answer is billing.\n", "length", "billing", ""),
        ("I can't. So the answer is billing.", "refusal", None, "refused"),
        ("It is. So the answer is bill", "abort", None, "broken"),
        ("It is. So the answer is bill", "insufficient_system_resource", None, "broken"),
        ("It is. So the answer is bill", "FinishReason.MAX_TOKENS", None, "cut"),
        ("It is. So the answer is billing.", "stop_sequence", "billing", ""),
        ("<think>So the answer is shipping.</think>\nIt is. So the answer is billing.", "stop", "billing", ""),
        (
            "Hm. So the answer is no.\n</think>It</s> is. So the answer is billing<|im_end|>",
            "stop",
            "billing",
            "",
        ),
        ("It is \ud83d. So the answer is billing.", "stop", "billing", ""),
    ],
)
def test_answers_that_are_cut_refused_or_carry_markup(text, finish, label, problem):
    line = {
        "text": text,
        "finish": finish,
        "parser": "form:{rationale} So the answer is {label}.",
        "sampling": {},
    }
    sample = read_sample(line, None, str)
    assert (sample.label, sample.problem) == (label, problem)
    assert label is None or sample.rationale in ("It is.", "It is \ufffd.", "It< /s> is.")


@pytest.mark.parametrize("thought", ["", "<think>Hm. </reasoning></think>\n"])
def test_tags_of_the_prompts_own_form_are_no_thinking(thought):
    form = "<reasoning>{rationale}</reasoning>\n<answer>{label}</answer>"
    text = f"{thought}<reasoning>It is.</reasoning>\n<answer>billing</answer><|im_end|>"
    line = {"text": text, "finish": "stop", "parser": f"form:{form}", "sampling": {}}
    sample = read_sample(line, None, str)
    assert (sample.label, sample.rationale) == ("billing", "It is.")
    line = {
        "text": "<answer>x</answer> since",
        "parser": "form:<answer>{label}</answer> {rationale}",
        "sampling": {},
    }
    assert (read_sample(line, None, str).label, read_sample(line, None, str).rationale) == ("x", "since")


def test_labels_that_begin_others_share_nothing():
    tokens = [
        Token("1", math.log(0.7), {"1": math.log(0.7), "9": math.log(0.3)}),
        Token("0", math.log(0.99), {"0": math.log(0.99), ".": math.log(0.01)}),
        Token(".", 0.0, {}),
    ]
    one, nine, ten = label_probabilities(tokens, ["1", "9", "10"])
    assert (one, nine, ten) == pytest.approx((0.007, 0.3, 0.693))
    assert label_probabilities(tokens[:1], ["1", "10"]) == (1.0, 0.0)  # the answer ends there
    for logprob in (float("nan"), float("-inf"), -9999.0, 5.0):
        assert label_probabilities([Token("1", logprob, {})], ["1", "9"]) is None
