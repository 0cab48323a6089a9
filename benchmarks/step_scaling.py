"""How the time of a train step grows with its tokens and with the layers.

    python -m benchmarks.step_scaling

The ratio to linear is (time / smallest time) / (size / smallest size): 1 is linear, less is better than that.
The embedding, the logits and the optimizer of the vocabulary's parameters do not grow with the layers.
"""

import json
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from benchmarks import fabricated, measure, ours, students
from benchmarks import settings as settings_of
from benchmarks.settings import Settings
from distill_jax.cli import host_memory
from distill_jax.models.t5 import Transformer
from distill_jax.training import train_state

LENGTHS = (256, 96)
ROWS = (2, 4, 8)
LAYERS = (2, 4, 8)
UPDATES = 2  # of a measurement


def against_linear(sizes: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Of each size, its time against a time in proportion to the smallest's."""
    first = seconds[0] / sizes[0]
    return [time / (size * first) for size, time in zip(sizes, seconds, strict=True)]


def _step(settings: Settings, rows: int, layers: int | None):
    changes = {} if layers is None else {"num_encoder_layers": layers, "num_decoder_layers": layers}
    config = students.config(settings.size, settings.dtype, **changes)
    batches, pairs, described = fabricated.packed(fabricated.pairs(4 * rows * UPDATES), LENGTHS, rows)
    params = train_state.init_params(Transformer(config), 0)
    one = ours.contestant(config, params, batches[:UPDATES], pairs[:UPDATES], described)

    def work() -> float:
        for number in range(UPDATES):
            one.step(number)
        return UPDATES

    return work


def run(settings: Settings, rows: Sequence[int] = ROWS, layers: Sequence[int] = LAYERS) -> dict:
    """Seconds of a step by tokens and by layers (of the encoder, and as many of the decoder)."""
    host_memory.keep_freed()
    tokens = [number * sum(LENGTHS) for number in rows]
    found = {}
    for name, sizes, works in (
        ("tokens", tokens, [_step(settings, number, None) for number in rows]),
        ("layers", list(layers), [_step(settings, max(rows), number) for number in layers]),
    ):
        named = {str(size): work for size, work in zip(sizes, works, strict=True)}
        rates = measure.in_turn(named, settings.repeats, seconds=settings.seconds / 2)
        seconds = {size: [1 / rate for rate in rates[str(size)]] for size in sizes}
        medians = [statistics.median(seconds[size]) for size in sizes]
        found[name] = {
            "sizes": sizes,
            "seconds": [measure.summary(seconds[size]) for size in sizes],
            "against_linear": [float(np.round(x, 3)) for x in against_linear(sizes, medians)],
        }
    return found


def table(found: Mapping) -> Table:
    """The figures of `run`."""
    made = Table("what grows", "size", "seconds a step", "spread", "against linear", title="scaling")
    for name, part in found.items():
        for size, seconds, ratio in zip(part["sizes"], part["seconds"], part["against_linear"], strict=True):
            made.add_row(
                name, str(size), f"{seconds['median']:.3g}", f"{seconds['spread']:.0%}", f"{ratio:.2f}"
            )
    return made


def main() -> None:
    """Measures and prints JSON."""
    print(json.dumps(run(settings_of.parse(__doc__)), indent=2))


if __name__ == "__main__":
    main()
