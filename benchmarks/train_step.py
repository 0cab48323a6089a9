"""Pairs a second of a train step: ours, the paper's PyTorch computation, and T5X on packed batches.

    python -m benchmarks.train_step [--sweep]
    python -m benchmarks.run --only train_t5gemma

A pair is the label and the rationale example of one row. All start from the same weights and take the same
rows, one update for about `--batch` of them, without dropout, with AdamW after clipping by the norm.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from benchmarks import data, flops, measure, ours, packings, pytorch_reference, students, t5x_packed, turns
from benchmarks import settings as settings_of
from benchmarks.contestants import Contestant
from benchmarks.settings import Settings
from distill_jax.cli import host_memory
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import make_network
from distill_jax.training import train_state

AGREES = 1e-3  # of the losses of the first step, relative
T5X = {
    "t5x_packed": (packings.packed_by_seqio, packings.T5X_PACKING),
    "t5x_our_packing": (packings.packed, packings.PACKINGS["ours"]),
}
NAMES = (*packings.PACKINGS, "reference", *T5X)
DETAILS = ("settings", "first_loss", "peak_gib")
SWEEP = ((128, 64), (128, 96), (192, 68), (192, 144), (256, 92), (256, 96), (256, 192), (512, 192))


def student(settings: Settings) -> tuple[ModelConfig, Any]:
    """The config and the parameters that all start from."""
    config = students.config(settings.size, settings.dtype, settings.family)
    return config, train_state.init_params(make_network(config), seed=0)


def _packed(settings: Settings, packing: packings.Packing, config: ModelConfig) -> tuple:
    return packings.packed(settings, packing, students.STARTS.get(config.family, 0))


def contestant(settings: Settings, name: str) -> Contestant:
    """One of `NAMES`."""
    config, params = student(settings)
    if name in packings.PACKINGS:
        return ours.contestant(config, params, *_packed(settings, packings.PACKINGS[name], config))
    if name == "reference":
        return reference(settings, config, params)
    pack, packing = T5X[name]
    return t5x_packed.contestant(config, params, *pack(settings, packing))


def installed(settings: Settings) -> list[str]:
    """Those of `NAMES` that can take part."""
    takes_part = dict.fromkeys(packings.PACKINGS, True)
    takes_part["reference"] = pytorch_reference.available()
    takes_part |= dict.fromkeys(T5X, t5x_packed.available() and settings.family == "t5_1_1")
    return [name for name in NAMES if takes_part[name]]


def reference(settings: Settings, config: ModelConfig, params: Any) -> Contestant:
    """The paper's computation, on the rows of the settings."""
    batches = pytorch_reference.collated(packings.pairs(settings), settings.batch)
    options = {"threads": settings.threads, "attention": pytorch_reference.attention_of(config)}
    return pytorch_reference.contestant(config, params, batches, **options)


def first_loss(settings: Settings, name: str) -> float | None:
    """The loss of one batch of the same pairs, before any update; None of T5X, whose loss is another."""
    return None if name in T5X else contestant(dataclasses.replace(settings, rows=settings.batch), name).step(0)


def check_agreement(ready: Mapping[str, Mapping]) -> None:
    """Compares the first losses of ours and the reference.

    With a shared encoding the inputs have no prefix: that loss is another, and is not compared.

    Raises:
      AssertionError: when ours and the reference's differ by more than `AGREES` of it.
    """
    if not {"ours", "reference"} <= set(ready):
        return
    loss, expected = (ready[name]["first_loss"] for name in ("ours", "reference"))
    if not abs(loss - expected) <= AGREES * expected:
        raise AssertionError(f"ours: a loss of {loss} where the reference has {expected}")


def enter(job: dict, name: str) -> turns.Entrant:
    """The contestant of that name; the job is `Settings` as a dict.

    What our trainer sets for its process, `host_memory.keep_freed`, is set for all: the peers are the quicker
    for it too, PyTorch by a twentieth, T5X by a sixth.
    """
    settings = Settings(**job)
    keeps_memory = host_memory.keep_freed()
    data.use(settings)
    loss = first_loss(settings, name)
    one = contestant(settings, name)
    described = {"settings": one.settings | {"freed_memory_is_kept": keeps_memory}, "first_loss": loss}

    def warm_up() -> dict:
        one.step(0)
        return {"first_loss": loss}

    return turns.Entrant(one.once, warm_up, lambda: described)


def run(settings: Settings, place: type[turns.Place] = turns.Alone, together: bool = True) -> dict[str, Any]:
    """Measures all; pairs a second of each round, None for those that are not installed.

    T5X's come after the others: all five at once take more than 24 GiB. Each group has its part of the time,
    and those in it take turns; without `together` each contestant is a group of its own. Of a group that fails
    the others' rates stay, and `failed` says why.
    """
    data.use(settings)
    job, names = dataclasses.asdict(settings), installed(settings)
    groups = [[name] for name in names]
    if together:
        groups = [[name for name in names if (name in T5X) == last] for last in (False, True)]
    options = {"repeats": settings.repeats, "check": check_agreement, "place": place}
    rates: dict[str, list[float]] = {}
    details: dict[str, dict] = {}
    failed: list[str] = []
    for group in filter(None, groups):
        options["seconds"] = settings.seconds * len(group) / len(names)
        try:
            of_group, told = turns.measured("benchmarks.train_step", job, group, **options)
        except RuntimeError as error:
            failed.append(str(error))
            continue
        rates |= of_group
        details |= told
    check_agreement(details)
    found = {key: {name: one.get(key) for name, one in details.items()} for key in DETAILS}
    config = students.config(settings.size, settings.dtype, settings.family)
    work = flops.mean_pair_flops(config, packings.pairs(settings))
    # An encoding that is shared is other work.
    found["flops"] = {name: work for name in rates if name != "ours_shared_encoding"}
    if failed:
        found["failed"] = "; ".join(failed)
    return {**dict.fromkeys(NAMES), **rates, **found}


def run_t5gemma(settings: Settings) -> dict[str, Any]:
    """As `run`, with a T5Gemma of that size; its tokens are those of T5's student.

    One after the other: with its vocabulary of 256,000 the three together take more than 24 GiB.
    """
    found = run(dataclasses.replace(settings, family="t5gemma"), together=False)
    return {name: value for name, value in found.items() if name not in T5X}


def sweep(settings: Settings) -> dict[str, dict[str, float]]:
    """Median pairs a second by the lengths of a packed row: ours, and T5X's where it is installed."""
    host_memory.keep_freed()
    data.use(settings)
    config, params = student(settings)
    medians: dict[str, dict[str, float]] = {}
    for inputs, targets in SWEEP:
        entries = {}
        for name, packing in packings.PACKINGS.items():
            packed = packings.packed(settings, dataclasses.replace(packing, inputs=inputs, targets=targets))
            entries[name] = ours.contestant(config, params, *packed)
        if t5x_packed.available():
            packing = dataclasses.replace(packings.T5X_PACKING, inputs=inputs, targets=targets)
            for name, (pack, _) in T5X.items():
                entries[name] = t5x_packed.contestant(config, params, *pack(settings, packing))
        rates = measure.in_turn({name: one.once for name, one in entries.items()}, settings.repeats)
        medians[f"{inputs},{targets}"] = {
            name: measure.summary(values)["median"] for name, values in rates.items()
        }
        print(inputs, targets, entries["ours"].settings, medians[f"{inputs},{targets}"], flush=True)
    return medians


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    settings_of.add_arguments(parser)
    parser.add_argument("--sweep", action="store_true", help="over the lengths of a packed row")
    args = parser.parse_args()
    settings = settings_of.from_arguments(args)
    print(json.dumps(sweep(settings) if args.sweep else run(settings), indent=2))


if __name__ == "__main__":
    main()
