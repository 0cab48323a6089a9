"""Python code that calls an exported student: part of its model card, and run by the tests as it stands."""

import string
from collections.abc import Mapping
from typing import Any

from distill_jax.data.views import ANSWER, View, share_inputs
from distill_jax.data.vocabularies import Vocabulary
from distill_jax.decoding.student import Student

_READ = """
    # The student writes its rationale, and the label after it.
    parts = [text.rpartition($answer) for text in written]
    if what == "label":
        return [after.strip() if found else "" for _, found, after in parts]
    return [before.strip() if found else after for before, found, after in parts]
"""
_PLAIN = """
    return written
"""

# An encoder-decoder; `$start` gives the decoder its first token where the views differ in it alone.
_SEQ2SEQ = """\
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

FOLDER = $folder  # this folder, or the repository's name on the hub
PREFIXES = $prefixes
$starts
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSeq2SeqLM.from_pretrained(FOLDER).eval()


def predict(texts, what="label"):
    texts = [PREFIXES[what] + text for text in texts]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=$inputs, return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=$targets,
            do_sample=False,$start
        )
    written = tokenizer.batch_decode(tokens, skip_special_tokens=True)$read

print(predict([$example]))
"""
_TRANSLATOR = """\
import ctranslate2
from transformers import AutoTokenizer

FOLDER = $folder  # this folder
PREFIXES = $prefixes
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
translator = ctranslate2.Translator(FOLDER, device="cpu")


def predict(texts, what="label"):
    texts = [PREFIXES[what] + text for text in texts]
    rows = tokenizer(texts, truncation=True, max_length=$inputs)["input_ids"]
    rows = [tokenizer.convert_ids_to_tokens(row) for row in rows]
    limits = {"max_input_length": 0, "max_decoding_length": $targets}
    outputs = translator.translate_batch(rows, beam_size=1, **limits)
    tokens = [tokenizer.convert_tokens_to_ids(output.hypotheses[0]) for output in outputs]
    written = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]$read

print(predict([$example]))
"""

# A decoder-only model; its prompts are put together from ids, as those it was trained on.
_PROMPT = """
def prompt(text, what):
    parts = (PREFIXES[what] + text).split("</s>")
    parts = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts]
    ids = [token for part in parts for token in [$joint, *part]][1:]
    return [*$before, *ids[:$room], *CUES[what]]
"""
_CAUSAL = (
    """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = $folder  # this folder, or the repository's name on the hub
PREFIXES = $prefixes
CUES = $cues  # the tokens between an input and what the student writes
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER).eval()

"""
    + _PROMPT
    + """

def predict(texts, what="label"):
    rows = {"input_ids": [prompt(text, what) for text in texts]}
    batch = tokenizer.pad(rows, padding_side="left", return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(
            batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=$targets, do_sample=False
        )
    written = tokenizer.batch_decode(tokens[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    written = [text.removeprefix(" ") for text in written]$read

print(predict([$example]))
"""
)
_GENERATOR = (
    """\
import ctranslate2
from transformers import AutoTokenizer

FOLDER = $folder  # this folder
PREFIXES = $prefixes
CUES = $cues  # the tokens between an input and what the student writes
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
generator = ctranslate2.Generator(FOLDER, device="cpu")

"""
    + _PROMPT
    + """

def predict(texts, what="label"):
    rows = [tokenizer.convert_ids_to_tokens(prompt(text, what)) for text in texts]
    options = {"include_prompt_in_result": False, "sampling_topk": 1}
    outputs = generator.generate_batch(rows, max_length=$targets, **options)
    written = [tokenizer.decode(output.sequences_ids[0], skip_special_tokens=True) for output in outputs]
    written = [text.removeprefix(" ") for text in written]$read

print(predict([$example]))
"""
)


def prefixes(views: tuple[View, ...]) -> dict[str, str]:
    """`label`, `rationale` -> what comes before an input to have it written; what the views say."""
    if any(view.answer for view in views):
        return {name: views[0].prefix for name in ("label", "rationale")}
    return {view.name: view.prefix for view in views}


def snippet(student: Student, to: str, folder: str) -> str:
    """Python code that loads the `folder`, and defines and calls `predict(texts, what="label")`.

    `to` is of `ExportConfig`. The code's `predict` returns the student's own greedy texts.
    """
    views, words, lengths = student.views, student.vocabulary, student.lengths
    is_causal = words.pad_id is None
    shared = share_inputs(views) and not is_causal
    wanted = prefixes(views)
    if shared and to == "ctranslate2":
        del wanted["rationale"]  # the decoder's first token is the model's there, which is the label's
    fields: dict[str, Any] = {
        "folder": _quoted(folder),
        "prefixes": _mapping(wanted),
        "inputs": lengths["inputs"],
        "targets": lengths["targets"],
        "example": '"..."',
        "starts": f"STARTS = {_mapping({v.name: words.starts[v.start] for v in views})}\n" if shared else "",
        "start": "\n            decoder_start_token_id=STARTS[what]," if shared else "",
    }
    read = _READ if any(view.answer for view in views) else _PLAIN
    fields["read"] = string.Template(read).substitute(answer=_quoted(ANSWER.strip()))
    if is_causal:
        fields |= _causal_fields(views, words, wanted, lengths["inputs"])
    code = {
        ("huggingface", False): _SEQ2SEQ,
        ("ctranslate2", False): _TRANSLATOR,
        ("huggingface", True): _CAUSAL,
        ("ctranslate2", True): _GENERATOR,
    }[to, is_causal]
    return string.Template(code).substitute(fields).replace("\n\ntokenizer", "\ntokenizer")


def _causal_fields(
    views: tuple[View, ...], words: Vocabulary, wanted: Mapping[str, str], length: int
) -> dict[str, Any]:
    starts = {view.name: words.starts[view.start] for view in views}
    first = words.starts[views[0].start]
    cues = {name: [*words.after, starts.get(name, first)] for name in wanted}
    room = max(words.room(length), 0)
    return {"cues": _mapping(cues), "before": list(words.before), "room": room, "joint": words.joint_id}


def _mapping(values: Mapping[str, Any]) -> str:
    shown = {name: _quoted(value) if isinstance(value, str) else value for name, value in values.items()}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in shown.items()) + "}"


def _quoted(text: str) -> str:
    """A text as Python, in double quotes where that is as plain."""
    return f'"{text}"' if text.isprintable() and not set(text) & {'"', "\\"} else repr(text)
