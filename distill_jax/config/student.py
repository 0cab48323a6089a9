"""Options of what is done with a trained student: decode, evaluate, predict, select, serve, convert, export."""

import os
import re
from typing import Any

from distill_jax.config.checking import VerifyOption
from distill_jax.config.data import SPLITS, RowsOptions, lengths
from distill_jax.config.options import REQUIRED, JsonOption, Options, option
from distill_jax.config.trust import TrustOption
from distill_jax.errors import UserError


def _step(more: str = "", *choices: str) -> Any:
    """The option CHECKPOINT_STEP of a run."""
    text = f"latest, best by validation, or a number{more}"
    return option("latest", text, macro="CHECKPOINT_STEP", choices=("latest", "best", *choices), minimum=0)


class EngineOptions(Options):
    """The engine of a student of ours"""

    engine: str = option(
        "jax",
        "ctranslate2: on a CPU, a T5; auto: the faster one of those that give the same answers",
        choices=("jax", "ctranslate2", "auto"),
    )
    weights: str = option("float32", "quantization of the weights", choices=("float32", "bfloat16", "int8"))


class Decoding(Options):
    """How a text is decoded; the default is greedy

    Raises:
      UserError: for values that do not go together.
    """

    num_beams: int = option(1, "more than 1: beam search", flags=("beams",), minimum=1)
    length_penalty: float = option(
        1.0, "of beam search; 0: by log-probability, larger: longer texts", minimum=0, maximum=10
    )
    beam_rule: str = option(
        "transformers",
        "whose beam search: `generate`'s, T5X's, or CTranslate2's in that engine",
        choices=("transformers", "t5x", "ctranslate2"),
    )
    temperature: float = option(0.0, "above 0: draw each token, from logits divided by it", minimum=0)
    top_k: int = option(0, "draw from the K likeliest tokens only; 0 for no bound", minimum=0)
    top_p: float = option(1.0, "draw from the likeliest tokens that make up this share", above=0, maximum=1)
    n_best: int = option(1, "texts of each input: the best beams, or so many samples", minimum=1)
    seed: int = option(0, "of the samples", macro="RANDOM_SEED", minimum=0, maximum=(1 << 32) - 1)

    def verify(self) -> None:
        """Sampling and beam search exclude each other."""
        if self.samples and self.num_beams > 1:
            raise UserError("temperature and num_beams exclude each other: sample, or search with beams")
        if not self.samples and (self.top_k or self.top_p < 1.0):
            raise UserError("top_k and top_p are for sampling: give a temperature above 0 too")
        if not self.samples and self.n_best > self.num_beams:
            raise UserError(
                f"n_best {self.n_best} needs as many beams, there are {self.num_beams}; or a temperature"
            )

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn."""
        return self.temperature > 0.0

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken at each step."""
        return not self.samples and self.num_beams == 1

    @property
    def decoding(self) -> "Decoding":
        """These options alone, of a configuration that holds others too."""
        return Decoding(**{name: getattr(self, name) for name in Decoding.options()})


class StudentOptions(EngineOptions, TrustOption, VerifyOption):
    """The student"""

    model_dir: str = option(REQUIRED, "the run's folder", positional=True, path=True)
    step: int | str = _step()
    batch_size: int = option(64, "inputs per batch", minimum=1)


class LabelOptions(Options):
    """How a label is found"""

    label_by: str = option(
        "generate",
        "rank: the likeliest of the choices or classes; constrain: write what can only be one of these",
        choices=("generate", "rank", "constrain"),
    )
    normalize_scores: bool = option(
        False, "rank by the mean of the tokens' log-probabilities, not by their sum", off=("raw-scores",)
    )


class EvalConfig(JsonOption, LabelOptions, StudentOptions):
    """The evaluation"""

    split: str = option("test", SPLITS)
    step: int | str = _step("; or all", "all")
    num_beams: int = option(1, "more than 1: beam search", flags=("beams",), minimum=1)
    eval_examples: int | None = option(None, "the first so many; default all", minimum=1)
    rationale: bool = option(True, "predict rationales too, where the student writes them beside labels")
    eval_output_dir: str | None = option(None, "for predictions and metrics.jsonl; default MODEL_DIR/eval")
    data_dir: str | None = option(None, "folder of the data sets, where the task reads files", path=True)
    compare_weights: bool = option(False, "evaluate with float32 weights too, and say what the others cost")


class InferConfig(Decoding, LabelOptions, StudentOptions):
    """Inputs and outputs"""

    input: str = option("-", "JSONL, CSV, Parquet or plain text; - is standard input")
    output: str = option("-", "JSONL, continued where it stopped; - is standard output")
    input_format: str | None = option(
        None,
        "text: an input a line; default by the file's ending, else jsonl",
        choices=("jsonl", "csv", "parquet", "text"),
    )
    input_column: str | None = option(
        None, "column of the text; default that of the run's own data, else input", metavar="COLUMN"
    )
    choices_column: str | None = option(
        None, "labels to rank, for a task without classes; default likewise, else choices", metavar="COLUMN"
    )
    rationale_column: str | None = option(
        None, "teacher's rationale, for a rationale_input student; default likewise", metavar="COLUMN"
    )
    label: bool = option(True, "predict labels")
    rationale: bool = option(False, "predict rationales too")


class SelectConfig(EngineOptions, VerifyOption, RowsOptions):
    """What to select"""

    count: int = option(REQUIRED, "rows to choose", minimum=1)
    run: str | None = option(None, "student that is asked; default choose at random", metavar="FOLDER")
    step: int | str = _step()
    measure: str | None = option(
        None,
        "default margin; log-prob where there are no labels to rank",
        choices=("margin", "entropy", "least-confidence", "log-prob"),
    )
    exclude: tuple[str, ...] = option(
        (), "ids that are annotated already, one a line, or JSONL with id", repeat=True, metavar="FILE"
    )
    seed: int = option(0, "of the choice at random", macro="RANDOM_SEED", minimum=0)
    batch_size: int = option(64, "inputs per batch", minimum=1)
    output: str | None = option(None, "JSONL with scores; default the ids, one a line", metavar="FILE")

    def verify(self) -> None:
        """A measure, an engine and its weights are a student's."""
        needing = {name: getattr(self, name) for name in ("measure", "engine", "weights")}
        for name, value in needing.items():
            if self.run is None and value != self.options()[name].default:
                raise UserError(f"--{name} needs a student: give its folder with --run")


class ServeConfig(StudentOptions):
    """The server"""

    batch_size: int = option(32, "inputs per batch", minimum=1)
    host: str = option("127.0.0.1", "default this machine only")
    port: int = option(8000, "0 takes a free one", minimum=0, maximum=65535)
    name: str | None = option(None, "of the model; default the folder's")
    template: str | None = option(None, "of an answer, such as '{rationale} The answer is {label}.'; or json")
    chat_format: str | None = option(
        None, "of a chat as the input; default the rows', or '{user}', the user's last message", metavar="FORM"
    )
    max_queue: int = option(1024, "inputs that may wait; more get 429", minimum=1)
    max_wait_ms: float = option(2.0, "milliseconds that an input waits for others", minimum=0)
    timeout: float = option(120.0, "seconds until a request is given up", above=0)
    client_timeout: float = option(
        30.0, "seconds that a client may take for a request's head, its body, the answer, and between", above=0
    )
    max_connections: int = option(512, "open at a time; more get 503", minimum=1)
    max_n: int = option(16, "answers to an input, and beams, at most", minimum=1)
    max_text: int = option(1_000_000, "characters of a request's texts in all, at most", minimum=1)
    max_choices: int = option(128, "labels to choose from for an input, at most", minimum=1)
    max_choice_tokens: int = option(256, "of each such label, at most", minimum=1)
    max_choices_tokens: int = option(16_384, "of all such labels in a request, at most", minimum=1)
    warm_up: int = option(64, "compile for inputs of up to so many tokens before it is ready", minimum=0)


class ConvertConfig(VerifyOption):
    """The conversion"""

    source: str = option(
        REQUIRED, "run, T5X or Hugging Face checkpoint; local, gs:// or hf://ORG/NAME", positional=True
    )
    destination: str = option(REQUIRED, "folder to write, which must not be there", positional=True)
    to: str = option(REQUIRED, "format", choices=("distill-jax", "t5x", "t5x-orbax", "huggingface"))
    step: int | str = _step("; of a result whose source has none")
    task: str | None = option(None, "to evaluate a result of ours on, such as svamp_step_by_step")
    task_feature_lengths: dict[str, int] | None = lengths(None, "tokens of that task")
    vocabulary: str | None = option(None, "bytes, a SentencePiece file or URL, or a run's folder")
    activations: tuple[str, ...] | None = option(None, "of a T5X source, where not the usual: silu,linear")
    scan_layers: bool = option(False, "layers stacked, for SCAN_LAYERS = True")
    ocdbt: bool = option(True, "Orbax in a few files; --no-ocdbt: a folder an array")
    dtype: str = option("float32", "of Hugging Face files", choices=("float32", "bfloat16", "float16"))
    shard_gb: float = option(5.0, "size of a Hugging Face file at most", above=0)


class ExportConfig(TrustOption, VerifyOption):
    """What is exported"""

    model_dir: str = option(REQUIRED, "the run's folder", positional=True, path=True)
    to: str = option("huggingface", "who loads it", choices=("huggingface", "ctranslate2"))
    output: str | None = option(None, "folder to write, which must not be there; default MODEL_DIR/export/TO")
    step: int | str = _step()
    dtype: str = option(
        "float32", "of the weights; int8 is CTranslate2's", choices=("float32", "bfloat16", "float16", "int8")
    )
    shard_gb: float = option(5.0, "size of a Hugging Face file at most", above=0)
    license: str | None = option(None, "of the model card, an identifier of the hub's such as apache-2.0")
    eval_output_dir: str | None = option(None, "where `eval` wrote; default MODEL_DIR/eval", path=True)
    teacher_report: str | None = option(
        None, "JSON that `annotate --report` wrote: the card's teacher and its cost", metavar="FILE", path=True
    )
    data_dir: str | None = option(None, "folder of the data sets, where the task reads files", path=True)
    push: str | None = option(None, "repository of the Hugging Face hub to put it into", metavar="ORG/NAME")
    private: bool = option(
        True, "of a repository that --push makes: only for you; --public: for all", off=("public",)
    )

    def verify(self) -> None:
        """int8 is of one format; a repository has an owner and a name."""
        if self.dtype == "int8" and self.to != "ctranslate2":
            raise UserError("--dtype int8 is CTranslate2's: give --to ctranslate2, or another dtype")
        if self.push is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.push):
            raise UserError(f"--push {self.push}: expected ORG/NAME")

    @property
    def folder(self) -> str:
        """Where it is written."""
        return self.output or os.path.join(self.model_dir, "export", self.to)

    @property
    def elsewhere(self) -> str:
        """What to do where `folder` cannot be written."""
        return f"choose another folder with {self.named('output')}"


class CompareConfig(JsonOption):
    """The comparison"""

    first: str = option(REQUIRED, "predictions of `distill-jax eval`", positional=True, metavar="A.jsonl")
    second: str = option(REQUIRED, "another run's, of the same examples", positional=True, metavar="B.jsonl")
    resamples: int = option(10_000, "bootstrap samples", minimum=1)
    seed: int = option(0, "of these", macro="RANDOM_SEED", minimum=0)
