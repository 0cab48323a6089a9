"""Examples a second that `prepare` tokenizes and packs, SeqIO's own pipeline does, and SentencePiece tokenizes.

    python -m benchmarks.prepare_peers

The whole train split of CQA, step-by-step: an example is one view of one row. Ours reads the files, tokenizes,
packs and writes the records to the disk; SeqIO reads the same source, tokenizes, packs and hands the rows out
as arrays; SentencePiece alone gets all texts at once and as many threads.
"""

import json
import os
import tempfile

from benchmarks import data, measure, seqio_prepare
from benchmarks import settings as settings_of
from benchmarks.settings import Settings
from distill_jax.data.prepare import prepare, resolve_vocabulary
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.tasks import registry

LENGTHS = {"inputs": 256, "targets": 96}


def run(settings: Settings, vocabulary: str = data.VOCABULARY) -> dict:
    """Examples a second of each repetition."""
    data.use(settings)
    name = f"{data.CQA}_step_by_step"
    task, views = registry.resolve(name)
    folder = resolve_vocabulary(vocabulary, task)
    processor = load_vocabulary(folder)
    pairs = [view(example) for example in task.source.examples("train") for view in views]
    texts = [text for pair in pairs if pair for text in pair]

    def ours() -> float:
        with tempfile.TemporaryDirectory(dir=os.environ["DISTILL_JAX_CACHE"]) as cache:
            made = prepare(
                task, views, "train", vocabulary=folder, task_feature_lengths=LENGTHS, cache_dir=cache
            )
        return sum(made.manifest["views"].values())

    def sentencepiece() -> float:
        processor.encode_batch(texts)
        return len(texts) / 2

    contestants = {
        "ours": ours,
        "seqio": lambda: seqio_prepare.packed_rows(folder, LENGTHS, data.CQA)[0],
        "sentencepiece": sentencepiece,
    }
    rates = measure.in_turn(contestants, settings.repeats, seconds=settings.seconds)
    return rates | {"examples": len(texts) / 2}


def main() -> None:
    """Measures and prints JSON."""
    print(json.dumps(run(settings_of.parse(__doc__)), indent=2))


if __name__ == "__main__":
    main()
