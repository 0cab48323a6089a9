"""Options of the teacher: who is asked, with which prompt and limits, and what is done with the answers."""

from distill_jax.config.data import RowsOptions
from distill_jax.config.options import REQUIRED, Options, option
from distill_jax.config.student import EngineOptions


class TeacherOptions(Options):
    """The teacher"""

    client: str = option(
        "openai", "who answers", choices=("openai", "anthropic", "gemini", "transformers", "checkpoint")
    )
    model: str = option(REQUIRED, "as the endpoint calls it; a folder for a local one", path=True)
    base_url: str | None = option(
        None,
        "of an OpenAI-compatible server, such as http://localhost:8000/v1",
        guarded="where prompts and your key are sent",
    )
    protocol: str | None = option(None, "default chat", choices=("chat", "completions"))
    api_key_env: str | None = option(
        None, "environment variable that holds the key", metavar="NAME", guarded="which is sent as the key"
    )
    extra_body: str | None = option(None, "fields to add to every request", metavar="JSON")
    omit: tuple[str, ...] | None = option(None, "fields that are not sent, such as stop,temperature")
    max_tokens_field: str | None = option(
        None, "the field for --max-tokens; default the one that the endpoint takes", metavar="NAME"
    )
    system: bool = option(True, "send the instruction as a system message; else before the first question")


class PromptOptions(Options):
    """The prompt"""

    prompt: str | None = option(None, "YAML file or shipped name; default the task's")
    demonstrations: str | None = option(None, "JSONL to choose demonstrations from", metavar="FILE")
    select: str = option("fixed", "how demonstrations are chosen", choices=("fixed", "random", "nearest"))
    shots: int | None = option(None, "demonstrations shown; default all", minimum=0)
    structured: bool = option(False, "ask for JSON by a schema")
    dry_run: bool = option(False, "print a prompt and the cost; ask nobody")
    row: str | None = option(None, "the row whose prompt --dry-run prints", metavar="ID")


class TeacherSampling(Options):
    """The teacher's sampling"""

    samples: int = option(1, "completions of each row, for self-consistency", minimum=1)
    samples_per_request: int = option(1, "where the server takes n", minimum=1)
    temperature: float | str | None = option(
        None, "default 0, or 0.7 for several samples; none: not sent", minimum=0, choices=("none",)
    )
    top_p: float | None = option(None, "default not sent", above=0, maximum=1)
    max_tokens: int = option(256, "of a completion", minimum=1)
    seed: int | None = option(None, "of the samples and of random demonstrations", macro="RANDOM_SEED")
    logprobs: int = option(0, "likeliest tokens to ask for, for class probabilities", minimum=0, metavar="K")


class LimitOptions(Options):
    """Limits"""

    concurrency: int = option(32, "the most requests at a time", minimum=1)
    requests_per_minute: float | None = option(None, "rate limit", above=0)
    tokens_per_minute: float | None = option(None, "rate limit", above=0)
    timeout: float = option(60.0, "seconds of one request", above=0)
    attempts: int = option(8, "of one request", minimum=1)
    first_wait: float = option(0.5, "seconds before the second attempt", above=0)
    max_wait: float = option(600.0, "seconds; a longer Retry-After ends the run", minimum=0)
    budget_requests: float | None = option(None, "of the store, earlier runs included", above=0)
    budget_tokens: float | None = option(None, "the same", above=0)
    budget_usd: float | None = option(None, "the same", above=0)
    price: str | None = option(None, "dollars per million tokens", metavar="PROMPT,COMPLETION")
    prices: str | None = option(None, "YAML of model: [prompt, completion]", metavar="FILE")


class BatchOptions(Options):
    """The batch API"""

    batch: bool = option(False, "files of requests, answered within a day")
    batch_size: int = option(10_000, "requests in a file", minimum=1)
    batch_share: float = option(0.5, "of the price", above=0)
    poll: float = option(60.0, "seconds between looks", above=0)


class OutputOptions(Options):
    """What comes out"""

    output: str | None = option(None, "JSONL for `train --data`")
    report: str | None = option(None, "HTML page of the teacher's quality; a .json is put beside it")
    check: tuple[str, ...] = option(
        (),
        "what a rationale has to pass for its sample to count; may be repeated",
        choices=("arithmetic", "label-named", "label-not-named"),
        repeat=True,
    )
    rationale_from: str = option(
        "answer", "or what a reasoning model thought before it", choices=("answer", "thinking")
    )


class AnnotateConfig(
    OutputOptions,
    BatchOptions,
    LimitOptions,
    TeacherSampling,
    PromptOptions,
    EngineOptions,
    TeacherOptions,
    RowsOptions,
):
    """The run"""

    ids: str | None = option(None, "only these rows: ids, one a line, or JSONL with id", metavar="FILE")
    limit: int | None = option(None, "only the first so many rows", minimum=1)
    store: str | None = option(None, "JSONL of all completions, added to", metavar="FILE")


class StoreImportConfig(RowsOptions):
    """The store"""

    store: str = option(REQUIRED, "JSONL of all completions, added to", metavar="FILE")
    model: str = option("palm-540b", "what to call the teacher")
    parser: str | None = option(None, "how the completions read; default the task's")


class StoreExportConfig(OutputOptions, RowsOptions):
    """The store"""

    output: str = option(REQUIRED, "JSONL for `train --data`, or a folder")
    store: str = option(REQUIRED, "JSONL of all completions", metavar="FILE")
    layout: str = option("jsonl", "of what is written", choices=("jsonl", "reference"))
    chunk_size: int | None = option(None, "completions in a file of the reference layout", minimum=1)
    model: str | None = option(None, "only completions of this one")
    template: str | None = option(None, "only completions of this prompt, NAME or NAME@HASH")
    prompt: str | None = option(None, "YAML file or shipped name; default the task's")
