"""Rows that the tests of runs share."""

import json

import pytest


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file of 30 rows that every method can be trained on."""
    path = tmp_path_factory.mktemp("data") / "legs.jsonl"
    rows = []
    for n in range(30):
        answer = "four" if n % 3 else "two"
        row = {"question": f"legs of {n}?", "answer": answer, "why": f"It is a {n}.", "teacher_label": "four"}
        rows.append(row | {"label_probs": [0.75, 0.25], "choices": ["four", "two"]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
