"""The page at `/`: a form that asks `/predict`. Its policy forbids any request to elsewhere."""

import base64
import functools
import hashlib
import importlib.resources
import json

from distill_jax.decoding.student import Student
from distill_jax.evaluation import html

_ABOUT = "Ask this student by hand. Ctrl+Enter sends."


@functools.cache
def _part(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def page(name: str, student: Student, *, needs_key: bool) -> tuple[str, str]:
    """The page of the student `name`, and the content security policy to send with it."""
    views = student.views
    reads_rationale = any(view.reads_rationale for view in views)
    answers = any(view.answer for view in views)
    told = {
        "label": answers or any(view.name == "label" for view in views),
        "rationale": answers or any(view.name == "rationale" for view in views),
        "classes": bool(student.task.classes),
    }
    script = _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = f"script-src 'sha256-{digest}'; connect-src 'self'; base-uri 'none'; form-action 'none'"
    policy = f"{html.POLICY}; {own}"
    choices = "Choices, one a line" + (" (default: the classes of the task)" if told["classes"] else "")
    fields = [
        _field("Text", '<textarea name="text" rows="4" required autofocus></textarea>'),
        _field("Rationale of the teacher", '<textarea name="rationale" rows="2"></textarea>') * reads_rationale,
        _field(choices, f'<textarea name="choices" rows="{1 if told["classes"] else 2}"></textarea>'),
        _field("Key", '<input name="key" type="password" autocomplete="off">') * needs_key,
        '<button type="submit">Ask</button>',
    ]
    parts = [
        f"<style>{_part('page.css')}</style>",
        f'<form data-student="{html.escape(json.dumps(told))}">{"".join(fields)}</form>',
        '<p id="status" class="faint" role="status"></p><div id="answer" aria-live="polite"></div>',
        f"<script>{script}</script>",
    ]
    return html.page(name, parts, [html.paragraph(_ABOUT)], policy=policy), policy


def _field(name: str, control: str) -> str:
    return f"<label><span>{html.escape(name)}</span>{control}</label>"
