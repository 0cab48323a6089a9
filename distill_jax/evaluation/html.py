"""A self-contained HTML page: headings, paragraphs, tables and inline SVG."""

import html
from collections.abc import Sequence

STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1c2128; max-width: 56rem; margin: 3rem auto;
  padding: 0 1.25rem; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: left; padding: .4rem .7rem; border-bottom: 1px solid #d8dee4; vertical-align: top; }
th { color: #57606a; font-weight: 600; } svg { width: 100%; height: auto; }
code, pre { background: #f3f5f7; border-radius: 4px; padding: .1rem .3rem; } pre { padding: .8rem; }
"""


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def code(text: str) -> str:
    """A block of code."""
    return f"<pre>{html.escape(text)}</pre>"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; cells are shown as plain text."""
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def page(title: str, parts: Sequence[str]) -> str:
    """The whole page; `parts` are HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>" + "\n".join(parts) + "</body></html>\n"
    )
