"""The computation of the paper's PyTorch code, with transformers' T5 or T5Gemma.

Per update two forward passes, of the label and of the rationale examples of the same rows, each padded to its
own longest; `alpha * label loss + (1 - alpha) * rationale loss`, each transformers' mean over the tokens;
gradients clipped by their norm at 1, as its trainer does; AdamW. Imports neither TensorFlow, gin nor grain.
"""

import importlib.util
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.contestants import LEARNING_RATE, Contestant
from distill_jax.models.config import ModelConfig

ALPHA = 0.5
IGNORED = -100  # transformers' label of a token that does not count

Example = tuple[list[int], list[int]]  # tokens of inputs and targets


def available() -> bool:
    """Whether torch and transformers are installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


def attention_of(config: ModelConfig) -> str:
    """transformers' quickest that computes what ours does: T5Gemma's `sdpa` does not cap the logits."""
    return "sdpa" if config.family == "t5" else "eager"


def _padded(rows: Sequence[Sequence[int]], filler: int, multiple: int):
    import torch

    length = -(-max(map(len, rows)) // multiple) * multiple
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])


def collate(examples: Sequence[Example], multiple: int = 1) -> dict[str, Any]:
    """A batch as transformers' collator makes it: padded to the longest, or the next multiple."""
    inputs = _padded([source for source, _ in examples], 0, multiple)
    labels = _padded([target for _, target in examples], IGNORED, multiple)
    return {"input_ids": inputs, "attention_mask": (inputs > 0).long(), "labels": labels}


def load(config: ModelConfig, params: Any, attention: str, device: str = "cpu"):
    """transformers' model in training mode, of our parameters; of None a T5 of random ones."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if params is None:
        theirs = transformers.T5Config(
            vocab_size=config.vocab_size,
            d_model=config.emb_dim,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_heads=config.num_heads,
            num_layers=config.num_encoder_layers,
            num_decoder_layers=config.num_decoder_layers,
            dropout_rate=config.dropout_rate,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=0,
            attn_implementation=attention,
        )
        with torch.device(device):
            model = transformers.T5ForConditionalGeneration(theirs)
    else:
        from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
        from distill_jax.checkpoints.other_formats.parameters import from_tree

        with tempfile.TemporaryDirectory() as folder:
            write_huggingface(folder, from_tree(params), config)
            kind = transformers.AutoModelForSeq2SeqLM
            model = kind.from_pretrained(folder, attn_implementation=attention).to(device)
    model.config.use_cache = False
    return model.train()


def loss_of(model, label: dict, rationale: dict):
    """The paper's loss, with a graph for the gradients."""
    return ALPHA * model(**label).loss + (1.0 - ALPHA) * model(**rationale).loss


def collated(
    pairs: Sequence[tuple[Example, Example]], batch: int, multiple: int = 1
) -> list[tuple[dict, dict]]:
    """(label batch, rationale batch) of each update, `batch` pairs at a time."""
    parts = [pairs[start : start + batch] for start in range(0, len(pairs), batch)]
    return [tuple(collate(view, multiple) for view in zip(*part, strict=True)) for part in parts]


def contestant(
    config: ModelConfig,
    params: Any,
    batches: Sequence[tuple[dict, dict]],
    *,
    threads: int | None = None,
    attention: str = "sdpa",
    fused: bool = True,
    compiled: bool = False,
    device: str = "cpu",
) -> Contestant:
    """The reference's step from these parameters.

    Args:
      config: of the student.
      params: its parameters, ours; None for random ones.
      batches: of `collated`.
      threads: torch's, on a CPU.
      attention: transformers' implementation, eager or sdpa.
      fused: AdamW in one kernel; else torch's default for the device (foreach on an accelerator).
      compiled: by torch.compile; the batches should then have few shapes.
      device: torch's.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    batches = [tuple({k: v.to(device) for k, v in view.items()} for view in batch) for batch in batches]
    model = load(config, params, attention, device)
    forward = torch.compile(model) if compiled else model
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
        "batch": max(len(label["input_ids"]) for label, _ in batches),
        "attention": attention,
        "adamw": "fused" if fused else "default",
        "torch.compile": compiled,
        "dtype": config.dtype,
        "threads": threads,
        "clip_norm": 1.0,
    }
    return Contestant(step, [len(label["input_ids"]) for label, _ in batches], described)
