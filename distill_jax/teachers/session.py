"""An annotation session: asks a teacher about rows, keeps its completions, and writes rows to train on.

The command `annotate`, the demo and the benchmarks all work with `Session`. It prints nothing: progress reaches
a callback, results are returned. `config` has the options of `distill-jax annotate` as attributes.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Iterator

from distill_jax.config import AnnotateConfig
from distill_jax.data.schema import Example
from distill_jax.errors import UserError
from distill_jax.teachers import settings
from distill_jax.teachers.annotator import Annotator, Outcome
from distill_jax.teachers.export import Delivery, deliver
from distill_jax.teachers.figures import Lines
from distill_jax.teachers.jobs import AnnotationPlan
from distill_jax.teachers.limits import TokenEstimate
from distill_jax.teachers.messages import Client, Prompt
from distill_jax.teachers.prices import Price, source_of
from distill_jax.teachers.rows import chosen, read_ids, rows_of
from distill_jax.teachers.secrets import redact_logs
from distill_jax.teachers.store import Store


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a run would ask, and what it would cost at most."""

    example: Example  # the row that is shown
    prompt: Prompt  # of that row
    plan: AnnotationPlan
    rows: int  # number of rows
    prompt_tokens: int  # of all rows, estimated
    answer_tokens: int  # of all rows, at most
    price: Price | None  # None where it is not known
    price_from: str  # where that comes from, and of which day


class Session:
    """Rows, a teacher and a store; as a context manager it holds the store open.

        with Session(config) as session:
            outcome = session.ask()
            delivery = session.deliver()

    `ids` of rows and a `client` replace those that `config` names.

    Raises:
      UserError: for rows or ids that cannot be read.
    """

    def __init__(
        self, config: AnnotateConfig, *, ids: Collection[str] | None = None, client: Client | None = None
    ):
        self.config = config
        self.rows = rows_of(config)
        self._ids = read_ids(config.ids) if ids is None and config.ids else ids
        self._given_client = client

    def __enter__(self) -> "Session":
        """Makes the client and opens the store.

        Raises:
          UserError: without a store, and see the functions of `settings`.
        """
        if not self.config.store:
            raise UserError("--store FILE is needed: it keeps the completions")
        self.client = self._given_client or settings.client_of(self.config)
        redact_logs()  # now that the SDK has set up its own
        self.plan = settings.plan_of(self.config, self.rows, self.client.protocol, self.client.parser)
        self.price = settings.price_of(self.config)
        self.store = Store(self.config.store)
        return self

    def __exit__(self, *_) -> None:
        self.store.close()

    def examples(self) -> Iterator[Example]:
        """The rows to annotate, from the first.

        Raises:
          UserError: at the end, when an id is of no row.
        """
        return chosen(self.rows.examples, self._ids, self.config.limit)

    def preview(self) -> Preview:
        """Renders a row's prompt and counts tokens; needs no store, no key and no request.

        Raises:
          UserError: when there is no such row.
        """
        config = self.config
        plan = settings.plan_of(config, self.rows, settings.protocol_of(config), None)
        estimate, rows, tokens, shown = TokenEstimate(), 0, 0, None
        for example in self.examples():
            prompt = plan.prompt(example)
            rows += 1
            tokens += estimate.prompt(prompt.size()) * -(-plan.samples // plan.samples_per_request)
            if shown is None and config.row in (None, example.id):
                shown = example, prompt
        if shown is None:
            raise UserError(f"no row {config.row!r}" if config.row else f"{config.source}: no rows")
        answers = rows * plan.samples * plan.sampling.max_tokens
        source = source_of(config.price, config.prices)
        return Preview(*shown, plan, rows, tokens, answers, settings.price_of(config), source)

    def ask(self, progress: Callable[[Outcome], None] | None = None) -> Outcome:
        """Asks for every sample that the store lacks; `progress` gets the outcome so far after every answer.

        Raises:
          UserError: for a row that cannot be read, and when the store cannot be written.
        """
        config = self.config
        run = (self.client, self.plan, self.store, config, self.price, progress)
        if not config.batch:
            return asyncio.run(Annotator(*run).run(self.examples()))
        from distill_jax.teachers.batch_api import BatchAnnotator  # imports the SDK

        if config.client != "openai":
            raise UserError("--batch needs an endpoint with OpenAI's /v1/batches: --client openai")
        batches = BatchAnnotator(*run, size=config.batch_size, poll=config.poll)
        return asyncio.run(batches.run(self.examples))

    def completions(self, example: Example) -> Lines:
        """The store's completions of a row, of this session's prompt, model and sampling."""
        return self.store.read(example.id, self.plan.key(example, self.plan.prompt(example)).setting)

    def deliver(self) -> Delivery:
        """Judges the completions; writes `config.output` and `config.report`, where they are given.

        Raises:
          UserError: when no row has a label, or a file cannot be written.
        """
        described = {
            "rows": f"{self.config.source}, split {self.config.split}",
            "model": self.plan.model,
            "prompt": self.plan.template.version,
            "endpoint": self.client.endpoint,
            "samples": self.plan.samples,
            "sampling": self.plan.sampling.stored(),
        }
        template, examples = self.plan.template, self.examples()
        return deliver(self.config, self.rows, examples, self.completions, template, described)
