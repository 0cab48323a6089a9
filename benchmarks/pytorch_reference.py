"""The computation of the paper's PyTorch code, with transformers' T5 and its quickest settings.

Per update two forward passes, of the label and of the rationale examples of the same rows, each padded to its
own longest; `alpha * label loss + (1 - alpha) * rationale loss`, each transformers' mean over the tokens;
gradients clipped by their norm at 1, as its trainer does; AdamW.
"""

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks import data
from benchmarks.contestants import Contestant
from benchmarks.settings import Settings
from benchmarks.students import LEARNING_RATE
from distill_jax.data.loader import Loader
from distill_jax.data.views import TASK_IDS
from distill_jax.interop.huggingface import write_huggingface
from distill_jax.interop.parameters import from_tree
from distill_jax.models.config import T5Config

ALPHA = 0.5
IGNORED = -100  # transformers' label of a token that does not count

Example = tuple[list[int], list[int]]


def available() -> bool:
    """Whether torch and transformers are installed."""
    import importlib.util

    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def pairs_of(settings: Settings) -> list[tuple[Example, Example]]:
    """(label example, rationale example) of each row, as (inputs, targets): the same tokens that ours gets."""
    prepared = data.prepared(settings, "step_by_step", 512, 256, pack=False)
    loader = Loader(prepared.path, 1, seed=0, shuffle=False, num_epochs=1)
    found: dict[int, dict[int, Example]] = {}
    for number, batch in enumerate(loader):
        (row,) = loader.examples(number)
        inputs, targets = batch["encoder_input_tokens"][0], batch["decoder_target_tokens"][0]
        example = inputs[inputs > 0].tolist(), targets[targets > 0].tolist()
        found.setdefault(row, {})[int(batch["decoder_task_ids"].max())] = example
    label, rationale = TASK_IDS["label"], TASK_IDS["rationale"]
    return [(views[label], views[rationale]) for views in found.values() if len(views) == 2]


def _padded(rows: Sequence[Sequence[int]], filler: int, multiple: int):
    import torch

    length = -(-max(map(len, rows)) // multiple) * multiple
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])


def collate(examples: Sequence[Example], multiple: int = 1) -> dict[str, Any]:
    """A batch as transformers' collator makes it: padded to the longest, or the next multiple."""
    inputs = _padded([source for source, _ in examples], 0, multiple)
    labels = _padded([target for _, target in examples], IGNORED, multiple)
    return {"input_ids": inputs, "attention_mask": (inputs > 0).long(), "labels": labels}


def load(config: T5Config, params: Any, attention: str):
    """transformers' model of these parameters, in training mode; `config` has no dropout."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        write_huggingface(folder, from_tree(params), config)
        model = transformers.T5ForConditionalGeneration.from_pretrained(folder, attn_implementation=attention)
    model.config.use_cache = False
    return model.train()


def loss_of(model, label: dict, rationale: dict):
    """The paper's loss, with a graph for the gradients."""
    return ALPHA * model(**label).loss + (1.0 - ALPHA) * model(**rationale).loss


def contestant(
    settings: Settings,
    config: T5Config,
    params: Any,
    *,
    attention: str = "sdpa",
    fused: bool = True,
    compiled: bool = False,
    multiple: int = 1,
    device: str = "cpu",
    batches: Sequence[tuple[dict, dict]] | None = None,
) -> Contestant:
    """The reference's step from these parameters.

    Args:
      settings: of the run.
      config: of the student.
      params: its parameters, ours.
      attention: transformers' implementation, eager or sdpa.
      fused: AdamW in one kernel; else torch's default for the device (foreach on an accelerator).
      compiled: by torch.compile.
      multiple: lengths are padded to one of these, so that few shapes are compiled.
      device: torch's.
      batches: (label batch, rationale batch) of each update; default those of the settings' rows.
    """
    import torch

    torch.set_num_threads(settings.threads)
    if batches is None:
        pairs = pairs_of(settings)
        starts = range(0, len(pairs), settings.batch)
        parts = [pairs[start : start + settings.batch] for start in starts]
        batches = [tuple(collate(view, multiple) for view in zip(*part, strict=True)) for part in parts]
    batches = [tuple({k: v.to(device) for k, v in view.items()} for view in batch) for batch in batches]
    model = load(config, params, attention).to(device)
    forward = torch.compile(model, dynamic=multiple == 1) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=fused or None)
    reduced = config.dtype != "float32"

    def step(number: int) -> float:
        with torch.autocast(device, torch.bfloat16, enabled=reduced):
            loss = loss_of(forward, *batches[number])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    described = {
        "batch": settings.batch,
        "attention": attention,
        "adamw": "fused" if fused else "default",
        "torch.compile": compiled,
        "padded to a multiple of": multiple,
        "dtype": config.dtype,
        "threads": os.environ.get("OMP_NUM_THREADS") or settings.threads,
        "clip_norm": 1.0,
    }
    return Contestant(step, [len(label["input_ids"]) for label, _ in batches], described)
