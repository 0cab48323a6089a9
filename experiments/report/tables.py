"""A table or figure of a report: on the page, and as files beside it."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence

from distill_jax import files
from distill_jax.evaluation import html

_LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "≤": r"$\leq$",
}

_MOST = 200  # values of a figure on the page


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    cells = [[_one_line(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _one_line(cell: object) -> str:
    return " ".join(str(cell).split())


def latex(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table of LaTeX with the rules of `booktabs`."""

    def escaped(cell: object) -> str:
        return "".join(_LATEX.get(char, char) for char in _one_line(cell))

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(escaped, cells)) + r" \\"

    head = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule"]
    body = [line(columns), r"\midrule", *map(line, rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*head, *body, rf"\caption{{{escaped(caption)}}}", r"\end{table}"]) + "\n"


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Comma-separated values, with a line of names."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; `name` is that of its files, `folded` hides it on the page until it is asked for."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False

    def html(self) -> str:
        """Its part of the page."""
        text = html.table(self.columns, self.rows, self.caption) + _links(
            "tables", self.name, ("md", "tex", "csv")
        )
        return html.details(f"{self.caption} ({len(self.rows)} rows)", text) if self.folded else text

    def write(self, folder: pathlib.Path) -> None:
        """Writes `tables/NAME` as Markdown, LaTeX and CSV."""
        place = folder / "tables" / self.name
        files.write_text(place.with_suffix(".md"), markdown(self.columns, self.rows))
        files.write_text(place.with_suffix(".tex"), latex(self.columns, self.rows, self.caption))
        files.write_text(place.with_suffix(".csv"), as_csv(self.columns, self.rows))


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
      name: of its files, of small letters and dashes.
      title: what it shows, in a line.
      caption: how to read it.
      svg: the file's text.
      png: the file's bytes.
      inline: the SVG as it stands on the page.
      columns, rows: its values.
    """

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    inline: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def html(self) -> str:
        """Its part of the page, with its values as a table for who does not see it."""
        cells = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row] for row in self.rows]
        values = html.table(self.columns, cells[:_MOST], f"Values of the figure: {self.title}")
        if len(cells) > _MOST:
            values += html.paragraph(f"The first {_MOST} of {len(cells):,} values; the CSV file has all.")
        return (
            f"<figure>{self.inline}<figcaption>{html.escape(f'{self.title}. {self.caption}')}</figcaption>"
            + html.details(f"Values of the figure: {self.title}", values)
            + f"{_links('figures', self.name, ('png', 'svg', 'csv'))}</figure>"
        )

    def write(self, folder: pathlib.Path) -> None:
        """Writes `figures/NAME` as PNG, SVG and CSV."""
        place = folder / "figures" / self.name
        with files.atomic_write(place.with_suffix(".png"), binary=True) as file:
            file.write(self.png)
        files.write_text(place.with_suffix(".svg"), self.svg)
        files.write_text(place.with_suffix(".csv"), as_csv(self.columns, self.rows))


def _links(folder: str, name: str, endings: Sequence[str]) -> str:
    kinds = {"md": "Markdown", "tex": "LaTeX", "csv": "CSV", "png": "PNG", "svg": "SVG"}
    links = (html.link(f"{folder}/{name}.{ending}", f"{kinds[ending]} of {name}") for ending in endings)
    return f'<p class="files">{" · ".join(links)}</p>'
