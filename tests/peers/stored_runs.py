"""Folders of runs as training and evaluation leave them, without either: for the tests of the report."""

import dataclasses
import json

from distill_jax.checkpoints import run_dir
from distill_jax.models.config import T5Config
from distill_jax.models.families import describe

CLASSES = ("entailment", "neutral", "contradiction")
ROWS = 24


def shape(width):
    """A network of so many dimensions, as run.json has it."""
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    config = T5Config(vocab_size=64, emb_dim=width, num_heads=2, head_dim=4, mlp_dim=2 * width, **layers)
    return describe(config)


def predictions(right, rows=ROWS, shift=0):
    """Rows of `distill-jax eval`, the first `right` of them right; the teacher says neutral to every fourth."""
    lines = []
    for number in range(rows):
        label = CLASSES[(number + shift) % 3]
        is_right, teacher = number < right, number % 4 > 0
        lines.append(
            {
                "id": f"test-{number}",
                "input": f"Premise: {'a word ' * (number % 4)}. Is <b>it</b> so?",
                "label": label,
                "teacher_label": label if teacher else "neutral",
                "teacher_correct": teacher or label == "neutral",
                "rationale": f"Because of {number}.",
                "predicted_label": label if is_right else CLASSES[(number + shift + 1) % 3],
                "predicted_rationale": f"As I see, {number}.",
                "label_confidence": 0.9 if is_right else 0.4,
                "correct": is_right,
            }
        )
    return lines


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_run(folder, method, share, seed, lines, width=8, name="test-400", **options):
    """A run's folder with an evaluation; its path as a text."""
    folder.mkdir(parents=True)
    lengths = {"inputs": 16, "targets": 8}
    run = run_dir.Run(f"esnli_{method}", "reference", None, lengths, "v", "k", shape(width), 8, seed, {})
    (folder / "run.json").write_text(json.dumps(dataclasses.asdict(run)))
    config = {
        "method": method,
        "data_fraction": share,
        "num_examples": None,
        "learning_rate": 1e-3,
        "alpha": 0.5,
    }
    (folder / "config.json").write_text(json.dumps(config | options))
    (folder / "data.json").write_text(json.dumps({"examples": int(1000 * share)}))
    curve = [{"step": n, "train/loss": 1 / n, "train/device_seconds": 90.0} for n in (100, 200, 300, 400)]
    curve.append({"step": 400, "validation/label_accuracy": 0.5})
    write_lines(folder / "metrics.jsonl", curve)
    if lines:
        write_lines(folder / "eval" / f"{name}.jsonl", lines)
    return str(folder)


def write_grid(folder, widths=(8,), shares=(0.25, 1.0), seeds=2):
    """Two methods at each width, share and seed; the paths. Step-by-step has 4 more right than standard."""
    paths = []
    for method, more in (("standard", 0), ("step_by_step", 4)):
        for width in widths:
            for share in shares:
                for seed in range(seeds):
                    right = 8 + more + seed + (4 if share == 1.0 else 0) + (2 if width > 8 else 0)
                    place = folder / f"{method}-{width}-{share}-{seed}"
                    paths.append(write_run(place, method, share, seed, predictions(right), width))
    return paths
