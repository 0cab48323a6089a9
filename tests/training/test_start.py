"""What a run starts from: a public checkpoint with its vocabulary, a folder, nothing; without a network."""

import json
import pathlib

import pytest
from hub_standin import serve

from distill_jax.checkpoints.other_formats.huggingface import write_huggingface
from distill_jax.checkpoints.other_formats.parameters import from_tree
from distill_jax.checkpoints.other_formats.tokenizer_files import write_tokenizer
from distill_jax.cli import main as cli
from distill_jax.config import Sources, TrainConfig, build
from distill_jax.data.vocabularies import load_vocabulary, train_vocabulary
from distill_jax.models.families import make_config, make_network
from distill_jax.training import train_state

constants = pytest.importorskip("huggingface_hub.constants")
COLUMNS = ["--input", "question", "--label", "answer", "--rationale", "why"]
SHAPE = {"vocab_size": 512, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}
SHAPE |= {"num_encoder_layers": 1, "num_decoder_layers": 1, "mlp_activations": ["gelu", "linear"]}
NETWORK = [f"--{name.replace('_', '-')}={value}" for name, value in SHAPE.items() if name != "mlp_activations"]
SHORT = ["--steps=1", "--batch-size=2", "--lengths=48,48", "--eval-period=0", "--schedule=constant"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder to work in, a file of own data, caches of its own; nothing answers at the hub's address."""
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    rows = "".join(f"{n} and {n}?,{2 * n},because {n} twice is {2 * n}\n" for n in range(20))
    pathlib.Path("my.csv").write_text("question,answer,why\n" + rows)


@pytest.fixture(scope="module")
def vocabulary():
    return train_vocabulary([f"{n} and {n}? because {n} twice is {2 * n}" for n in range(40)], 300)


@pytest.fixture
def folder(vocabulary, tmp_path):
    """A student with random weights in the public layout."""
    config = make_config(SHAPE)
    write_huggingface(tmp_path / "folder", from_tree(train_state.init_params(make_network(config), 0)), config)
    write_tokenizer(tmp_path / "folder", vocabulary, config.vocab_size)
    return tmp_path / "folder"


def train(*flags):
    return cli.main(["train", "--data", "my.csv", *COLUMNS, *map(str, flags)])


def one_line(capsys):
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_without_a_network_one_line_says_what_to_do_and_nothing_is_left(capsys, tmp_path):
    assert train() == 1
    line = one_line(capsys)
    assert line.startswith(
        "error: --init (INITIAL_CHECKPOINT_PATH) hf://google/t5-v1_1-small: cannot be fetched from http://"
    )
    assert line.endswith("give a local folder of it with --init FOLDER, or train from scratch with --init none")
    assert [path.name for path in pathlib.Path().iterdir()] == ["my.csv"]
    assert not (tmp_path / "cache").exists() and not (tmp_path / "hub").exists()
    assert cli.main(["prepare", "--data", "my.csv", *COLUMNS]) == 1
    assert "the vocabulary of hf://google/t5-v1_1-small: cannot be fetched" in (line := one_line(capsys))
    assert "--vocabulary FOLDER or train:2000" in line and not (tmp_path / "cache").exists()


def test_a_wrong_file_or_column_is_told_of_first(capsys):
    assert train("--label", "anser") == 1
    assert (
        "my.csv: no row has 'anser' for label: there are question, answer, why; did you mean answer?"
        in one_line(capsys)
    )
    assert cli.main(["train", "--data", "your.csv", *COLUMNS]) == 1
    assert "your.csv: no such file" in one_line(capsys)
    assert cli.main(["prepare", "--data", "my.csv", "--input", "questions"]) == 1
    assert "'questions'" in one_line(capsys)


def test_a_local_folder_brings_its_vocabulary_and_prepare_finds_the_same_records(
    folder, vocabulary, capsys, tmp_path
):
    assert cli.main(["prepare", "--data", "my.csv", *COLUMNS, "--init", str(folder), "--lengths=48,48"]) == 0
    assert train("--init", folder, *NETWORK, *SHORT) == 0
    assert "FROM SCRATCH" not in capsys.readouterr().err
    run = pathlib.Path("runs/my_step_by_step")
    assert load_vocabulary(run).fingerprint == vocabulary.fingerprint
    assert len(list((tmp_path / "cache/prepared").iterdir())) == 1
    saved = json.loads((run / "config.json").read_text())
    assert saved["learning_rate"] == 5e-5 and saved["initial_checkpoint_path"] == str(folder)


def test_a_run_resumes_without_what_it_started_from(folder, capsys, tmp_path, monkeypatch):
    with serve(folder, tmp_path / "hub", monkeypatch) as handler:
        assert train("--init", "hf://org/student", *NETWORK, *SHORT) == 0
        assert "model.safetensors" in handler.asked
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    assert train("--init", "hf://org/student", *NETWORK, *SHORT, "--steps=2") == 0
    assert "step 2/2" in capsys.readouterr().err
    assert train("--init", "hf://org/student", *NETWORK, *SHORT, "--model-dir=other") == 1
    assert "cannot be fetched" in one_line(capsys) and not pathlib.Path("other").exists()


def test_a_gated_checkpoint_says_to_accept_the_licence(folder, capsys, tmp_path, monkeypatch):
    with serve(folder, tmp_path / "hub", monkeypatch) as handler:
        handler.status, handler.error_code = 403, "GatedRepo"
        assert train("--init", "hf://org/student", *NETWORK, *SHORT) == 1
    assert "accept the model's licence at http://127.0.0.1" in one_line(capsys)


def test_none_trains_from_scratch_and_says_so(capsys, caplog):
    assert train("--init", "none", *NETWORK, "--vocab-size=2176", *SHORT) == 0
    (line,) = [record.getMessage() for record in caplog.records if "FROM SCRATCH" in record.getMessage()]
    assert "learning rate 0.001, vocabulary train:2000" in line
    saved = json.loads(pathlib.Path("runs/my_step_by_step/config.json").read_text())
    assert saved["learning_rate"] == 1e-3 and saved["initial_checkpoint_path"] == "none"


def start_of(*gin, model=None, **values):
    sources = Sources(model=model, gin_bindings=[tuple(each.split("=")) for each in gin])
    return build(TrainConfig, sources, mixture_or_task_name="svamp", **values)


@pytest.mark.parametrize(
    ("config", "start", "rate"),
    [
        (lambda: start_of(), "hf://google/t5-v1_1-small", 5e-5),
        (lambda: start_of(model="base"), "hf://google/t5-v1_1-base", 5e-5),
        (lambda: start_of(model="flan_t5/base", scan_layers=True), "hf://google/flan-t5-base", 5e-5),
        (lambda: start_of(model="llama3_2/1b", dropout_rate=0.1), "hf://meta-llama/Llama-3.2-1B", 5e-5),
        (lambda: start_of("DTYPE=bfloat16", model="base"), "hf://google/t5-v1_1-base", 5e-5),
        (lambda: start_of(model="base", optimizer="adafactor"), "hf://google/t5-v1_1-base", 1e-3),
        (lambda: start_of(model="base", learning_rate=3e-4), "hf://google/t5-v1_1-base", 3e-4),
        (lambda: start_of(model="base", initial_checkpoint_path="a"), "a", 5e-5),
        (lambda: start_of("INITIAL_CHECKPOINT_PATH=a", model="base"), "a", 5e-5),
        # A network that no public checkpoint has.
        (lambda: start_of(model="tiny"), None, 1e-3),
        (lambda: start_of(emb_dim=64), None, 1e-3),
        (lambda: start_of("EMB_DIM=1024"), None, 5e-4),
        (lambda: start_of("NUM_ENCODER_LAYERS=6", model="base"), None, 1e-3 * 512 / 768),
        (lambda: start_of(model="qwen3/0.6b", rope_base=1e4), None, 5e-4),
        (lambda: start_of(model="base", initial_checkpoint_path="none"), None, 1e-3 * 512 / 768),
        (lambda: start_of(model="base", initial_checkpoint_path="none", optimizer="adafactor"), None, 1e-2),
        (lambda: TrainConfig(mixture_or_task_name="svamp", emb_dim=64), None, 1e-3),
    ],
)
def test_the_start_and_its_learning_rate(config, start, rate):
    made = config()
    assert (made.start, made.peak_learning_rate) == (start, pytest.approx(rate))
    again = TrainConfig.from_json(json.loads(json.dumps(made.to_json() | made.identity())))
    assert (again.start, again.peak_learning_rate) == (start, pytest.approx(rate))
    assert again.identity() == made.identity()
