"""Options of the data: which rows, read how, which of them, and how they are tokenized and packed."""

from typing import Any

from distill_jax import files
from distill_jax.config.checking import VerifyOption
from distill_jax.config.options import REQUIRED, JsonOption, Options, fixed, option
from distill_jax.config.start import SCRATCH_VOCABULARY, VOCABULARY, StartOptions
from distill_jax.config.trust import TrustOption
from distill_jax.errors import UserError

FIELDS = ("id", "input", "label", "teacher_label", "rationale", "label_probs", "choices")
METHODS = ("standard", "task_distillation", "step_by_step", "step_by_step_shared", "single_task")
METHODS += ("rationale_input", "soft_labels", "logit_distillation")
HUBS = ("tfds", "hf", "seqio")
SPLITS = "train, validation or test"


def lengths(default: dict[str, int] | None, help: str = "tokens of a packed row", **details: Any) -> Any:
    """The option TASK_FEATURE_LENGTHS: tokens of the inputs and the targets of a row."""
    names = {"flags": ("lengths",), "keys": ("inputs", "targets"), "metavar": "INPUTS,TARGETS"}
    return option(default, help, minimum=2, **names, **details)


def hub_of(data: str) -> tuple[str, str] | None:
    """(hub, name) of `tfds:NAME`, `hf:NAME` or `seqio:NAME`; None for a file."""
    hub, colon, name = data.partition(":")
    return (hub, name) if colon and hub in HUBS else None


def column_flag(field: str) -> str:
    """The flag that names the column of a field in every command that reads rows; some have a shorter one."""
    return f"--{field.replace('_', '-')}-column"


def _column(field: str) -> Any:
    flag = column_flag(field).removeprefix("--")
    return fixed(None, f"column of {field}", flags=(flag.removesuffix("-column"), flag), metavar="COLUMN")


class Columns(Options):
    """Columns of a file of your own"""

    column_id: str | None = _column("id")
    column_input: str | None = _column("input")
    column_label: str | None = _column("label")
    column_teacher_label: str | None = _column("teacher_label")
    column_rationale: str | None = _column("rationale")
    column_label_probs: str | None = _column("label_probs")
    column_choices: str | None = _column("choices")
    classes: tuple[str, ...] | None = fixed(
        None, "the labels there are, with commas between them, or as a JSON list"
    )
    classes_file: str | None = fixed(None, "file of the labels, one a line, or a JSON list", path=True)

    @property
    def columns(self) -> dict[str, str]:
        """Column by field of `data.schema.Example`, of those that are given."""
        return {field: column for field in FIELDS if (column := getattr(self, f"column_{field}"))}


class Folders(TrustOption):
    """Where tasks and their data are"""

    data_dir: str | None = option(None, "folder of the data sets; default $DISTILL_JAX_DATA_DIR", path=True)
    module: str | None = fixed(
        None,
        "Python module that registers the task",
        macro="MIXTURE_OR_TASK_MODULE",
        guarded="whose import runs its code",
    )


class OwnData(Columns):
    """Your own data, instead of a task"""

    data: str | None = fixed(None, "JSONL, CSV or Parquet file, tfds:NAME, hf:NAME or seqio:TASK", path=True)
    validation_data: str | None = fixed(None, "another, or a split of it; default a tenth of --data", path=True)
    test_data: str | None = fixed(None, "likewise; default the validation rows", path=True)
    rationales: str | None = fixed(None, "file with the teacher's answers, joined by id", path=True)

    def require_files(self) -> None:
        """Raises a UserError for a file that is not there, before anything is imported or fetched for it."""
        names = ["data", "validation_data", "test_data"] if self.data and not hub_of(self.data) else []
        for name in [*names, "rationales", "classes_file"]:
            if path := getattr(self, name):
                files.require_file(path, self.named(name))


class DataOptions(OwnData, Folders):
    """The task"""

    mixture_or_task_name: str | None = fixed(
        None, "a task: svamp, or with a method svamp_step_by_step; or --data", positional=True, metavar="TASK"
    )
    teacher: str | None = fixed(
        None, "folder of the teacher's completions in a set of the paper's layout: llm; none for rows alone"
    )

    def verify(self) -> None:
        """A task and own data exclude each other."""
        if self.data and self.mixture_or_task_name:
            raise UserError(f"give a task ({self.mixture_or_task_name}) or --data {self.data}, not both")


class TokenOptions(Options):
    """Tokens and rows"""

    task_feature_lengths: dict[str, int] = lengths({"inputs": 512, "targets": 320}, identity=True)
    pack: bool = fixed(True, "several examples to a row, kept apart by segment ids")


class ShareOptions(Options):
    """How much of the data"""

    data_fraction: float = fixed(1.0, "share of examples; nested, the same for each method", above=0, maximum=1)
    num_examples: int | None = fixed(None, "or their number", minimum=1)
    seed: int = fixed(
        0,
        "of parameters, data order, data share and dropout",
        macro="RANDOM_SEED",
        minimum=0,
        maximum=(1 << 32) - 1,
    )


class SelectionOptions(ShareOptions):
    """Which examples, and which labels"""

    label_source: str = fixed("reference", "whose labels to train on", choices=("reference", "teacher"))
    rationale_rate: float | None = fixed(None, "rationales per label; default the task's, which is 1", above=0)
    only_agreeing: bool = fixed(False, "only rows whose teacher label is right")
    min_rationale_words: int = fixed(0, "drop rows with a shorter rationale", minimum=0)
    max_rationale_words: int | None = fixed(None, "drop rows with a longer rationale", minimum=0)
    max_rationale_similarity: float | None = fixed(
        None, "drop rows nearer to an earlier rationale, by the Jaccard index of word triples", above=0, below=1
    )

    @property
    def filters(self) -> dict[str, object]:
        """Arguments of `data.selection.Filters`."""
        words = {"min_words": self.min_rationale_words, "max_words": self.max_rationale_words}
        return {"agreeing": self.only_agreeing, **words, "max_similarity": self.max_rationale_similarity}


class RecordOptions(SelectionOptions, TokenOptions, StartOptions, DataOptions):
    """What `prepare` makes records of"""


class MethodName(Options):
    """The method"""

    method: str | None = fixed(None, "default that in the task's name, else step_by_step", choices=METHODS)

    def verify(self) -> None:
        """The task's name may say the method too; both must agree."""
        named = method_in(self.mixture_or_task_name)
        if self.method and named in METHODS and named != self.method:
            raise UserError(
                f"{DataOptions.named('mixture_or_task_name')} {self.mixture_or_task_name!r} names the method "
                f"{named}, {MethodName.named('method')} is {self.method}: take the recipe of the same method"
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


class PrepareConfig(VerifyOption, MethodName, RecordOptions):
    """Tokenize and pack a task ahead of training"""

    task_feature_lengths: dict[str, int] = lengths({"inputs": 512, "targets": 256})
    split: str = option("train", SPLITS)


class ShowConfig(DataOptions):
    """Which examples to show"""

    split: str = option("train", SPLITS)
    count: int = option(3, "examples", minimum=1)


class StatisticsConfig(JsonOption, DataOptions):
    """What to count"""

    split: str | None = option(None, "default all")
    vocabulary: str = option(SCRATCH_VOCABULARY, VOCABULARY)
    task_feature_lengths: dict[str, int] | None = lengths(None)


class ImportConfig(Options):
    """A benchmark's rows in the paper's layout; or with chat a file of chats, as rows to train on"""

    name: str = option(REQUIRED, "anli1, anli2, anli3, cqa, esnli or svamp; or chat", positional=True)
    file: str | None = option(None, "of chats, as JSON lines", positional=True, path=True)
    origin: str | None = option(
        None, "hf, tfds; of svamp its SVAMP.json", flags=("from",), metavar="ORIGIN", path=True
    )
    data_dir: str | None = option(None, "folder of the data sets")
    output: str | None = option(None, "of chat: JSONL for `train --data`", metavar="FILE")
    answer: str = option(
        "{label}", "of chat: the form of an answer, such as '{rationale} So the answer is {label}.'; or json"
    )
    requests: str | None = option(None, "of chat: the requests of a batch's results", metavar="FILE", path=True)
    chat_format: str = option("{user}", "of chat: an input, of {system}, {history} and {user}", metavar="FORM")


class RowsOptions(Columns, Folders):
    """The rows"""

    source: str = option(REQUIRED, "a task such as svamp, or a JSONL, CSV or Parquet file", positional=True)
    split: str = option("train", "of a task")
