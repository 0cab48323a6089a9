"""The parts of the docs that are made from the results of a committed sweep: the table, and what it says.

distill-jax sweep experiments/sweeps/NAME.yaml --output sweeps/NAME
cp sweeps/NAME/results.json experiments/results/NAME.json
python -m distill_jax.experiments.sweep_pages
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

from distill_jax.evaluation.significance import seeds_p
from distill_jax.experiments import results
from distill_jax.experiments.report.cells import p_words
from distill_jax.experiments.report.tables import markdown
from distill_jax.experiments.sweep import table

STARTS = "pretrained", "random"  # the models of pretrained_start.yaml
TEXT = """{table}
{how}. {finished} of {cells} cells are finished; training took {minutes:.0f} processor minutes, without the
values of the search that were not chosen. {said}
"""


def starts(records: table.Records) -> str:
    """How far the pretrained start is from the random one by each method, over the seeds that both have."""
    sentences = []
    for method in dict.fromkeys(record["method"] for record in records):
        own = [
            {record["seed"]: record for record in records if _is_of(record, method, start)} for start in STARTS
        ]
        seeds = sorted(own[0].keys() & own[1].keys())
        if not seeds:
            continue
        pretrained, random = ([table.accuracy(runs[seed]) for seed in seeds] for runs in own)
        correct = [[row == "1" for row in runs[seeds[0]]["correct"]] for runs in own]
        gain, p = (
            100 * (sum(pretrained) - sum(random)) / len(seeds),
            p_words(seeds_p(random, pretrained, correct)),
        )
        sign = "" if p.startswith("<") else "= "
        sentences.append(
            f"By {method} the pretrained start is {gain:+.1f} points from the random one (p {sign}{p})."
        )
    return " ".join(sentences)


def _is_of(record: dict[str, Any], method: str, model: str) -> bool:
    return (record["method"], record["model"]) == (method, model)


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a page: of which results, between which marks, and what is said of the cells."""

    name: str
    page: pathlib.Path
    say: Callable[[table.Records], str]

    @property
    def results(self) -> pathlib.Path:
        """The file of the figures."""
        return results.FOLDER / f"{self.name}.json"

    @property
    def marks(self) -> tuple[str, str]:
        """What stands before and behind it in the page."""
        return f"<!-- {self.name} -->\n", f"<!-- /{self.name} -->"

    def text(self) -> str:
        """The table and the sentences below it."""
        figures = json.loads(self.results.read_text(encoding="utf-8"))
        records = [cell for cell in figures["cells"] if "test" in cell]
        planned = len({cell["seed"] for cell in figures["cells"]})
        how = table.how(records)
        return TEXT.format(
            table=markdown(*table.table(records, figures["floors"], planned)),
            how=how[:1].upper() + how[1:],
            finished=len(records),
            cells=len(figures["cells"]),
            minutes=sum(record["processor_seconds"] for record in records) / 60,
            said=self.say(records),
        )


PARTS = (
    Part("pretrained_start", pathlib.Path("docs/pretrain.md"), starts),
    Part("entailment", pathlib.Path("docs/sweep.md"), lambda records: ""),
)


def main() -> None:
    """Writes those whose results are there."""
    for part in PARTS:
        if part.results.exists():
            results.replace_part(part.page, part.marks, part.text())
            print(part.page)


if __name__ == "__main__":
    main()
