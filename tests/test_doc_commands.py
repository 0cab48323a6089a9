"""The commands of README, docs, notebook and help run, page by page, where each finds what was made.

`STAND_INS`, `FLAGS` and `FEW` are all that differs from the pages: own files, sizes, a teacher's address. What
does not run here is in `ELSEWHERE`, with the reason; every other command is run.
"""

import concurrent.futures
import contextlib
import csv
import gzip
import io
import itertools
import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from distill_jax.cli import main as cli
from distill_jax.cli.common import REGISTERED
from distill_jax.config import TrainConfig
from distill_jax.config.flags import text_of
from distill_jax.config.options import flags_of

sys.path.append(str(pathlib.Path(__file__).parent / "teachers"))
from loopback_teacher import Loopback

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*/*.md"))]
PAGES += sorted((ROOT / "examples").glob("*.ipynb"))
CLASSES = {"billing": "bill", "shipping": "parcel", "other": "song"}  # class -> the word that tells it
SHAPE = {"emb_dim": 16, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "head_dim": 8}
SHAPE |= {"mlp_dim": 32, "vocab_size": 512}  # more than any vocabulary here has: one program for all
TINY = SHAPE | {"initial_checkpoint_path": "none", "vocabulary": "bytes", "train_steps": 2, "batch_size": 4}
TINY |= {"epochs": None, "batch_examples": None, "learning_rate": 1e-3, "warmup_steps": 0, "schedule": "linear"}
TINY |= {"task_feature_lengths": {"inputs": 64, "targets": 32}, "eval_examples": 2}
FEW = ["--batch-size=4"]  # of what decodes: programs for few sizes
FLAGS = {name: f"{flags_of(TrainConfig.options()[name])[0]}={text_of(value)}" for name, value in TINY.items()}

STAND_INS = (  # pattern -> what stands in for it, in commands and snippets
    (r"(?<![\w.])/tmp/", "tmp/"),
    (r"\.\./shared/datasets|(?<=--data-dir )(…|data\b)", "datasets"),
    (r"^python (?=examples/)", f"python {ROOT}/"),
    (r"http://localhost:11434/v1", "{teacher}"),
    (r"(?<=localhost:)8000|(?<=--port )8000", "{port}"),
    (r"^(distill-jax serve RUN)$", r"\1 --port {port}"),
    (r"cqa_step_by_step", "svamp_step_by_step"),
    (r"--gin\.INITIAL_CHECKPOINT_PATH=\S+", ""),
    (r"[AB]/eval/test-400\.jsonl", "RUN/eval/test-2.jsonl"),
    (r"(?<=--step )best", "2"),  # two steps without a validation have no best
    (r"--count 500", "--count 6"),
    (r"train:\d+", "train:300"),  # a vocabulary that the texts have words for
    (
        r"--ids ids.txt …",
        "--ids ids.txt --classes billing,shipping,other --model m --base-url {teacher} --store s",
    ),
    (r"(?<!--model-dir )\bruns/svamp\b|\bSRC\b", "RUN"),
    (r"\bDST --to \{.*\}", "out/again --to distill-jax"),
    (r"TrainConfig\((?=\w)", "TrainConfig(**TINY, "),
    (r'load\("RUN"\)', 'load("RUN", batch_size=4)'),
)
ELSEWHERE = {  # pattern of commands that do not run here -> why
    r"^((\.venv/bin/)?pip3?|python3|git|export|cd|cp|source|\.|gcloud) ": "installs, or prepares a machine",
    r"^distill-jax completion ": "into a shell's own folder: tests/cli/test_completion.py",
    r"^make ": "the whole suite, the demo or the benchmarks: what `make` runs is itself tested",
    r"^python -m (benchmarks|distill_jax\.experiments)\.": "minutes to hours: tests/benchmarks and experiments",
    r"^distill-jax demo": "minutes: tests/experiments",
    r"^distill-jax report ": "several runs: tests/experiments/test_report.py",
    r"^distill-jax plan ": "20 s of compilation: tests/planning",
    r"^python -m (t5x|seqio)\.|distill_jax\.t5x": "T5X, SeqIO and TensorFlow: tests/t5x",
    r"(gs|hf)://": "a bucket, or the hub: tests/checkpoints",
    r"--push ": "the hub: tests/export/test_hub.py",
    r"--mesh ": "a mesh of many devices: tests/training/test_processes.py",
    r"--microbatches ": "gradient accumulation: tests/training/test_step.py",
    r"--lora-rank ": "adapters: tests/training/test_lora.py",
    r"--model smollm2/": "downloads a model: tests/training/test_decoder_only.py",
    r"sweeps/(esnli_smollm2|pretrained_start)": "many runs: tests/experiments/test_sweep.py reads the files",
    r"--(to|engine) ctranslate2": "an extra: tests/export/test_peers.py, tests/decoding/test_ctranslate.py",
}


def steps(page: pathlib.Path) -> list[tuple[str, str]]:
    """(kind, text) of the commands (`sh`) and snippets (`python`) in a page's code blocks, in order."""
    found = []
    for kind, block in blocks(page):
        if kind == "sh":
            lines = re.sub(r"(^|\s+)# .*", "", block.replace("\\\n", " "), flags=re.MULTILINE).splitlines()
            found += [("sh", line.strip()) for line in lines if line.strip(" '")]
        else:
            found.append(("python", block))
    return found


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    """(`sh`, `py` or `python`, text) of a page's code blocks; in a notebook's cells commands begin with !."""
    if page.suffix == ".md":
        return re.findall(r"^```(sh|py|python)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    cells = ["".join(c["source"]) for c in json.loads(page.read_text())["cells"] if c["cell_type"] == "code"]
    return [
        ("sh", re.sub("^!", "", cell.replace("{ROOT}/", ""), flags=re.MULTILINE))
        if cell.startswith("!")
        else ("python", cell)
        for cell in cells
    ]


def elsewhere(command: str) -> str | None:
    """The pattern of `ELSEWHERE` that a command matches; None where it is run."""
    return next((pattern for pattern in ELSEWHERE if re.search(pattern, command)), None)


def test_each_reason_not_to_run_a_command_is_needed():
    assert {elsewhere(text) for page in PAGES for _, text in steps(page)} - {None} == set(ELSEWHERE)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_inputs(folder: pathlib.Path) -> None:
    """What the pages call the reader's own files, and `datasets` with a small SVAMP."""
    rows = []
    for n in range(24):
        label, word = list(CLASSES.items())[n % 3]
        text = f"The {word} number {n} is missing."
        rows.append({"id": str(n), "input": text, "label": label, "rationale": f"It is about a {word}."})
    write(folder / "rows.jsonl", rows)
    write(
        folder / "more.jsonl",
        [row | {"id": f"more-{row['id']}", "input": f"{row['input']} Why?"} for row in rows],
    )
    (folder / "in.txt").write_text("".join(f"{row['input']}\n" for row in rows[:3]))
    write(folder / "in.jsonl", [{"input": row["input"], "options": list(CLASSES)} for row in rows[:3]])
    for name in ("train", "valid", "test"):
        write(
            folder / f"{name}.jsonl",
            [{"question": r["input"], "queue": "other", "why": "So."} for r in rows[:12]],
        )
    with open(folder / "my.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "why"])
        writer.writerows([row["input"], row["label"], row["rationale"]] for row in rows)
    shutil.copy(folder / "my.csv", folder / "in.csv")
    (folder / "train.csv").write_text("input,label\na,b\nc,d\n")
    texts = {"user": "input", "assistant": "rationale"}
    chats = [[{"role": role, "content": row[field]} for role, field in texts.items()] for row in rows]
    for chat, row in zip(chats, rows, strict=True):
        chat.insert(0, {"role": "system", "content": "Sort the mail."})
        chat[-1]["content"] += f" So the answer is {row['label']}."
    write(folder / "chats.jsonl", [{"messages": chat} for chat in chats])
    lines = "".join(f"{row['input']} {row['rationale']}\n" for row in rows)
    (folder / "notes.txt").write_text(lines)
    (folder / "rationales.txt.gz").write_bytes(gzip.compress(lines.encode()))
    write(folder / "articles.jsonl", [{"text": line} for line in lines.splitlines()])
    write_benchmarks(folder / "datasets")
    sweep = {"task": "entailment", "methods": ["standard"], "models": {"tiny": SHAPE}, "steps": 2}
    sweep |= {"fractions": [0.001], "eval": {"eval_examples": 2, "batch_size": 4}}
    sweep["train"] = {
        name: value for name, value in TINY.items() if name not in {*SHAPE, "train_steps", "epochs"}
    }
    (folder / "experiments/sweeps").mkdir(parents=True)
    (folder / "experiments/sweeps/entailment.yaml").write_text(json.dumps(sweep))


def write_benchmarks(folder: pathlib.Path) -> None:
    """Twelve rows of each of the paper's sets, with completions, in the layout of its release."""
    choices = ["park", "school", "sea", "shop", "street"]
    pair = {"premise": "A child sleeps.", "hypothesis": "Somebody sleeps.", "label": 0}
    sets = {
        "svamp": (
            {"input": "{n} birds and 1 more?", "label": "( {n} + 1 )"},
            "{n} and 1. The answer is ({n} + 1).\n\nQ: next",
        ),
        "cqa": (
            {"question": "Where are {n} boats?", "choices": choices, "answer": "sea"},
            "Boats float. So the answer is (c) sea.\n\nQ: next",
        ),
        "anli1": (pair, "A child is somebody. So the answer is entailment.\n\nPremise: next"),
        "esnli": (pair, "A child is somebody.\nAnswer: entailment\n\nPremise: next"),
    }
    sets["esnli_small"] = sets["esnli"]
    for name, (row, completion) in sets.items():
        for split in ("train", "valid", "test"):
            texts = [json.dumps(row).replace("{n}", str(n)) for n in range(12)]
            write(folder / f"{name}/{name}_{split}.json", map(json.loads, texts))
            completions = [completion.replace("{n}", str(n)) for n in range(12)]
            write(folder / f"{name}/llm/{split}_CoT_0.json", [completions])


def answer(prompt: str, body) -> str:
    """A teacher's: the class whose word comes last in the prompt; of reviews always the same."""
    if "positive" in json.dumps(body):
        return "It is praised. So the answer is positive."
    label, word = max(CLASSES.items(), key=lambda item: prompt.rfind(item[1]))
    return f"It is about a {word}. So the answer is {label}."


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the inputs, and `RUN` trained on the rows and evaluated."""
    folder = tmp_path_factory.mktemp("docs")
    write_inputs(folder)
    command = ["train", "--data", str(folder / "rows.jsonl"), "--classes", ",".join(CLASSES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_JAX_CACHE", str(folder / "cache"))
        assert cli.main([*command, "--model-dir", str(folder / "RUN"), *FLAGS.values()]) == 0
        assert cli.main(["eval", str(folder / "RUN"), *FEW]) == 0
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of it to work in, which is the current folder."""
    shutil.copytree(trained, tmp_path / "docs")
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.syspath_prepend(tmp_path / "docs")
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "docs/cache"))
    monkeypatch.setenv("DISTILL_JAX_DATA_DIR", str(tmp_path / "docs/datasets"))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DISTILL_JAX_TEACHER", "DISTILL_JAX_SERVE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "docs"


class Page:
    """The steps of a page with their stand-ins, run one after the other in this process."""

    def __init__(self, teacher: str, port: int):
        self._names = {"{teacher}": teacher, "{port}": str(port)}
        self._port, self._variables, self._served = port, {}, None

    def stand_in(self, text: str) -> str:
        for pattern, replacement in STAND_INS:
            text = re.sub(pattern, replacement, text)
        for name, value in self._names.items():
            text = text.replace(name, value)
        return text

    def run(self, kind: str, text: str, requests: list[str]) -> None:
        """Runs a step; a server answers the `requests`, which are the steps behind it that call it."""
        if variable := re.fullmatch(r'([A-Z]+)="(.*)"', text):
            self._variables[variable[1]] = variable[2]
        elif kind == "python" and "base_url=" in text:
            self._serve(self._served, [text])
        elif kind == "python":
            self._snippet(text)
        else:
            for name, value in self._variables.items():
                text = text.replace(f"${name}", value)
            text = self.stand_in(text)
            *sources, command = text.split(" | ")
            if script := re.fullmatch(r"python (\S+\.py)", command):
                runpy.run_path(script[1], run_name="__main__")
                return
            argv = arguments(command)
            if argv[0] == "serve":
                self._served = argv
                self._serve(argv, requests)
            else:
                run_command(argv, " | ".join(sources))

    def _snippet(self, text: str) -> None:
        if name := re.match(r"# (\w+\.py)\n", text):
            pathlib.Path(name[1]).write_text(text)
        else:
            exec(self.stand_in(text), {"TINY": TINY, "texts": ["a", "b"], "print": lambda *objects: None})

    def _serve(self, argv: list[str], requests: list[str]) -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            asked = thread.submit(self._ask, requests)
            assert cli.main(argv) == 0  # until the other thread's signal
            asked.result()

    def _ask(self, requests: list[str]) -> None:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                    break
                time.sleep(0.05)
            for text in requests:
                if text.startswith("curl "):
                    _, url, _, header, _, body = shlex.split(self.stand_in(text))
                    headers = dict([header.split(": ")])
                    request = urllib.request.Request(f"http://{url}", body.encode(), headers)
                    assert json.loads(urllib.request.urlopen(request).read())
                else:
                    self._snippet(text)
        finally:
            os.kill(os.getpid(), signal.SIGINT)


def arguments(command: str) -> list[str]:
    """The arguments of `distill-jax` in a command, with the sizes of `FLAGS` and `FEW`."""
    words = shlex.split(re.sub(r'eval "\$\((.*)\)"', r"\1", command))  # of which a shell runs what it prints
    argv = words[1:] if words[0] == "distill-jax" else [words[2].removeprefix("distill_jax."), *words[3:]]
    if argv[0] in ("train", "pretrain"):
        start = dict(zip(argv, argv[1:], strict=False))
        said = ["vocabulary"] if "--vocabulary" in start or start.get("--init", "none") != "none" else []
        said += ["initial_checkpoint_path"] if "--init" in start else []
        return [*argv, *(flag for name, flag in FLAGS.items() if name not in said)]
    few = {name: FEW for name in ("eval", "infer", "select")} | {"serve": [*FEW, "--warm-up=0"]}
    return [argv[0], *few.get(argv[0], ()), *argv[1:]]


def run_command(argv: list[str], source: str) -> None:
    """Runs a command of ours, which must succeed and write what it is told to; `source` is a pipe before it."""
    *argv, mark, target = argv if len(argv) > 2 and argv[-2] in (">", ">>") else (*argv, "", "")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), standard_input(source):
        assert cli.main(argv) == 0, argv
    if target:
        with open(target, "a" if mark == ">>" else "w") as file:
            file.write(out.getvalue())
    for flag, path in zip(argv, argv[1:], strict=False):
        if flag in ("--output", "--report", "--store", "--model-dir"):
            assert pathlib.Path(path).exists(), argv
    assert out.getvalue() or argv[0] in ("train", "pretrain", "annotate") or "--output" in argv


@contextlib.contextmanager
def standard_input(source: str):
    """What a shell command prints, as this process's standard input; nothing without one."""
    if not source:
        yield
        return
    with open("stdin", "w+b") as file:
        file.write(subprocess.run(source, shell=True, check=True, stdout=subprocess.PIPE).stdout)
        file.seek(0)
        kept = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(kept, 0)
            os.close(kept)


@pytest.fixture
def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


RUN = {
    str(page.relative_to(ROOT)): [step for step in steps(page) if elsewhere(step[1]) is None] for page in PAGES
}
cli.parser()  # which reads all commands
RUN["the help"] = [
    ("sh", text.replace("\\\n", " "))
    for _, all_of_it, _ in REGISTERED.values()
    for text in re.split(r"\n(?! )", all_of_it)
    if text
]


@pytest.mark.parametrize("name", [name for name, todo in RUN.items() if todo])
def test_the_commands_of_a_page_run(name, folder, free_port, inside, record_property):
    todo, began = RUN[name], time.monotonic()
    for made in re.findall(r"--output (\S+)", "\n".join(text for _, text in todo)):
        pathlib.Path(made).unlink(missing_ok=True)
    with Loopback(answers=answer) as teacher:
        page = Page(teacher.url, free_port)
        for number, (kind, text) in enumerate(todo):
            if not text.startswith("curl "):
                after = itertools.takewhile(lambda step: step[1].startswith("curl "), todo[number + 1 :])
                page.run(kind, text, [request for _, request in after])
    if name == "docs/quickstart.md":
        record_property(f"the {len(todo)} commands of {name}", f"{time.monotonic() - began:.1f} s")
