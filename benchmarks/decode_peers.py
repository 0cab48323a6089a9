"""The contestants of `benchmarks.decode`: ours, transformers' `generate`, CTranslate2; as entrants of `turns`.

Each takes the inputs of one view. Ours gets texts and gives log-probabilities too; the peers get ids and give
ids, sorted by length, in the batches that are fastest for them here.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from benchmarks import turns

EOS_ID = 1
TRIED_TOKENS = 24  # that an output may have where settings are tried
CT2_BATCHES = (16, 32)


def enter(job: dict, name: str) -> turns.Entrant:
    """The entrant of that name; `decode.job` makes the job."""
    make = {"ours": _ours, "transformers": _transformers}.get(name, _ctranslate2)
    return make(job, name)


def _entrant(job: dict, decode: Callable[[], list[list[int]]], warm_up: Callable[[], dict]) -> turns.Entrant:
    """`decode` gives each row's ids up to the end token; `warm_up` says how it decodes."""
    found: dict[str, Any] = {"processor_ms_per_row": []}

    def work() -> float:
        began = time.process_time()
        found["outputs"] = decode()
        found["processor_ms_per_row"].append(1000 * (time.process_time() - began) / len(job["ids"]))
        return len(job["ids"])

    def ready() -> dict:
        found.update(warm_up())
        return {}

    return turns.Entrant(work, ready, lambda: found)


PROGRAMS = {
    "_admit": "encoding",
    "_decode_until": "decoding steps",
    **dict.fromkeys(
        ("_empty_slots", "_double_window", "_halve_window", "_lengthen_inputs", "_select_slots"),
        "windows and slots that change their size",
    ),
}


def _by_program(decode: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each kind of program in one decoding, each waited for; `all` includes the host's part."""
    import jax

    from distill_jax.decoding import continuous

    seconds = dict.fromkeys(PROGRAMS.values(), 0.0)

    def timed(name: str, program: Callable) -> Callable:
        def run(*args):
            began = time.perf_counter()
            found = jax.block_until_ready(program(*args))
            seconds[PROGRAMS[name]] += time.perf_counter() - began
            return found

        return run

    with contextlib.ExitStack() as stack:
        for name in PROGRAMS:
            stack.enter_context(mock.patch.object(continuous, name, timed(name, getattr(continuous, name))))
        began = time.perf_counter()
        decode()
        seconds["all"] = time.perf_counter() - began
    return seconds


def _ours(job: dict, name: str) -> turns.Entrant:
    from distill_jax.decoding.student import load_student
    from distill_jax.training.programs import keep_compiled

    keep_compiled()
    engine = load_student(job["model_dir"], job["data_dir"]).engine(None, job["batch_size"])

    def decode() -> list[list[int]]:
        return [list(some[0].tokens) for some in engine.generate(job["texts"], job["max_length"])]

    def warm_up() -> dict:
        decode()
        return {"settings": {"batch_size": job["batch_size"]}}

    one = _entrant(job, decode, warm_up)
    return dataclasses.replace(one, details=lambda: one.details() | {"seconds_by_program": _by_program(decode)})


def _in_batches(ids: Sequence[list[int]], size: int, decode: Callable[[list[list[int]]], list[list[int]]]):
    """Each row's ids up to the end token, decoded so many at a time, sorted by length."""
    order = sorted(range(len(ids)), key=lambda item: len(ids[item]))
    outputs: list[list[int]] = [[]] * len(ids)
    for items in (order[n : n + size] for n in range(0, len(order), size)):
        for item, row in zip(items, decode([ids[item] for item in items]), strict=True):
            outputs[item] = row[: row.index(EOS_ID) + 1] if EOS_ID in row else row
    return outputs


def _fastest(job: dict, ways: Sequence[tuple], decode: Callable[[tuple, int, int], Any]) -> dict[tuple, float]:
    """Seconds of each way to decode the first rows; none where there is one way alone."""
    if len(ways) == 1:
        return {}
    tried = {}
    for how in ways:
        decode(how, job["tuned_on"], 4)
        began = time.perf_counter()
        decode(how, job["tuned_on"], TRIED_TOKENS)
        tried[how] = time.perf_counter() - began
    return tried


def _tuned(
    job: dict, names: Sequence[str], ways: Sequence[tuple], decode: Callable[[tuple, int, int], Any]
) -> turns.Entrant:
    """An entrant that decodes in the fastest of some ways; `decode` takes one, and how many rows and tokens."""
    chosen: list[tuple] = []

    def warm_up() -> dict:
        tried = _fastest(job, ways, decode)
        chosen.append(min(tried, key=tried.get, default=ways[0]))
        decode(chosen[0], job["tuned_on"], 4)
        named = {" ".join(map(str, how)): seconds for how, seconds in tried.items()}
        return {"settings": dict(zip(names, chosen[0], strict=True)), "tried": named}

    return _entrant(job, lambda: decode(chosen[0], len(job["ids"]), job["max_length"]), warm_up)


def _transformers(job: dict, name: str) -> turns.Entrant:
    import torch
    import transformers

    torch.set_num_threads(job["threads"])
    kind = transformers.T5ForConditionalGeneration
    models = {
        attention: kind.from_pretrained(job["folder"], attn_implementation=attention).eval()
        for attention in job["peer_attention"]
    }

    def decode(how: tuple, rows: int, tokens: int) -> list[list[int]]:
        attention, size, cache = how
        static = {"cache_implementation": "static"} if cache == "static" else {}

        def of_batch(batch: list[list[int]]) -> list[list[int]]:
            longest = max(map(len, batch))
            inputs = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
            options = {
                "max_new_tokens": tokens,
                "do_sample": False,
                "num_beams": 1,
                "use_cache": True,
                **static,
            }
            with torch.inference_mode():
                mask = (inputs > 0).long()
                found = models[attention].generate(input_ids=inputs, attention_mask=mask, **options)
            return found[:, 1:].tolist()  # the first is the start

        return _in_batches(job["ids"][:rows], size, of_batch)

    ways = [*itertools.product(job["peer_attention"], job["peer_batch_sizes"], job["peer_cache"])]
    return _tuned(job, ("attention", "batch_size", "cache"), ways, decode)


def _ctranslate2(job: dict, name: str) -> turns.Entrant:
    import ctranslate2

    weights = name.removeprefix("ctranslate2_")
    workers = {"inter_threads": job["threads"], "intra_threads": 1}
    translator = ctranslate2.Translator(job["ctranslate2"][weights], compute_type=weights, **workers)
    sources = [list(map(str, row)) for row in job["ids"]]

    def decode(how: tuple, rows: int, tokens: int) -> list[list[int]]:
        found = translator.translate_batch(
            sources[:rows],
            [["0"]] * rows,
            beam_size=1,
            max_batch_size=how[0],
            max_input_length=0,
            max_decoding_length=tokens,
            min_decoding_length=0,
            return_end_token=True,
        )
        return [list(map(int, result.hypotheses[0])) for result in found]

    return _tuned(job, ("batch_size",), [(size,) for size in CT2_BATCHES], decode)
