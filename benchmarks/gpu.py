"""The train step on an accelerator: ours beside the paper's PyTorch computation, and the share of the peak.

    python -m benchmarks.gpu [--sizes small,base,large,xl] [--batch 64]

bfloat16 for both, the reference with torch.compile and scaled dot-product attention, on pairs of random ids
of CQA's lengths. Each contestant of each size has a process of its own, because each library holds on to the
memory that it has allocated. The peak is measured, by a large bfloat16 matrix product in JAX; `mfu` is the
share of it that the pairs' own matrix products (`flops.py`, no padding) come to. Where a size does not fit,
its entry says so.
"""

import argparse
import dataclasses
import json
import pathlib
import sys

from benchmarks import measure, results, worker
from benchmarks.peaks import matrix_peak

SIZES = ("small", "base", "large", "xl")
CONTESTANTS = ("ours", "reference")
LENGTHS = (1024, 384)
MULTIPLE = 64  # that the reference pads to, so that few shapes are compiled


def _measure(job: dict) -> dict:
    """Pairs a second of one contestant, of each repetition; runs in a process of its own."""
    from benchmarks import fabricated, flops
    from distill_jax.models.config import T5Config

    config = T5Config(**job["config"])
    pairs = fabricated.pairs(job["pairs"], config.vocab_size)
    if job["contestant"] == "ours":
        one = _ours(config, pairs, job)
    else:
        from benchmarks import pytorch_reference

        batches = pytorch_reference.collated(pairs, job["batch"], MULTIPLE)
        batches = [batch for batch in batches if len(batch[0]["input_ids"]) == job["batch"]]
        one = pytorch_reference.contestant(
            config, None, batches, compiled=job["compiled"], device=job["torch_device"]
        )
    one.once()
    rates = measure.in_turn({"it": one.once}, job["repeats"])["it"]
    return {
        "pairs_per_second": rates,
        "flops_per_pair": flops.mean_pair_flops(config, pairs),
        "settings": one.settings,
        "imported": sorted({"tensorflow", "gin", "grain"} & set(sys.modules)),
    }


def _ours(config, pairs: list, job: dict):
    from benchmarks import fabricated, ours
    from distill_jax.models.t5 import Transformer
    from distill_jax.training import train_state

    batches, counts, described = fabricated.packed(pairs, tuple(job["lengths"]), job["rows"])
    return ours.contestant(config, train_state.init_params(Transformer(config), 0), batches, counts, described)


def run(
    sizes=SIZES,
    *,
    batch: int = 64,
    updates: int = 8,
    repeats: int = 5,
    lengths: tuple[int, int] = LENGTHS,
    device: str = "cuda",
    compiled: bool = True,
    peak_size: int = 8192,
    scan_from: str = "large",
) -> dict:
    """Measures all contestants of all sizes.

    Args:
      sizes: of T5 1.1.
      batch: pairs of an update, for both.
      updates: of a measurement.
      repeats: measurements.
      lengths: of a packed row.
      device: torch's name of the accelerator; JAX takes its own.
      compiled: the reference by torch.compile.
      peak_size: of the matrices whose product is the peak.
      scan_from: the first size whose layers are scanned, which saves compilation.
    """
    from benchmarks import pytorch_reference, students

    peak = worker.call("benchmarks.gpu", "--worker", stdin={"peak": peak_size})
    found: dict = {"peak_flops": peak["peak"], "device": peak["device"], "sizes": {}}
    mean = 2 * 45  # encoder tokens of a pair, as fabricated has them
    rows = max(1, round(batch * mean / (0.97 * lengths[0])))
    order = [*SIZES, "xxl"]
    for size in sizes:
        scanned = size in order and order.index(size) >= order.index(scan_from)
        config = students.config(size, "bfloat16", scan_layers=scanned)
        job = {
            "config": dataclasses.asdict(config),
            "pairs": batch * updates,
            "batch": batch,
            "rows": rows,
            "lengths": lengths,
            "repeats": repeats,
            "compiled": compiled,
            "torch_device": device,
        }
        entry: dict = dict.fromkeys(CONTESTANTS)
        for name in CONTESTANTS:
            if name == "reference" and not pytorch_reference.available():
                continue
            environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}
            try:
                figures = worker.call(
                    "benchmarks.gpu", "--worker", stdin=job | {"contestant": name}, environment=environment
                )
            except RuntimeError as error:
                entry[name] = {"failed": str(error)}
                print(f"{size} {name}: {error}", file=sys.stderr)
                continue
            rates = measure.summary(figures["pairs_per_second"])
            mfu = rates["median"] * figures["flops_per_pair"] / peak["peak"]
            entry[name] = {"pairs_per_second": rates, "mfu": mfu} | {
                key: figures[key] for key in ("settings", "imported", "process_seconds")
            }
            print(f"{size} {name}: {rates['median']} pairs/s, mfu {mfu:.1%}", file=sys.stderr, flush=True)
        found["sizes"][size] = entry
    return found


def _worker(job: dict) -> dict:
    if "peak" not in job:
        return _measure(job)
    import jax

    peak = matrix_peak("jax", job["peak"], "bfloat16", count=10)
    return {"peak": peak, "device": jax.devices()[0].device_kind}


def main() -> None:
    """Measures, prints and writes JSON; or is a process that is measured."""
    if sys.argv[1:] == ["--worker"]:
        worker.answer(_worker(json.load(sys.stdin)))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--batch", type=int, default=64, help="pairs of an update")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda", help="torch's name of it")
    parser.add_argument("--output", default="benchmarks/results", help="folder of the results")
    args = parser.parse_args()
    made = run(args.sizes.split(","), batch=args.batch, repeats=args.repeats, device=args.device)
    made["versions"] = results.versions()
    name = made["device"].lower().replace(" ", "-")
    print(json.dumps(made, indent=2))
    print(results.write(made, pathlib.Path(args.output), name), file=sys.stderr)


if __name__ == "__main__":
    main()
