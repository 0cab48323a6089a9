import json

import pytest
from teacher_helpers import CLASSES

from distill_jax import tasks
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.tasks.registry import get_task
from distill_jax.teachers import parsing
from distill_jax.teachers.demonstrations import read_demonstrations, selector
from distill_jax.teachers.prompts import Demonstration, load_template, shipped

PLAIN = """
instruction: "Sort. Classes: {classes}"
question: "Text: {input}"
answer: "{rationale} Queue: {label}."
demonstrations:
  - {input: my parcel is late, rationale: It is about a delivery., label: shipping}
  - {input: the invoice is wrong, rationale: It is about money., label: billing}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


def error_of(function) -> str:
    with pytest.raises(UserError) as raised:
        function()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("name", shipped())
def test_the_shipped_demonstrations_read_back_as_they_were(name, structured):
    template = load_template(name)
    parse = parsing.parser(template.answers_by(structured))
    for shown in template.demonstrations:
        answer = template.answer_of(shown, structured)
        assert parse(answer) == (shown.label, shown.rationale)
        assert answer.find(template.label_text(Example("", shown.input), shown.label, structured)) > 0


def test_there_is_a_prompt_for_every_shipped_task():
    assert set(tasks.MODULES.values()) <= set(shipped())


@pytest.mark.parametrize("name", ["arithmetic", "entailment"])
def test_the_shipped_prompts_suit_their_tasks(name):
    """Labels of demonstrations are right by the task's own metric and classes."""
    template = load_template(name)
    task = get_task(name)
    for shown in template.demonstrations:
        assert task.classes is None or shown.label in task.classes
        assert task.agrees(Example("", "", label=shown.label, teacher_label=shown.label))


def test_nli_prompts_cut_the_input_of_the_task():
    prompt = load_template("anli2").render(Example("a", "It rains.</s>It is wet."), [])
    assert prompt.question == "Premise: It rains.\nHypothesis: It is wet.\nA:"
    message = error_of(lambda: load_template("esnli").render(Example("a-7", "It rains."), []))
    assert message.startswith("row a-7: prompt esnli expects premise and hypothesis")


def test_rendered(write):
    template = load_template(write(PLAIN))
    prompt = template.render(Example("1", "where is {it}?"), template.demonstrations, ("shipping", "billing"))
    assert prompt.messages() == [
        {"role": "system", "content": "Sort. Classes: shipping, billing"},
        {"role": "user", "content": "Text: my parcel is late"},
        {"role": "assistant", "content": "It is about a delivery. Queue: shipping."},
        {"role": "user", "content": "Text: the invoice is wrong"},
        {"role": "assistant", "content": "It is about money. Queue: billing."},
        {"role": "user", "content": "Text: where is {it}?"},
    ]
    assert prompt.text() == (
        "Sort. Classes: shipping, billing\n\n"
        "Text: my parcel is late It is about a delivery. Queue: shipping.\n\n"
        "Text: the invoice is wrong It is about money. Queue: billing.\n\n"
        "Text: where is {it}?"
    )


def test_structured(write):
    template = load_template(write(PLAIN))
    prompt = template.render(
        Example("1", "x"), template.demonstrations[:1], ("shipping", "billing"), structured=True
    )
    assert json.loads(prompt.turns[0][1]) == {"rationale": "It is about a delivery.", "label": "shipping"}
    assert prompt.schema["properties"]["label"] == {"type": "string", "enum": ["shipping", "billing"]}
    assert list(prompt.schema["properties"]) == ["rationale", "label"]  # the reason comes first


def test_choices_are_lettered(write):
    template = load_template(write('question: "{input}\\n{choices}"\nanswer: "{rationale} ({letter}) {label}"'))
    prompt = template.render(Example("1", "Pick.", choices=("red", "blue")), [])
    assert prompt.question == "Pick.\n(a) red\n(b) blue"
    assert template.label_text(Example("1", "Pick.", choices=("red", "blue")), "blue", False) == "b) blue"


def test_the_hash_follows_everything_the_teacher_sees(write):
    template = load_template(write(PLAIN))
    shown, row = template.demonstrations, Example("1", "x")
    prompts = [
        template.render(row, shown),
        template.render(row, shown[:1]),
        template.render(row, shown[::-1]),
        template.render(row, shown, CLASSES),
        template.render(row, shown, structured=True),
        template.render(Example("1", "y"), shown),
    ]
    hashes = [prompt.hash("chat") for prompt in prompts] + [prompts[0].hash("completions")]
    assert len(set(hashes)) == 7
    assert template.render(Example("2", "x", label="gold"), shown).hash("chat") == hashes[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("question: '{inptu}'", "question: unknown {inptu}: expected choices, classes, input"),
        ("question: 'no place for the row'", "question has none of {input}"),
        ("question: '{input'", "write a brace as {{"),
        ("question: '{input.__class__}'", "unknown {input.__class__}"),
        ("answer: '{rationale} so'", "answer has none of {label}"),
        ("answer: '{label}'", "answer has no {rationale}"),
        ("parser: gsm8k", "parser 'gsm8k': expected form, svamp"),
        ("demonstrations: [{input: x, label: y}]", "demonstrations.0.rationale: Field required"),
        ("demonstration: []", "demonstration: Extra inputs"),
        ("fields: {separator: '|', names: [a]}", "fields.names"),
        ("- a list", "expected a mapping"),
        ("question: [", "not YAML"),
        ("1: 2", "keywords must be strings"),
    ],
)
def test_mistakes_in_a_template_are_named(write, text, told):
    path = write(text)
    message = error_of(lambda: load_template(path))
    assert told in message and path in message


def test_an_unknown_template():
    assert "there are: anli, arithmetic, cqa, " in error_of(lambda: load_template("qqqq"))
    assert error_of(lambda: load_template("snli")).endswith("did you mean esnli?")


# Which demonstrations.

POOL = [
    Demonstration(input=text, rationale="r", label="l")
    for text in (
        "the cat sat on the mat",
        "a dog barked at night",
        "stock prices fell",
        "the dog chased the cat",
    )
]


def inputs(select, text, row="r"):
    return [d.input for d in select(Example(row, text))]


def test_fixed():
    assert inputs(selector(POOL, "fixed", 2), "x") == [POOL[0].input, POOL[1].input]


def test_nearest_by_bm25_comes_last():
    select = selector(POOL, "nearest", 2)
    assert inputs(select, "dog and cat")[-1] == "the dog chased the cat"
    assert inputs(select, "why did prices of stock fall?")[-1] == "stock prices fell"
    assert len(inputs(select, "zebra")) == 2  # no word in common with any


def test_random_is_the_same_for_the_same_row():
    select, again, other = (selector(POOL, "random", 2, seed) for seed in (0, 0, 1))
    rows = [f"row-{n}" for n in range(20)]
    chosen = [inputs(select, "x", row) for row in rows]
    assert chosen == [inputs(again, "x", row) for row in rows]
    assert chosen != [inputs(other, "x", row) for row in rows]
    assert {text for texts in chosen for text in texts} == {d.input for d in POOL}


@pytest.mark.parametrize("how", ["fixed", "random", "nearest"])
def test_a_row_is_never_its_own_demonstration(how):
    assert POOL[1].input not in inputs(selector(POOL, how), POOL[1].input)
    assert len(inputs(selector(POOL, how, 3), POOL[1].input)) == 3


def test_demonstrations_from_a_file(tmp_path):
    path = tmp_path / "pool.jsonl"
    path.write_text('{"id": 1, "input": "a", "rationale": "b", "label": "c"}\n{"input": "a", "label": "c"}\n')
    assert f"{path}, line 2: rationale" in error_of(lambda: read_demonstrations(str(path)))
    path.write_text(path.read_text().splitlines()[0])
    assert read_demonstrations(str(path)) == [Demonstration(input="a", rationale="b", label="c")]
