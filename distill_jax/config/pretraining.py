"""Options of pretraining a student on text."""

from typing import ClassVar

from distill_jax.config.data import Folders, ShareOptions, TokenOptions, lengths
from distill_jax.config.options import Options, fixed, option
from distill_jax.config.start import StartOptions
from distill_jax.config.training import TrainerOptions
from distill_jax.errors import UserError

SPANS = {"inputs": 512, "targets": 114}  # T5's: what windows of 568 tokens become
CAUSAL = {"inputs": 2, "targets": 512}  # one token of the inputs is read, all others are predicted


class TextOptions(Options):
    """The text"""

    texts: tuple[str, ...] = option(
        (),
        "text files, a document a line; or JSONL, CSV or Parquet files, see --column; .gz too",
        positional=True,
        repeat=True,
        metavar="TEXT",
        path=True,
    )
    task: str | None = fixed(None, "a task whose train rows are read too, such as svamp; see --column")
    column: tuple[str, ...] = fixed(
        (),
        "columns of the files' rows, default text, or fields of the task, default input: input,rationale",
    )
    held_out: float = fixed(
        0.01, "share of the documents that is held out, for the perplexity; 0 for none", minimum=0, below=1
    )
    window: int | None = fixed(
        None, "tokens of a window, of which a row holds several; default as many as fill a row", minimum=2
    )
    noise_density: float = fixed(
        0.15, "share of the tokens that span corruption takes out", above=0, maximum=0.5
    )
    mean_noise_span_length: float = fixed(3.0, "tokens of a span that is taken out, on average", minimum=1)


class PretrainConfig(TrainerOptions, TextOptions, ShareOptions, TokenOptions, StartOptions, Folders):
    """Pretrain a student on text"""

    task_feature_lengths: dict[str, int] | None = lengths(
        None,
        "tokens of a row, which a corrupted window fills; default 512,114, of a decoder-only student 2,512",
        identity=True,
    )

    # What a run of labelled examples has as options.
    method_name: ClassVar[str] = "pretrain"
    view_weights: ClassVar[dict[str, float]] = {"text": 1.0}
    label_source: ClassVar[str] = "reference"
    filters: ClassVar[dict[str, object]] = {}
    teacher: ClassVar[None] = None

    def verify(self) -> None:
        """There must be text; what the network decides is filled in."""
        if not (self.texts or self.task):
            raise UserError(
                f"no value for {self.named('texts')}: give text files, or a task such as svamp with "
                f"{self.named('task')}"
            )
        if self.task_feature_lengths is None:
            object.__setattr__(self, "task_feature_lengths", dict(CAUSAL if self.is_causal else SPANS))
        if not self.model_dir:
            object.__setattr__(self, "model_dir", "runs/pretrained")
        if not self.held_out:
            object.__setattr__(self, "eval_period", 0)

    @property
    def is_causal(self) -> bool:
        """Whether the student has no encoder: it continues texts, and no span is taken out."""
        return self.num_encoder_layers == 0
