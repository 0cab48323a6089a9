"""The readers of prompts, configurations, sweeps, results and requests; with whole inputs of each."""

import pathlib

from distill_jax.config import Sources, TrainConfig, build
from distill_jax.data.chat_forms import ChatForms
from distill_jax.data.labels import class_names
from distill_jax.data.schema import Example
from distill_jax.experiments.fuzz.target import Target, as_json
from distill_jax.experiments.report import inputs, runs
from distill_jax.experiments.sweep import grid
from distill_jax.serving import requests
from distill_jax.teachers import parsing
from distill_jax.teachers.prices import price_of
from distill_jax.teachers.prompts import load_template

PROMPT = b"""\
description: of sums
instruction: One of {classes}.
question: "{input}\\n{choices}"
answer: "{rationale} So the answer is ({letter}) {label}."
stop: ["Q:"]
demonstrations:
- {input: '1?', rationale: It is 1., label: '1', choices: ['1', '2']}
"""


def _read_prompt(path: pathlib.Path) -> None:
    template = load_template(str(path))
    example = Example("a", "1?", choices=("1", "2"))
    for structured in (False, True):
        template.render(example, template.demonstrations, ["1", "2"], structured)
    parsing.parser(template.answers_by(False))("1. So the answer is (a) 1.")


SWEEP = b"""\
task: entailment
methods: [standard, step_by_step]
models: {small: {model: t5_1_1/tiny, dropout_rate: 0.0}}
fractions: [0.5, 1.0]
seeds: [0, 1]
steps: {0.5: 10, 1.0: 20}
search: {learning_rate: [1e-3, 3e-4]}
train: {batch_size: 8, task_feature_lengths: "64,32"}
"""

GIN = b"# rates\nFAST = 1e-2\nLEARNING_RATE = %FAST\nMESH = {'data': 2}\nALPHA = 0.5\nMODEL_DIR = 'run'\n"

TASK = {"mixture_or_task_name": "entailment", "model_dir": "run"}


def _read_gin(path: pathlib.Path) -> None:
    build(TrainConfig, Sources(gin_files=[str(path)]), **TASK)


def _read_config(path: pathlib.Path) -> None:
    build(TrainConfig, Sources(config=str(path)))


CELL = {"method": "standard", "model": "m", "fraction": 0.5, "seed": 0, "correct": "10", "steps": 3}

CELL |= {"test": {"right": 1, "total": 2}, "device": {"count": 1}, "seconds": 2.0, "parameters": 300}

FLOOR = {"share": 1.0, "train_examples": 4, "rows": 2, "accuracies": {"words": {"value": 0.5}}}


def _read_results(path: pathlib.Path) -> None:
    found = inputs.read([str(path)], "test", None)
    if found.runs:
        told = runs.told_apart(found.runs)
        runs.check_same_test(told)
        runs.with_constant(runs.aligned(told))


CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "n": 2,
    "stop": ["a"],
    "logprobs": True,
    "seed": 3,
}

PREDICT = {
    "inputs": ["a", {"input": "b", "choices": ["1", "2"]}],
    "label_by": "rank",
    "n_best": 1,
    "temperature": 0.5,
}


def _read_chat(path: pathlib.Path) -> None:
    body = requests.read(requests.ChatRequest, path.read_bytes())
    body.check_format(None)
    for form in (ChatForms(), ChatForms("{system}\n{history}\n{user}")):
        body.texts(form)


def _read_completion(path: pathlib.Path) -> None:
    body = requests.read(requests.PromptRequest, path.read_bytes())
    body.check_format(["label"])
    body.texts(ChatForms())


def _read_predict(path: pathlib.Path) -> None:
    from distill_jax.decoding.predictor import to_example

    body = requests.read(requests.PredictRequest, path.read_bytes())
    [to_example(number, item) for number, item in enumerate(body.inputs)]
    _ = body.request


TARGETS: dict[str, Target] = {
    "prompt": Target(_read_prompt, "prompt.yaml", (PROMPT,)),
    "prices": Target(
        lambda path: price_of("m", str(path)), "prices.yaml", (b"m: [0.1, 0.2]\nother: [1, 2]\n",)
    ),
    "classes": Target(
        lambda path: class_names(None, str(path)), "classes.txt", (b"yes\nno\n", b'["yes", 1, 2.5]')
    ),
    "sweep": Target(lambda path: grid.read(str(path)), "sweep.yaml", (SWEEP,)),
    "gin file": Target(_read_gin, "run.gin", (GIN,)),
    "config.json": Target(
        _read_config,
        "config.json",
        as_json(TASK | {"mesh": {"data": 1}, "lora_targets": ["mlp"]}),
        "json",
        named=False,
    ),
    "results.json": Target(
        _read_results,
        "results.json",
        as_json({"cells": [CELL, CELL | {"seed": 1}]}, {"floors": [FLOOR], "split": "test"}),
        "json",
    ),
    "request, chat": Target(_read_chat, "body", as_json(CHAT), "json", named=False),
    "request, completion": Target(
        _read_completion,
        "body",
        as_json({"model": "m", "prompt": ["a", "b"], "max_tokens": 3}),
        "json",
        named=False,
    ),
    "request, predict": Target(_read_predict, "body", as_json(PREDICT), "json", named=False),
}
