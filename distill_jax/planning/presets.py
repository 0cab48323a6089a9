"""The models that `--model` knows: how large they are, under which licence, and what memory they need."""

import dataclasses
import json
import math
import pathlib

from distill_jax.checkpoints.other_formats.parameters import stacked_shapes
from distill_jax.config import ModelOptions, PrepareConfig, Sources, build, gin_files
from distill_jax.data.vocabulary_base import digest
from distill_jax.models.config import ModelConfig
from distill_jax.models.families import describe, make_config
from distill_jax.planning import search
from distill_jax.planning.devices import DEVICES
from distill_jax.planning.job import Job
from distill_jax.training.mesh import AXES

KNOWN = pathlib.Path(__file__).with_name("parameters.json")  # made by: python -m distill_jax.planning.presets
APACHE, GEMMA, LLAMA = "Apache 2.0", "Gemma Terms of Use", "Llama 3.2 Community"
LICENCES = {name: APACHE for name in ("byt5", "flan_t5", "qwen3", "smollm2", "t5_1_0", "t5_1_1", "umt5")}
LICENCES |= {"llama3_2": LLAMA, "t5gemma": GEMMA, "t5gemma2": GEMMA}
ROWS, LENGTHS = 8, {"inputs": 512, "targets": 320}  # that the memory is for
_OPEN_VOCABULARY = 2176  # rows of a vocabulary `train:2000` with its sentinels, where a model leaves it open


@dataclasses.dataclass(frozen=True)
class Preset:
    """A model file.

    Attributes:
      name: as `--model` takes it.
      family: of `models.families`.
      parameters: their number.
      licence: of the checkpoint; None without one.
      checkpoint: public, to start from; None of a model that starts from scratch.
      train_bytes: of AdamW's training, float32 on one device, `ROWS` rows of `LENGTHS` tokens; estimated.
      serve_bytes: of decoding them, in float32; estimated.
    """

    name: str
    family: str
    parameters: int
    licence: str | None
    checkpoint: str | None
    train_bytes: int
    serve_bytes: int


def presets() -> list[Preset]:
    """All of them. To trace each network takes seconds: the counts of the shipped files are in `KNOWN`."""
    known = json.loads(KNOWN.read_text())
    found = []
    for name in gin_files.models():
        config = _closed(make_config(build(ModelOptions, Sources(model=name)).shape))
        checkpoint = build(PrepareConfig, Sources(model=name)).initial_checkpoint_path
        parameters = known.get(digest_of(config)) or count(config)
        job = Job(config=config, mesh=dict.fromkeys(AXES, 1), batch_size=ROWS, lengths=LENGTHS)
        train = search.rough(job, next(iter(DEVICES.values()))).memory
        licence = LICENCES[name.partition("/")[0]] if checkpoint else None
        sizes = parameters, licence, checkpoint, int(train), serving_bytes(config, parameters)
        found.append(Preset(name, config.family, *sizes))
    return found


def _closed(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, vocab_size=config.vocab_size or _OPEN_VOCABULARY)


def count(config: ModelConfig) -> int:
    """The number of parameters, from the shapes of the network's own."""
    return sum(math.prod(shape) for shape in stacked_shapes(_closed(config)).values())


def digest_of(config: ModelConfig) -> str:
    """Tells the shapes of `KNOWN` apart."""
    return digest(json.dumps(describe(_closed(config)), sort_keys=True))


def known_counts() -> dict[str, int]:
    """What `KNOWN` has to hold: the counts of the shipped files, by `digest_of`."""
    configs = [make_config(build(ModelOptions, Sources(model=name)).shape) for name in gin_files.models()]
    return {key: count(config) for key, config in {digest_of(config): config for config in configs}.items()}


def serving_bytes(config: ModelConfig, parameters: int) -> int:
    """Bytes of decoding a batch of `ROWS` rows: float32 parameters, and the cached keys and values."""
    width = 2 if config.dtype == "bfloat16" else 4
    heads = getattr(config, "num_kv_heads", None) or config.num_heads
    tokens = ROWS * sum(LENGTHS.values())  # of the text so far, and of the input
    cached = 2 * config.num_decoder_layers * tokens * heads * config.head_dim
    logits = ROWS * config.vocab_size
    return 4 * parameters + width * cached + 4 * logits


if __name__ == "__main__":
    KNOWN.write_text(json.dumps(known_counts(), indent=1) + "\n")
