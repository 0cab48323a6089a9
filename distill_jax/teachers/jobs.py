"""From rows to requests: the prompt of a row, the samples that the store lacks, in groups."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from distill_jax.data.schema import Example
from distill_jax.teachers.demonstrations import Select
from distill_jax.teachers.messages import Prompt, Request, Sampling
from distill_jax.teachers.prompts import Template
from distill_jax.teachers.store import Key, Store


@dataclasses.dataclass(frozen=True)
class AnnotationPlan:
    """What is asked of each row, and of whom."""

    template: Template
    select: Select  # a row's demonstrations
    model: str  # the teacher's name: part of the key
    protocol: str  # how the client lays prompts out
    sampling: Sampling
    samples: int = 1  # per row
    samples_per_request: int = 1  # where the endpoint supports it; the prompt is then paid for once
    classes: Sequence[str] | None = None
    structured: bool = False  # ask for JSON
    parser: str | None = None  # of the answers; None for the template's

    @property
    def reads_by(self) -> str:
        """Name of the answers' parser."""
        return self.parser or self.template.answers_by(self.structured)

    def prompt(self, example: Example) -> Prompt:
        """The prompt of a row."""
        return self.template.render(example, self.select(example), self.classes, self.structured)

    def key(self, example: Example, prompt: Prompt) -> Key:
        """The key of a row's completions."""
        return Key(example.id, prompt.hash(self.protocol), self.model, self.sampling)


@dataclasses.dataclass(frozen=True)
class Job:
    """One request that has to be made."""

    key: Key
    request: Request

    @property
    def name(self) -> str:
        """The same for the same samples of the same row and setting; `custom_id` in a batch."""
        samples = self.request.samples
        return f"{self.key.row.hex()}-{self.key.setting.hex()}-{samples[0]}-{len(samples)}"


def missing_jobs(rows: Iterable[Example], plan: AnnotationPlan, store: Store) -> Iterator[Job | None]:
    """The requests for the samples that the store lacks; None for a row that lacks none."""
    for example in rows:
        prompt = plan.prompt(example)
        key = plan.key(example, prompt)
        missing = store.missing(key, plan.samples)
        if not missing:
            yield None
        for group in grouped(missing, plan.samples_per_request):
            yield Job(key, Request(example, prompt, plan.sampling, group))


def grouped(numbers: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Runs of consecutive numbers, at most `size` long: sample k always has the same seed."""
    run: list[int] = []
    for number in numbers:
        if run and (len(run) == size or number != run[-1] + 1):
            yield tuple(run)
            run = []
        run.append(number)
    if run:
        yield tuple(run)
