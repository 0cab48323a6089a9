"""A self-contained HTML page: it loads nothing, follows the reader's light or dark theme, and fits a phone."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence

# Colors by theme and name. A test computes their contrasts: 4.5 for text, 3 for lines (WCAG 2.2, 1.4.3 and
# 1.4.11).
THEMES = {
    "light": {
        "page": "#ffffff",
        "panel": "#f3f5f7",
        "text": "#1c2128",
        "faint": "#57606a",
        "rule": "#d8dee4",
        "link": "#0a58ca",
    },
    "dark": {
        "page": "#0d1117",
        "panel": "#1b222b",
        "text": "#e6edf3",
        "faint": "#9ea7b3",
        "rule": "#3a434d",
        "link": "#79b8ff",
    },
}


def variables(themes: Mapping[str, Mapping[str, str]]) -> str:
    """The style that names colors, given by theme and name: `var(--name)` is the one of the reader's theme."""
    light, dark = (
        " ".join(f"--{name}: {color};" for name, color in themes[each].items()) for each in ("light", "dark")
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


STYLE = f"""
{variables(THEMES)}:root {{ color-scheme: light dark; }}
* {{ box-sizing: border-box; }}
body {{ font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 0; }}
main, header {{ max-width: 58rem; margin: 0 auto; padding: 0 1rem; overflow-wrap: break-word; }}
header {{ padding-top: 2rem; }} main {{ padding-bottom: 4rem; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; }} h2 {{ font-size: 1.3rem; margin-top: 2.8rem; }}
h3 {{ font-size: 1.05rem; margin-top: 1.8rem; }}
a {{ color: var(--link); }} .files, figcaption, caption, .faint {{ color: var(--faint); }}
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {{ outline: 3px solid var(--link); }}
.skip {{ position: absolute; left: -100rem; background: var(--page); padding: .5rem 1rem; z-index: 1; }}
.skip:focus {{ left: .5rem; top: .5rem; }}
nav ul {{ columns: 14rem; padding-left: 1.2rem; }}
.scroll {{ overflow-x: auto; margin: 1rem 0; max-width: 100%; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
caption {{ text-align: left; padding-bottom: .4rem; max-width: calc(100vw - 2rem); }}
th, td {{ text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--rule); vertical-align: top; }}
th {{ font-weight: 600; }} thead th {{ color: var(--faint); }}
.number {{ text-align: right; white-space: nowrap; }}
figure {{ margin: 1.5rem 0; }} figure svg {{ display: block; width: 100%; max-width: 36rem; height: auto; }}
figure svg * {{ stroke-linejoin: round; }} .files {{ font-size: .85rem; }}
code, pre {{ background: var(--panel); border-radius: 4px; padding: .1rem .3rem; }}
pre {{ padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }}
details {{ margin: .6rem 0; }} summary {{ cursor: pointer; }}
dl.row {{ background: var(--panel); border-radius: 4px; padding: .8rem 1rem; }}
dt {{ color: var(--faint); font-size: .85rem; }} dd {{ margin: 0 0 .5rem; white-space: pre-wrap; }}
"""
# A page that is opened from a disk or a server loads nothing, whatever stands in its texts.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_NUMBER = re.compile(r"[-+<]? ?[\d.,]+(?:e[-+]?\d+)?[%KMB]?|-|")


def escape(text: object) -> str:
    """A value as text of HTML."""
    return html.escape(str(text))


def slug(text: str) -> str:
    """A text as an id: `Test rows, side by side` is `test-rows-side-by-side`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def heading(text: str, level: int = 2) -> str:
    """A heading; the id of one of level 2 is its `slug`."""
    name = f' id="{slug(text)}"' if level == 2 else ""
    return f"<h{level}{name}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    """A list of plain texts."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def code(text: str) -> str:
    """A block of code."""
    return f"<pre>{escape(text)}</pre>"


def link(target: str, text: str) -> str:
    """A link; `target` is a place on the page (`#results`) or a file beside it."""
    return f'<a href="{escape(target)}">{escape(text)}</a>'


def details(summary: str, *parts: str) -> str:
    """What is shown on demand; `parts` are HTML."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def terms(pairs: Iterable[tuple[str, object]]) -> str:
    """A list of names and their values, both plain text."""
    return f'<dl class="row">{"".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in pairs)}</dl>'


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table; cells are shown as plain text, the first of a row heads it. One too wide scrolls by itself."""
    numeric = [bool(rows) and all(_NUMBER.fullmatch(str(row[i])) for row in rows) for i in range(len(columns))]
    marks = [' class="number"' if each else "" for each in numeric]
    head = "".join(
        f'<th scope="col"{mark}>{escape(column)}</th>' if column else f"<td{mark}></td>"
        for column, mark in zip(columns, marks, strict=True)
    )
    body = []
    for row in rows:
        cells = [f"<td{mark}>{escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True)]
        cells[0] = f'<th scope="row"{marks[0]}>{escape(row[0])}</th>'
        body.append(f"<tr>{''.join(cells)}</tr>")
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption or "table")}">'
        f"<table>{named}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def page(
    title: str,
    parts: Sequence[str],
    lead: Sequence[str] = (),
    contents: Sequence[str] = (),
    policy: str = POLICY,
    style: str = "",
) -> str:
    """The whole page.

    Args:
      title: its heading.
      parts: HTML.
      lead: HTML between the heading and the parts.
      contents: texts of the headings of level 2 to link to.
      policy: its content security policy.
      style: more rules of CSS.
    """
    items = "".join(f"<li>{link(f'#{slug(text)}', text)}</li>" for text in contents)
    navigation = f'<nav aria-label="Contents"><ul>{items}</ul></nav>' if items else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>"
        '<a class="skip" href="#main">Skip to the content</a>\n'
        f"<header><h1>{escape(title)}</h1>\n{''.join(lead)}{navigation}</header>\n"
        f'<main id="main" tabindex="-1">\n{chr(10).join(parts)}\n</main></body></html>\n'
    )
