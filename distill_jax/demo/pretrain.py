"""Makes the student that the demo starts from: span corruption on generated text.

    python -m distill_jax.demo.pretrain distill_jax/assets/student

As T5's own pretraining (Raffel et al. 2020, section 3.1.4): spans of the text are replaced by sentinels, and the
target spells out what was there. The text is `distill_jax.tasks.entailment.story`, which holds no label,
hypothesis or reason; both methods of the demo start from the same student.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import jax
import ml_dtypes
import numpy as np

from distill_jax.data import registry
from distill_jax.data.records import Segment, to_features
from distill_jax.data.views import TASK_IDS
from distill_jax.data.vocabularies import EOS_ID, Vocabulary, train_vocabulary
from distill_jax.interop.huggingface import save_huggingface
from distill_jax.losses import standard_weights
from distill_jax.models.config import T5Config
from distill_jax.models.t5 import Transformer
from distill_jax.training import optimizers, schedules, train_state
from distill_jax.training.step import make_train_step, means

VOCABULARY_SIZE = 800
LENGTHS = {"inputs": 48, "targets": 28}


def student_config(vocab_size: int) -> T5Config:
    """A T5 1.1 of a third of a million parameters."""
    return T5Config(
        vocab_size=-(-vocab_size // 128) * 128,
        emb_dim=64,
        num_heads=4,
        num_encoder_layers=3,
        num_decoder_layers=2,
        head_dim=16,
        mlp_dim=128,
        mlp_activations=("gelu", "linear"),
        dropout_rate=0.0,
    )


def corrupt(
    ids: Sequence[int],
    rng: np.random.Generator,
    first_sentinel: int,
    density: float = 0.25,
    mean_span: float = 2.0,
) -> tuple[list[int], list[int]]:
    """Replaces random spans by sentinels.

    Args:
      ids: tokens of a text, without the end token; at least two.
      rng: chooses the spans.
      first_sentinel: id of `<extra_id_0>`; the next ones count down.
      density: share of the tokens to replace.
      mean_span: mean length of a span in tokens.

    Returns:
      (inputs, targets), both with the end token: `a <0> d` and `<0> b c <1>`.
    """
    noise = min(max(round(len(ids) * density), 1), len(ids) - 1)
    spans = min(max(round(noise / mean_span), 1), noise, len(ids) - noise)

    def partition(total: int) -> list[int]:
        """`total` as a sum of `spans` random positive numbers."""
        cuts = np.sort(rng.permutation(total - 1)[: spans - 1] + 1)
        return np.diff([0, *cuts, total]).tolist()

    inputs, targets, position = [], [], 0
    for span, (kept, hidden) in enumerate(
        zip(partition(len(ids) - noise), partition(noise), strict=True)
    ):
        sentinel = first_sentinel - span
        inputs += [*ids[position : position + kept], sentinel]
        targets += [sentinel, *ids[position + kept : position + kept + hidden]]
        position += kept + hidden
    return [*inputs, EOS_ID], [*targets, first_sentinel - spans, EOS_ID]


def batches(
    story, vocabulary: Vocabulary, batch_size: int, rng: np.random.Generator
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches of new text: features of `records.to_features`, [batch, length]."""
    while True:
        texts = vocabulary.encode_batch([story(rng) for _ in range(batch_size)])
        rows = []
        for ids in texts:
            inputs, targets = corrupt(ids[: LENGTHS["inputs"] - 2], rng, vocabulary.vocab_size - 1)
            inputs, targets = inputs[: LENGTHS["inputs"]], targets[: LENGTHS["targets"]]
            rows.append(to_features([Segment(inputs, targets, TASK_IDS["label"], 0)], LENGTHS))
        yield {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def main(argv: list[str]) -> int:
    """Pretrains and saves the student with its vocabulary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with registry.without_seqio():
        from distill_jax.data.prepare import texts
        from distill_jax.tasks.entailment import story

        task = registry.get_task("entailment")
    rng = np.random.default_rng(args.seed)
    words = [text for _, text in zip(range(40_000), texts(task), strict=False)]
    vocabulary = train_vocabulary([*words, *(story(rng) for _ in range(4000))], VOCABULARY_SIZE)
    vocabulary.save(args.folder)
    config = student_config(vocabulary.vocab_size)
    model = Transformer(config)
    schedule = schedules.linear(args.learning_rate, args.steps, warmup_steps=200)
    optimizer = optimizers.adamw(schedule)
    state = train_state.create(train_state.init_params(model, args.seed), optimizer)
    step_fn = make_train_step(model, optimizer, standard_weights(), seed=args.seed)
    source = batches(story, vocabulary, args.batch_size, rng)
    began = time.monotonic()
    for step in range(1, args.steps + 1):
        state, metrics = step_fn(state, next(source))
        if step % 200 == 0 or step == args.steps:
            shown = means(jax.device_get(metrics))
            print(
                f"step {step}  loss {shown['label_loss']:.3f}  "
                f"accuracy {shown['label_token_accuracy']:.3f}  "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    save_huggingface(args.folder, jax.device_get(state.params), config, ml_dtypes.bfloat16)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
