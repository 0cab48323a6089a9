"""Every option, once: a field of a frozen dataclass.

What enters: texts of flags, gin files of macros, a run's `config.json`, or keyword arguments in Python. What
leaves: a checked configuration object, which the rest of the package reads by attribute, and the command line
parsers and the page docs/options.md, which follow from the same fields. Does without JAX.
"""

from distill_jax.config.annotation import AnnotateConfig, StoreExportConfig, StoreImportConfig
from distill_jax.config.checking import CheckConfig
from distill_jax.config.completion import CompletionConfig
from distill_jax.config.data import (
    DataOptions,
    ImportConfig,
    PrepareConfig,
    RowsOptions,
    ShowConfig,
    StatisticsConfig,
)
from distill_jax.config.options import REQUIRED, Options, option
from distill_jax.config.planning import DemoConfig, ModelsConfig, PlanConfig
from distill_jax.config.pretraining import PretrainConfig, TextOptions
from distill_jax.config.report import ReportConfig
from distill_jax.config.sources import Sources, build, from_macros
from distill_jax.config.student import (
    CompareConfig,
    ConvertConfig,
    Decoding,
    EvalConfig,
    ExportConfig,
    InferConfig,
    SelectConfig,
    ServeConfig,
)
from distill_jax.config.sweep import SweepConfig
from distill_jax.config.training import (
    MethodOptions,
    ModelOptions,
    OptimizerOptions,
    TrainConfig,
    TrainerOptions,
)

COMMANDS: dict[str, type[Options]] = {
    "demo": DemoConfig,
    "sweep": SweepConfig,
    "data show": ShowConfig,
    "data stats": StatisticsConfig,
    "data import": ImportConfig,
    "prepare": PrepareConfig,
    "annotate": AnnotateConfig,
    "store import": StoreImportConfig,
    "store export": StoreExportConfig,
    "select": SelectConfig,
    "train": TrainConfig,
    "pretrain": PretrainConfig,
    "eval": EvalConfig,
    "check": CheckConfig,
    "compare": CompareConfig,
    "report": ReportConfig,
    "infer": InferConfig,
    "serve": ServeConfig,
    "plan": PlanConfig,
    "models": ModelsConfig,
    "convert": ConvertConfig,
    "export": ExportConfig,
    "completion": CompletionConfig,
}

__all__ = ["COMMANDS", "REQUIRED", "Options", "Sources", "build", "from_macros", "option"]
__all__ += ["DataOptions", "Decoding", "MethodOptions", "ModelOptions", "OptimizerOptions", "RowsOptions"]
__all__ += ["TextOptions", "TrainerOptions"]
__all__ += [config.__name__ for config in COMMANDS.values()]
