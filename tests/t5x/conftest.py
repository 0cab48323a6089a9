"""A generated task in SeqIO's registries, for this folder alone."""

import pytest

from distill_jax.data.schema import Example
from distill_jax.data.sources import GeneratedSource
from distill_jax.scoring.metrics import equation_accuracy
from distill_jax.tasks.definition import define_task


def count_up(rng, name):
    first, second = (int(n) for n in rng.integers(1, 30, 2))
    why = f"{first} and {second} make {first + second}." * int(rng.integers(1, 3))
    rationale = None if first == 7 else why
    label, other = f"{first} + {second}", f"{second} - {first}"
    probs = (0.0, 1.0) if second == 3 else (0.75, 0.25)
    return Example(
        name,
        f"{first} pens, {second} more?",
        label,
        label,
        rationale,
        label_probs=probs,
        choices=(label, other),
    )


@pytest.fixture(scope="package")
def counting():
    """The task `counting`, of 200 and 24 examples."""
    import seqio

    from distill_jax.t5x import seqio_tasks

    with pytest.MonkeyPatch.context() as patch:
        for provider in (seqio.TaskRegistry, seqio.MixtureRegistry):
            patch.setattr(provider, "_REGISTRY", {})
        source = GeneratedSource(count_up, {"train": 200, "validation": 24})
        task = define_task("counting", source, label_metric_fns=(equation_accuracy,))
        seqio_tasks.register([task], "bytes")
        yield task
