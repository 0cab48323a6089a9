"""The parts of the docs that are made from the results of a committed sweep: the table, and what it says.

distill-jax sweep experiments/sweeps/NAME.yaml --output sweeps/NAME
cp sweeps/NAME/results.json experiments/results/NAME.json
python -m distill_jax.experiments.sweep_pages
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from distill_jax.experiments import results
from distill_jax.experiments.report import inputs
from distill_jax.experiments.report.cells import Cells, compared, p_is
from distill_jax.experiments.report.tables import markdown
from distill_jax.experiments.sweep import table

STARTS = "pretrained", "random"  # the models of pretrained_start.yaml
TEXT = """{table}
{how}. {finished}; training took {minutes:.0f} processor minutes, without the
values of the search that were not chosen. {said}
"""


def described(figures: Mapping[str, Any]) -> dict[str, str]:
    """Of a sweep's results: its table, how it is made, and how many cells are finished."""
    records = finished(figures)
    planned = len({cell["seed"] for cell in figures["cells"]})
    how = table.how(records)
    return {
        "table": markdown(*table.table(records, figures["floors"], planned)),
        "how": how[:1].upper() + how[1:],
        "finished": f"{len(records)} of {len(figures['cells'])} cells are finished",
    }


def finished(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records of the cells that have a result."""
    return [cell for cell in figures["cells"] if "test" in cell]


def cells_of(path: pathlib.Path) -> Cells:
    """The same as the report has them."""
    return Cells(inputs.read([str(path)], "test", None).runs)


def starts(cells: Cells) -> str:
    """How far the pretrained start is from the random one by each method, over the seeds that both have."""
    sentences = []
    for method in cells.arms:
        pretrained, random = (cells.of(method, start, cells.sizes[0]) for start in STARTS)
        gain, p, _ = compared(random, pretrained)
        sentences.append(
            f"By {method} the pretrained start is {100 * gain:+.1f} points from the random one ({p_is(p)})."
        )
    return " ".join(sentences)


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a page: of which results, between which marks, and what is said of the cells."""

    name: str
    page: pathlib.Path
    say: Callable[[Cells], str]

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
        minutes = sum(record["processor_seconds"] for record in finished(figures)) / 60
        return TEXT.format(**described(figures), minutes=minutes, said=self.say(cells_of(self.results)))


PARTS = (
    Part("pretrained_start", pathlib.Path("docs/pretrain.md"), starts),
    Part("entailment", pathlib.Path("docs/sweep.md"), lambda cells: ""),
)


def main() -> None:
    """Writes those whose results are there."""
    for part in PARTS:
        if part.results.exists():
            results.replace_part(part.page, part.marks, part.text())
            print(part.page)


if __name__ == "__main__":
    main()
