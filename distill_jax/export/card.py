"""The model card of an exported student: a README with the front matter that the Hugging Face hub reads."""

import importlib.metadata
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill_jax.config import ExportConfig
from distill_jax.export.facts import Facts
from distill_jax.export.snippets import prefixes, snippet

UNKNOWN = "not recorded"
_PAPER = "Distilling step-by-step (Hsieh et al. 2023, arXiv:2305.02301)"
METHODS = {
    "standard": "Fine-tuning on labels.",
    "task_distillation": "Task distillation: fine-tuning on the teacher's labels.",
    "step_by_step": f"{_PAPER}: one model learns labels and the teacher's rationales, told apart by a prefix.",
    "step_by_step_shared": f"{_PAPER}, with one encoding of an input for its label and its rationale.",
    "single_task": "One target that holds the teacher's rationale and the label.",
    "rationale_input": "Fine-tuning on labels with the teacher's rationale as part of the input.",
    "soft_labels": "The teacher's class probabilities (soft labels), mixed with labels.",
    "logit_distillation": "A white-box teacher's next-token distributions, mixed with labels and rationales.",
}
_SETTINGS = (
    "train_steps batch_size microbatches pack task_feature_lengths learning_rate schedule warmup_steps "
    "optimizer weight_decay alpha view_weights temperature divergence cross_entropy_weight label_source "
    "data_fraction num_examples dropout_rate dtype seed lora_rank lora_alpha lora_targets"
).split()
_ONLY_OF = {  # options that mean nothing elsewhere
    "alpha": ("step_by_step", "step_by_step_shared", "logit_distillation"),
    "temperature": ("soft_labels", "logit_distillation"),
    "cross_entropy_weight": ("soft_labels", "logit_distillation"),
    "divergence": ("logit_distillation",),
}
_PACKAGES = {"huggingface": "torch transformers", "ctranslate2": "ctranslate2 transformers"}
_TERMS = (
    "**The teacher's terms of use.** This student was trained on what a teacher wrote. The terms of many "
    "providers and the licences of many models restrict what their outputs may be used for, training other "
    "models among it. Whether this student may be published, and under which licence, depends on them: nobody "
    "has checked that here."
)
_NO_TERMS = (
    "As far as the run records, this student was trained on reference labels alone. Where a model wrote those, "
    "its terms of use apply to this student too."
)


def card(facts: Facts, config: ExportConfig, sizes: Mapping[str, int]) -> str:
    """The text of README.md; `sizes` are the bytes of the files in the folder."""
    name = config.push.rpartition("/")[2] if config.push else _name(config)
    folder = config.push if config.push and config.to == "huggingface" else "."
    code = snippet(facts.student, config.to, folder)
    parts = [
        _front_matter(facts, config),
        f"# {name}",
        _summary(facts),
        "## How to call it\n",
        _calling(facts, config),
        f"```sh\npip install {_PACKAGES[config.to]}\n```\n\n```python\n{code}```",
        "## Evaluation\n",
        _evaluation(facts, config),
        "## Training data\n",
        _data(facts),
        "## Teacher\n",
        _teacher(facts),
        "## Training\n",
        _training(facts),
        "## Size and cost\n",
        _size(facts, config, sizes),
        "## Licence and terms\n",
        _licence(facts, config),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _name(config: ExportConfig) -> str:
    return pathlib.Path(os.path.abspath(config.model_dir)).name


def _front_matter(facts: Facts, config: ExportConfig) -> str:
    family = facts.student.model.config.family
    lines = [f"license: {_yaml(config.license)}" if config.license else "license: unknown  # fill in"]
    base, dataset = facts.base_on_hub, facts.dataset_on_hub
    lines.append(f"base_model: {_yaml(base)}" if base else "# base_model: ORG/NAME")
    lines.append(f"datasets:\n- {_yaml(dataset)}" if dataset else "# datasets: not of the hub")
    # The hub counts sequence to sequence models under text-generation since it gave up text2text-generation.
    library = "transformers" if config.to == "huggingface" else "ctranslate2"
    lines += [f"library_name: {library}", "pipeline_tag: text-generation"]
    lines.append("\n".join(["tags:", "- distill_jax", "- distilling-step-by-step", f"- {family}"]))
    return "\n".join(["---", *lines, "---"])


def _yaml(text: str) -> str:
    """A text as YAML has it."""
    return text if re.fullmatch(r"[A-Za-z][\w./-]*", text) else json.dumps(text)


def _summary(facts: Facts) -> str:
    run, config = facts.student.run, facts.student.model.config
    method, version = METHODS.get(facts.method or "", UNKNOWN), importlib.metadata.version("distill_jax")
    return (
        f"A student of the family {config.family} with {facts.parameters:,} parameters, trained for the task "
        f"`{facts.student.task.name}` by distill_jax {version}, exported at step {facts.step}.\n\n"
        f"Method: {method} Labels: {'the teacher' if run.label_source == 'teacher' else 'the reference'}'s."
    )


def _calling(facts: Facts, config: ExportConfig) -> str:
    student = facts.student
    lengths, wanted = student.lengths, prefixes(student.views)
    rows = [(what, f"`{prefix}`" if prefix else "none") for what, prefix in wanted.items()]
    text = _table(["to have it write the", "prefix of the input"], rows)
    text += (
        f"\n\nAn input has at most {lengths['inputs']} tokens, what is written {lengths['targets']}; decoding "
        "is greedy. The input is to have the form of the training data's."
    )
    if any(view.reads_rationale for view in student.views):
        text += " Each text is the input, a line feed and the teacher's rationale."
    if student.task.classes:
        text += f" The labels are {', '.join(f'`{name}`' for name in student.task.classes)}."
    return text


def _evaluation(facts: Facts, config: ExportConfig) -> str:
    rows = [row for values in facts.evaluations for row in _metrics(values)]
    if rows:
        heads = ["split", "rows", "labels", "weights", "metric", "value", "95% interval"]
        text = _table(heads, rows)
        text += "\n\nIntervals are Wilson's score intervals, of metrics that are the share of the right rows."
        if config.dtype != "float32":
            text += f" The weights here are {config.dtype}: what that changes is not in the table."
    else:
        text = f"Of this checkpoint: {UNKNOWN}."
    if facts.validation:
        metric, value = facts.validation
        value = -value if metric.endswith("_loss") else value
        text += f"\n\nOn the validation split during training: {metric} {value:.4f}."
    return text


_FOUND = {"generate": "generated", "rank": "ranked", "constrain": "constrained"}


def _metrics(values: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    """Rows of one evaluation: the student's metrics, and the teacher's beside them."""
    for name, value in values.items():
        shown = name.startswith(("label_", "rationale_", "teacher_")) or name == "macro_f1"
        if not shown or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        interval = values.get(f"{name}_interval")
        between = " to ".join(f"{end:.4f}" for end in interval or ())
        yield (
            values["split"],
            f"{values.get('examples', 0):,.0f}",
            _FOUND.get(values["label_by"], UNKNOWN),
            ", ".join([values.get("weights", "float32"), *([values["engine"]] if "engine" in values else [])]),
            name,
            f"{value:.4f}",
            between,
        )


def _data(facts: Facts) -> str:
    run, data = facts.student.run, facts.data
    own = (run.own_data or {}).get("data")
    origin = (
        f"own data, `{own if ':' in own else pathlib.Path(own).name}`"
        if own
        else f"task `{facts.student.task.name}`"
    )
    rows = [
        ("origin", origin),
        ("fingerprint of the prepared records", f"`{run.data}`" if run.data else UNKNOWN),
    ]
    if data is None:
        return _table(["", ""], [*rows, ("counts", UNKNOWN)])
    rows += [(text, form.format(data[name])) for name, text, form in _COUNTS if name in data]
    rows += [(f"targets of the view {view}", f"{count:,}") for view, count in data.get("views", {}).items()]
    rows += [(f"dropped by the filter {name}", f"{n:,}") for name, n in data.get("dropped", {}).items()]
    return _table(["", ""], rows)


_COUNTS = (  # of the manifest: what the card calls it, and how it is written
    ("data", "fingerprint of the source", "`{}`"),
    ("vocabulary", "vocabulary", "`{}`"),
    ("examples", "examples", "{:,}"),
    ("truncated_inputs", "inputs that were cut", "{:,}"),
    ("truncated_targets", "targets that were cut", "{:,}"),
    ("data_fraction", "share of the training split", "{:g}"),
)


def _teacher(facts: Facts) -> str:
    run, report = facts.student.run, facts.teacher
    if report is None:
        rows = [("name of its completions", f"`{run.teacher_name}`")] if run.teacher_name else []
        rows += [("white-box teacher", f"`{_public(run.teacher)}`")] if run.teacher else []
        if rows:
            return _table(["", ""], rows)
        return "None." if not facts.uses_teacher else f"Model: {UNKNOWN}."
    accuracy, settings = report.get("accuracy"), report["settings"]
    rows = [("model", f"`{settings.get('model') or UNKNOWN}`")]
    rows += [("prompt", f"`{settings['prompt']}`")] if settings.get("prompt") else []
    rows += [("samples of a row", f"{settings['samples']}")] if settings.get("samples") else []
    rows += [("rows", f"{report['rows']:,}"), ("rows with an answer", f"{report['answered']:,}")]
    if accuracy:
        share = f"{accuracy['value']:.4f} of {accuracy['rows']:,} rows"
        rows.append(("accuracy", f"{share}, 95% interval {accuracy['low']:.4f} to {accuracy['high']:.4f}"))
    return _table(["", ""], rows)


def _public(path: str) -> str:
    """A path or address without the folders of the machine that it is of."""
    return path if "://" in path else pathlib.Path(path).name


def _training(facts: Facts) -> str:
    settings = facts.settings
    if settings is None:
        return f"Settings: {UNKNOWN}."
    base = facts.base
    start = "random weights" if base in (None, "none") else f"`{_public(base)}`"
    rows = [("started from", start), ("step of this checkpoint", f"{facts.step:,}")]
    for name in _SETTINGS:
        value = settings.get(name)
        used = facts.method in _ONLY_OF.get(name, (facts.method,))
        if not used or value is None or (name.startswith("lora_") and not settings.get("lora_rank")):
            continue
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {part}" for key, part in value.items())
        value = ", ".join(map(str, value)) if isinstance(value, list) else value
        rows.append((name, str(value)))
    return _table(["setting", "value"], rows)


def _size(facts: Facts, config: ExportConfig, sizes: Mapping[str, int]) -> str:
    model = facts.student.model.config
    weights = sum(size for name, size in sizes.items() if name.endswith((".safetensors", ".bin")))
    report, settings = facts.teacher, facts.settings
    rows = [
        ("parameters", f"{facts.parameters:,}"),
        ("weights", f"{weights / 1e6:,.1f} MB, {config.dtype}"),
        ("layers", f"{model.num_encoder_layers} encoder, {model.num_decoder_layers} decoder"),
        ("width", f"{model.emb_dim}"),
        ("teacher's requests", f"{report['requests']:,}" if report else UNKNOWN),
        ("teacher's tokens", f"{report['tokens']:,}" if report else UNKNOWN),
    ]
    dollars = report.get("usd") if report else None
    rows.append(("teacher's price", UNKNOWN if dollars is None else f"{dollars:.4f} USD"))
    if settings is not None and settings.get("batch_size"):
        tokens = facts.step * settings["batch_size"] * sum(facts.student.lengths.values())
        rows.append(("tokens trained on, padding included", f"{tokens:,}"))
    return _table(["", ""], rows)


def _licence(facts: Facts, config: ExportConfig) -> str:
    started = facts.base not in (None, "none")
    rows = [
        ("of this model", config.license or "fill in (`license` above too)"),
        ("of the model it started from", "fill in" if started else "none: random weights"),
        ("of the training data", "fill in"),
        ("terms of the teacher", "fill in" if facts.uses_teacher else "none used, as far as the run records"),
    ]
    return _table(["", ""], rows) + "\n\n" + (_TERMS if facts.uses_teacher else _NO_TERMS)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
