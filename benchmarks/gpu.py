"""The train step and greedy decoding on an accelerator, beside the peers', and the share of the peak.

    python -m benchmarks.gpu [--cases small:64,large:64,xl:64,t5gemma:64] [--minutes 25]

A case is a size and the pairs of an update. All compute in bfloat16 from random float32 parameters, on pairs of
random ids of CQA's lengths:

- `ours`: packed rows of 256 and 96 tokens; `ours_long_rows`: of 1,024 and 384.
- `reference`: the paper's PyTorch computation with torch.compile and scaled dot-product attention.
- `t5x_network`: T5X's network and loss on our packed rows, where its source is on the path.
- `decode`: greedy decoding of `base`, ours and transformers' with a static cache, which it compiles, and with
  its own.

Each contestant has a process of its own, because each library holds on to the memory that it has allocated, and
one after the other, because they compile on the same cores: on one H100 with 16 cores seven processes side by
side had not compiled `small` in 170 seconds. One that takes longer than `--limit` is ended, and its entry says
so, as where a size does not fit. The results are written after each.

The peak is that of a large bfloat16 matrix product in JAX; `mfu` is the share of it that the pairs' own matrix
products (`flops.py`, no padding) come to.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import measure, results, worker
from benchmarks.peaks import matrix_peak

CASES = ("small:64", "base:64", "large:64", "t5gemma:64", "large:256", "xl:64")
CONTESTANTS = ("ours", "ours_long_rows", "reference", "t5x_network")
DECODERS = ("ours", "transformers_static", "transformers")
LENGTHS = {"ours": (256, 96), "t5x_network": (256, 96), "ours_long_rows": (1024, 384)}
MULTIPLE = 64  # that the reference pads to, so that few shapes are compiled
SCANNED = ("base", "large", "xl", "xxl")  # our layers, which saves compilation
LIMIT = 240.0  # seconds of a contestant, its start and compilation included


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
      cases: `size:pairs of an update` each; `t5gemma` is a T5Gemma of 310 million parameters.
      contestants: of `CONTESTANTS`.
      decoded: rows that are decoded; 0 for none.
      decoded_tokens: of each of them.
      decoding_size: of T5 1.1.
      updates: of a measurement.
      repeats: measurements.
      lengths: of a packed row, by contestant.
      device: torch's name of the accelerator; JAX takes its own.
      compiled: the reference by torch.compile.
      peak_size: of the matrices whose product is the peak.
      limit: seconds of a contestant, its start and compilation included.
      minutes: after which no contestant is begun.
    """

    cases: Sequence[str] = CASES
    contestants: Sequence[str] = CONTESTANTS
    decoded: int = 256
    decoded_tokens: int = 64
    decoding_size: str = "base"
    updates: int = 8
    repeats: int = 5
    lengths: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=lambda: dict(LENGTHS))
    device: str = "cuda"
    compiled: bool = True
    peak_size: int = 8192
    limit: float = LIMIT
    minutes: float = math.inf


@dataclasses.dataclass(frozen=True)
class _Part:
    """A contestant of a case, and what its process is told."""

    case: str
    contestant: str
    job: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.case} {self.contestant}"


def _parts(settings: Settings) -> list[_Part]:
    from benchmarks import pytorch_reference, students, t5x_packed
    from distill_jax.models.families import describe

    missing = set()
    if not pytorch_reference.available():
        missing |= {"reference", "transformers", "transformers_static"}
    if not t5x_packed.available():
        missing.add("t5x_network")
    shared = {"repeats": settings.repeats, "device": settings.device, "compiled": settings.compiled}
    parts = []
    for case in settings.cases:
        size, _, batch = case.partition(":")
        for name in settings.contestants:
            if name in missing or (name == "t5x_network" and size == "t5gemma"):
                continue
            scan = {"scan_layers": True} if size in SCANNED and name.startswith("ours") else {}
            family, own = ("t5gemma", "small") if size == "t5gemma" else ("t5_1_1", size)
            config = students.config(own, "bfloat16", family, **scan)
            job = shared | {
                "work": "train",
                "contestant": name,
                "config": describe(config),
                "batch": int(batch),
                "updates": settings.updates,
                "lengths": settings.lengths.get(name),
            }
            parts.append(_Part(case, name, job))
    if settings.decoded:
        config = students.config(settings.decoding_size, "bfloat16")
        job = shared | {"work": "decode", "config": describe(config)}
        job |= {"rows": settings.decoded, "tokens": settings.decoded_tokens}
        parts += [_Part("decode", name, job | {"contestant": name}) for name in DECODERS if name not in missing]
    return parts


def run(settings: Settings = Settings(), write: Callable[[dict], Any] = lambda found: None) -> dict:
    """Measures all contestants of all cases; `write` gets what there is, after each of them."""
    began = time.perf_counter()
    peak = worker.call("benchmarks.gpu", "--worker", stdin={"work": "peak", "size": settings.peak_size})
    found: dict = {"device": peak["device"], "peak_flops": peak["peak"], "versions": results.versions()}
    found |= {"cases": {case: dict.fromkeys(settings.contestants) for case in settings.cases}}
    found["decode"] = dict.fromkeys(DECODERS)
    for part in _parts(settings):
        if time.perf_counter() - began > 60 * settings.minutes:
            measure.tell(f"{part}: left out, for want of time")
            continue
        where = found["decode"] if part.case == "decode" else found["cases"][part.case]
        where[part.contestant] = _entry(part, settings.limit, peak["peak"])
        write(found)
    return found


def _entry(part: _Part, limit: float, peak: float) -> dict[str, Any]:
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}
    try:
        told = worker.call("benchmarks.gpu", "--worker", stdin=part.job, environment=environment, limit=limit)
    except RuntimeError as error:
        measure.tell(f"{part}: {error}")
        return {"failed": str(error)}
    rates = measure.summary(told.pop("rates"))
    entry = {"per_second": rates, **told}
    share = ""
    if "flops_per_pair" in told:
        entry["mfu"] = rates["median"] * told["flops_per_pair"] / peak
        share = f", mfu {entry['mfu']:.1%}"
    measure.tell(f"{part}: {rates['median']} a second{share}, {told['process_seconds']:.0f} s in all")
    return entry


def _measured(job: dict, once: Callable[[], float]) -> dict[str, Any]:
    began = time.perf_counter()
    once()
    return {
        "first_seconds": time.perf_counter() - began,
        "rates": measure.in_turn({"it": once}, job["repeats"], warm=False)["it"],
    }


def _train(job: dict) -> dict:
    """Pairs a second of one contestant, of each repetition."""
    from benchmarks import fabricated, flops
    from distill_jax.models.families import make_config

    config = make_config(job["config"])
    pairs = fabricated.pairs(job["batch"] * job["updates"], config.vocab_size)
    one = (_reference if job["contestant"] == "reference" else _ours)(config, pairs, job)
    return _measured(job, one.once) | {
        "flops_per_pair": flops.mean_pair_flops(config, pairs),
        "settings": one.settings | {"pairs_of_an_update": job["batch"]},
        "imported": sorted({"tensorflow", "gin", "grain"} & set(sys.modules)),
    }


def _reference(config, pairs: list, job: dict):
    from benchmarks import pytorch_reference

    batches = pytorch_reference.collated(pairs, job["batch"], MULTIPLE)
    params = None
    if config.family != "t5":  # the reference's other networks are made of our parameters
        from distill_jax.models.families import make_network
        from distill_jax.training import train_state

        params = train_state.init_params(make_network(config), 0)
    options = {"compiled": job["compiled"], "device": job["device"]}
    options["attention"] = pytorch_reference.attention_of(config)
    return pytorch_reference.contestant(config, params, batches, **options)


def _ours(config, pairs: list, job: dict):
    from benchmarks import fabricated, ours, t5x_network
    from distill_jax.models.families import make_network
    from distill_jax.training import train_state

    lengths = tuple(job["lengths"])
    rows = max(1, round(job["batch"] * 2 * fabricated.INPUTS[0] / (0.97 * lengths[0])))
    batches, counts, described = fabricated.packed(pairs, lengths, rows)
    if job["contestant"] == "t5x_network":
        return t5x_network.contestant(config, batches, counts, described)
    params = train_state.init_params(make_network(config), 0)
    return ours.contestant(config, params, batches, counts, described)


def _decode(job: dict) -> dict:
    """Rows a second, of rows of random ids; no output ends before its last token."""
    from benchmarks import fabricated
    from distill_jax.models.families import make_config

    config = make_config(job["config"])
    rows = [inputs for (inputs, _), _ in fabricated.pairs(job["rows"], config.vocab_size)]
    decode = (_decode_ours if job["contestant"] == "ours" else _decode_transformers)(config, rows, job)

    def once() -> float:
        lengths = set(map(len, decode()))
        if lengths != {job["tokens"]}:
            raise ValueError(f"outputs of {job['tokens']} tokens were expected, not of {sorted(lengths)}")
        return len(rows)

    settings = {"rows": len(rows), "tokens": job["tokens"]}
    return _measured(job, once) | {"settings": settings}


def _decode_ours(config, rows: list, job: dict) -> Callable[[], list]:
    from distill_jax.decoding import continuous, quantization
    from distill_jax.models.families import make_network
    from distill_jax.training import train_state

    model = make_network(config)
    params = quantization.quantize(train_state.init_params(model, 0), "bfloat16")
    options = {"batch_size": len(rows), "longest": 64, "max_length": job["tokens"], "end_id": -1}
    return lambda: [tokens for _, tokens, _ in continuous.decode(model, params, rows, **options)]


def _decode_transformers(config, rows: list, job: dict) -> Callable[[], list]:
    import torch

    from benchmarks import pytorch_reference

    model = pytorch_reference.load(config, None, "sdpa", job["device"]).eval().to(torch.bfloat16)
    batch = pytorch_reference.collate([(row, [1]) for row in rows])
    given = {name: batch[name].to(job["device"]) for name in ("input_ids", "attention_mask")}
    tokens = {"max_new_tokens": job["tokens"], "min_new_tokens": job["tokens"]}
    cache = {"cache_implementation": "static"} if job["contestant"].endswith("static") else {}
    options = tokens | cache | {"do_sample": False, "use_cache": True}

    def decode() -> list:
        with torch.inference_mode():
            return model.generate(**given, **options)[:, 1:].tolist()  # the first is the start

    return decode


def _peak(job: dict) -> dict:
    import jax

    peak = matrix_peak("jax", job["size"], "bfloat16", count=10)
    return {"peak": peak, "device": jax.devices()[0].device_kind}


def main() -> None:
    """Measures, prints and writes JSON; or is a process that is measured."""
    if sys.argv[1:] == ["--worker"]:
        job = json.load(sys.stdin)
        worker.answer({"peak": _peak, "train": _train, "decode": _decode}[job["work"]](job))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", default=",".join(CASES), help="size:pairs of an update, …")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--decoded", type=int, default=256, help="rows that are decoded; 0 for none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda", help="torch's name of it")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of a contestant, start included")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which nothing is begun")
    parser.add_argument("--output", default="benchmarks/results", help="folder of the results")
    args = parser.parse_args()
    settings = Settings(
        cases=args.cases.split(","),
        contestants=args.contestants.split(","),
        decoded=args.decoded,
        repeats=args.repeats,
        device=args.device,
        limit=args.limit,
        minutes=args.minutes,
    )
    written = []

    def write(found: dict) -> None:
        name = found["device"].lower().replace(" ", "-")
        written.append(results.write(found, pathlib.Path(args.output), name))

    print(json.dumps(run(settings, write), indent=2))
    measure.tell(str(written[-1]) if written else "nothing was measured")


if __name__ == "__main__":
    main()
