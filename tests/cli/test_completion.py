"""What shells complete: by bash itself; zsh and fish where they are installed."""

import shutil
import subprocess

import pytest

from distill_jax.cli import main as cli
from distill_jax.config import COMMANDS
from distill_jax.config.flags import flags_of

ASK = """
COMP_WORDS=({words} "$0"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_shtab_distill_jax distill-jax "$0"; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(capsys, tmp_path):
    def make(shell: str) -> str:
        assert cli.main(["completion", shell]) == 0
        path = tmp_path / f"completion.{shell}"
        path.write_text(capsys.readouterr().out)
        return str(path)

    return make


def test_bash(script, tmp_path):
    source = script("bash")
    (tmp_path / "rows.jsonl").touch()

    def completed(words: str, begun: str) -> list[str]:
        ask = f". {source}\n{ASK.format(words=words)}"
        out = subprocess.run(["bash", "-c", ask, begun], capture_output=True, text=True, cwd=tmp_path)
        assert out.returncode == 0 and not out.stderr
        return out.stdout.split()

    assert completed("distill-jax", "tra") == ["train"]
    assert completed("distill-jax data", "s") == ["show", "stats"]
    assert completed("distill-jax train", "--label-s") == ["--label-source"]
    assert completed("distill-jax train --label-source", "") == ["reference", "teacher"]
    assert "byt5/small" in completed("distill-jax train --model", "byt5/")
    assert completed("distill-jax train", "sva") == ["svamp", "svamp_asdiv"]
    assert completed("distill-jax annotate", "ro") == ["rows.jsonl"]
    assert completed("distill-jax infer --input", "ro") == ["rows.jsonl"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_have_every_flag(script, shell):
    path = script(shell)
    with open(path) as file:
        text = file.read()
    for command, cls in COMMANDS.items():
        assert command.split()[-1] in text
        for flag in (flag for field in cls.options().values() for flag in flags_of(field)):
            assert (flag if shell == "zsh" else flag.removeprefix("--")) in text
    if shutil.which(shell):
        assert subprocess.run([shell, "-n", path]).returncode == 0
