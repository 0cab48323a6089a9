"""Options of the data: which rows, read how, which of them, and how they are tokenized and packed."""

import dataclasses

from distill_jax.config.options import REQUIRED, Options, option
from distill_jax.errors import UserError

FIELDS = ("id", "input", "label", "teacher_label", "rationale", "label_probs", "choices")
METHODS = (
    "standard",
    "task_distillation",
    "step_by_step",
    "step_by_step_shared",
    "single_task",
    "rationale_input",
    "soft_labels",
    "logit_distillation",
)
LENGTHS = ("inputs", "targets")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns(Options):
    """Columns of a file of your own"""

    column_id: str | None = option(None, "column of id", flags=("id",), metavar="COLUMN", identity=True)
    column_input: str | None = option(
        None, "column of input", flags=("input",), metavar="COLUMN", identity=True
    )
    column_label: str | None = option(
        None, "column of label", flags=("label",), metavar="COLUMN", identity=True
    )
    column_teacher_label: str | None = option(
        None, "column of teacher_label", flags=("teacher-label",), metavar="COLUMN", identity=True
    )
    column_rationale: str | None = option(
        None, "column of rationale", flags=("rationale",), metavar="COLUMN", identity=True
    )
    column_label_probs: str | None = option(
        None, "column of label_probs", flags=("label-probs",), metavar="COLUMN", identity=True
    )
    column_choices: str | None = option(
        None, "column of choices", flags=("choices",), metavar="COLUMN", identity=True
    )
    classes: tuple[str, ...] | None = option(
        None, "the labels there are, with commas between them", identity=True
    )

    @property
    def columns(self) -> dict[str, str]:
        """Column by field of `data.schema.Example`, of those that are given."""
        return {field: column for field in FIELDS if (column := getattr(self, f"column_{field}"))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folders(Options):
    """Where tasks and their data are"""

    data_dir: str | None = option(
        None, "folder of the data sets; default DISTILL_JAX_DATA_DIR of the environment", path=True
    )
    module: str | None = option(
        None, "Python module that registers the task", macro="MIXTURE_OR_TASK_MODULE", identity=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnData(Columns):
    """Your own data, instead of a task"""

    data: str | None = option(
        None,
        "JSONL, CSV or Parquet file to train on; or tfds:NAME, hf:NAME, seqio:TASK",
        path=True,
        identity=True,
    )
    validation_data: str | None = option(
        None, "another, or a split of the set; default a tenth of --data", path=True, identity=True
    )
    test_data: str | None = option(None, "likewise; default the validation rows", path=True, identity=True)
    rationales: str | None = option(
        None, "file with the teacher's answers, joined by id", path=True, identity=True
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(OwnData, Folders):
    """The task"""

    mixture_or_task_name: str | None = option(
        None,
        "a task such as svamp, or with a method svamp_step_by_step; or give --data",
        positional=True,
        metavar="TASK",
        identity=True,
    )
    teacher: str | None = option(
        None,
        "folder of the teacher's completions in a set of the paper's layout: llm; none for rows alone",
        identity=True,
    )

    def verify(self) -> None:
        """A task and own data exclude each other."""
        if self.data and self.mixture_or_task_name:
            raise UserError(f"give a task ({self.mixture_or_task_name}) or --data {self.data}, not both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenOptions(Options):
    """Tokens and rows"""

    vocabulary: str = option(
        "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model",
        "bytes, a SentencePiece file or URL, a run's folder, or train:SIZE to make one of the task's text",
    )
    task_feature_lengths: dict[str, int] = option(
        {"inputs": 512, "targets": 320},
        "tokens of a packed row",
        flags=("lengths",),
        keys=LENGTHS,
        minimum=2,
        metavar="INPUTS,TARGETS",
        identity=True,
    )
    pack: bool = option(True, "several examples to a row, kept apart by segment ids", identity=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionOptions(Options):
    """Which examples, and which labels"""

    label_source: str = option(
        "reference",
        "whose label the label view is trained on",
        choices=("reference", "teacher"),
        identity=True,
    )
    rationale_rate: float | None = option(
        None, "rationales for each label; default the task's, which is 1", above=0, identity=True
    )
    data_fraction: float = option(
        1.0,
        "share of the training examples, nested and the same for every method",
        above=0,
        maximum=1,
        identity=True,
    )
    num_examples: int | None = option(None, "or their number", minimum=1, identity=True)
    only_agreeing: bool = option(False, "only rows whose teacher label is right", identity=True)
    min_rationale_words: int = option(0, "drop rows with a shorter rationale", minimum=0, identity=True)
    max_rationale_words: int | None = option(
        None, "drop rows with a longer rationale", minimum=0, identity=True
    )
    max_rationale_similarity: float | None = option(
        None,
        "drop rows whose rationale is nearer to an earlier one, by the Jaccard index of word triples",
        above=0,
        below=1,
        identity=True,
    )
    seed: int = option(
        0,
        "of the parameters, the order of the data, the share of it and the dropout",
        macro="RANDOM_SEED",
        minimum=0,
        identity=True,
    )

    @property
    def filters(self) -> dict[str, object]:
        """Arguments of `data.selection.Filters`."""
        return {
            "agreeing": self.only_agreeing,
            "min_words": self.min_rationale_words,
            "max_words": self.max_rationale_words,
            "max_similarity": self.max_rationale_similarity,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodName(Options):
    """The method"""

    method: str | None = option(
        None, "default the method in the task's name, else step_by_step", choices=METHODS, identity=True
    )

    def verify(self) -> None:
        """The task's name may say the method too; both must agree."""
        named = method_in(self.mixture_or_task_name)
        if self.method and named in METHODS and named != self.method:
            raise UserError(
                f"MIXTURE_OR_TASK_NAME {self.mixture_or_task_name!r} names the method {named}, METHOD is "
                f"{self.method}: take the recipe of the same method"
            )

    def identity(self) -> dict[str, object]:
        """See `Options.identity`; the same whether the task's name says the method or not."""
        return super().identity() | {"method": self.method_name, "mixture_or_task_name": self.mixture}

    @property
    def method_name(self) -> str:
        """The method: as given, or as the task's name says it, or step_by_step."""
        named = method_in(self.mixture_or_task_name)
        return self.method or (named if named in METHODS else "standard" if named else "step_by_step")

    @property
    def mixture(self) -> str | None:
        """TASK_METHOD; None for own data, whose task has no name to look up."""
        name = self.mixture_or_task_name
        return name if name is None or method_in(name) else f"{name}_{self.method_name}"


def method_in(name: str | None) -> str | None:
    """The method that a name such as `svamp_step_by_step` ends with; `label` and `rationale` are SeqIO's."""
    if name is None:
        return None
    name = name.removesuffix("_teacher") if name.endswith(("_label_teacher", "_step_by_step_teacher")) else name
    return next((method for method in (*METHODS, "label", "rationale") if name.endswith(f"_{method}")), None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareConfig(MethodName, SelectionOptions, TokenOptions, DataOptions):
    """Tokenize and pack a task ahead of training"""

    vocabulary: str = option(
        "train:2000", "bytes, a SentencePiece file or URL, a run's folder, or train:SIZE to make one"
    )
    task_feature_lengths: dict[str, int] = option(
        {"inputs": 512, "targets": 256},
        "tokens of a packed row",
        flags=("lengths",),
        keys=LENGTHS,
        minimum=2,
        metavar="INPUTS,TARGETS",
    )
    split: str = option("train", "train, validation or test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowConfig(DataOptions):
    """Which examples to show"""

    split: str = option("train", "train, validation or test")
    count: int = option(3, "examples", minimum=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatisticsConfig(DataOptions):
    """What to count"""

    split: str | None = option(None, "default all")
    vocabulary: str = option("train:2000", "bytes, a SentencePiece file or URL, a run's folder, or train:SIZE")
    task_feature_lengths: dict[str, int] | None = option(
        None, "tokens of a packed row", flags=("lengths",), keys=LENGTHS, minimum=2, metavar="INPUTS,TARGETS"
    )
    json: bool = option(False, "print JSON")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportConfig(Options):
    """A benchmark's rows in the paper's layout"""

    name: str = option(REQUIRED, "anli1, anli2, anli3, cqa, esnli or svamp", positional=True, metavar="NAME")
    origin: str = option(REQUIRED, "hf, tfds; of svamp its SVAMP.json", flags=("from",), metavar="ORIGIN")
    data_dir: str = option(REQUIRED, "folder of the data sets")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsOptions(Columns, Folders):
    """The rows"""

    source: str = option(
        REQUIRED, "a task such as svamp, or a JSONL, CSV or Parquet file", positional=True, metavar="SOURCE"
    )
    split: str = option("train", "of a task")
