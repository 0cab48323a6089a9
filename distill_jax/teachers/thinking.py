"""What a completion holds beside its answer: the model's thinking, and tokens that end a turn."""

import re
from typing import NamedTuple

_NAMES = "think(?:ing)?|thoughts?|reasoning|analysis|reflection|scratchpad|seed:think|antthinking"
# Tags of DeepSeek, Qwen, Anthropic and others; of MedGemma; of Kimi; of Magistral; of Cohere and others; the
# channels of gpt-oss.
_TAG = re.compile(
    rf"<(?P<xml>/?)(?:{_NAMES})\s{{0,9}}>|<\|(?P<bar>/?)think(?:ing)?\|>|<unused9(?:4>thought|(?P<unused>5)>)|◁(?P<kimi>/?)think▷|\[(?P<magistral>/?)THINK\]"
    r"|<\|(?P<token>begin_of_thought|end_of_thought|START_THINKING|END_THINKING)\|>"
    r"|(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>(?P<channel>analysis|commentary|final)<\|message\|>",
    re.IGNORECASE,
)
_CLOSING = ("/", "5", "end_of_thought", "end_thinking", "final")
_CONTROL = re.compile(
    r"<\|[\w ]{1,40}\|>|<｜[\w▁ ]{1,40}｜>|\[\|[\w ]{1,40}\|\]|</?s>|\[/?(?:INST|EOS)\]"
    r"|<(?:eos|bos|pad|end_of_turn|start_of_turn|endoftext|end_of_utterance|unk)>|</(?:answer|final_answer|response|output)>",
    re.IGNORECASE,
)
# What a chat's template or a model puts before an answer.
_HEADER = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|im_start\|>|<\|start_header_id\|>|<\|start\|>|<start_of_turn>|\[/INST\])"
    r"(?:(?:assistant|model)(?:<\|end_header_id\|>|<\|message\|>|\s*\n))?\s*|\s*<\|assistant\|>\s*"
    r"|\s*<(?:answer|final_answer|response|output)>|\s*<think/>",
    re.IGNORECASE,
)
_LONGEST = 48  # characters of a control token


class Parts(NamedTuple):
    """A completion without its tags: what the model thought, its answer, and where in the text that begins."""

    thinking: str
    answer: str
    start: int  # of the last stretch of the answer


def split(text: str, form: str = "") -> Parts:
    """Parts what is between the tags of thinking from the rest.

    A closing tag without an opening one ends thinking that began with the text; an opening one without a
    closing one makes all that follows thinking. A tag that stands in the `form` of answers is no thinking: a
    prompt may ask for its rationale in one.
    """
    thought: list[str] = []
    answered: list[str] = []
    position, inside = 0, False
    for tag in _TAG.finditer(text):
        if tag[0] in form:
            continue
        piece = text[position : tag.start()]
        closing = (next(filter(None, tag.groups()), "")).lower() in _CLOSING
        if closing and not inside:
            thought += [*answered, piece]
            answered = []
        else:
            (thought if inside else answered).append(piece)
        position, inside = tag.end(), not closing
    (thought if inside else answered).append(text[position:])
    start = len(text) if inside else position
    thinking = "\n".join(filter(None, (ended(piece).strip() for piece in thought)))
    return Parts(thinking, _begun(ended("".join(answered)), form), start)


def _begun(text: str, form: str) -> str:
    """`text` without the control tokens before it that are not in a form, such as `<|im_start|>assistant`."""
    for _ in range(3):
        if not (header := _HEADER.match(text)) or header[0].strip() in form:
            break
        text = text[header.end() :]
    return text


def ended(text: str) -> str:
    """`text` without the control tokens of a chat at its end, such as `<|im_end|>` and `</s>`."""
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        start = max(text.rfind("<", max(0, end - _LONGEST), end), text.rfind("[", max(0, end - _LONGEST), end))
        if start < 0 or not _CONTROL.fullmatch(text, start, end):
            return text if end == len(text.rstrip()) else text[:end]
        end = start


def harmless(text: str) -> str:
    """`text` in which `</s>`, `<|im_end|>` and the like are not tokens of the student: a space parts them."""
    return _CONTROL.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)
