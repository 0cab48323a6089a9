"""YAML as data: whatever a file holds, it is read, or refused in one line, soon."""

import pytest

from distill_jax.config import yaml_files
from distill_jax.errors import UserError

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))


def read(folder, text):
    (folder / "a.yaml").write_text(text)
    return yaml_files.read(folder / "a.yaml")


def test_plain_values_and_aliases_are_read(tmp_path):
    text = "a: &a [1, 2.5, yes, null]\nb: *a\nc: {<<: {d: 1}, d: 2}\n"
    assert read(tmp_path, text) == {"a": [1, 2.5, True, None], "b": [1, 2.5, True, None], "c": {"d": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 500, "nested too deeply"),
        ("a: " + "{a: " * 500, "nested too deeply"),
        ("a: &a [*a]\n", "nested too deeply"),
        (BOMB, r"a.yaml, more than 100,000 values: its aliases repeat too much"),
        ("a: 1\nb: 2\na: 3\n", "a.yaml, line 3: the key 'a' comes twice"),
        ("? [1]\n: 2\n", "unhashable"),
        ("a: 2001-99-99\n", "month must be in"),
        (f"a: {'9' * 5000}\n", "not YAML"),
        ("a: !!int x\n", "not YAML"),
        ("a: !!bool x\n", "not YAML"),
        ("a: !!python/object/apply:os.system ['touch mark']\n", "could not determine a constructor"),
        ("a: \x00", "not YAML"),
    ],
)
def test_others_are_one_line_with_the_file(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "a.yaml")) and "\n" not in str(error.value)
    assert not (tmp_path / "mark").exists()


def test_many_keys_take_no_long_time(tmp_path):
    text = "".join(f"k{n}: 1\n" for n in range(3_000))
    assert len(read(tmp_path, text)) == 3_000
