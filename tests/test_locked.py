"""The locked requirements are those of setup.py and constraints.txt, each with its hashes."""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
PIN = re.compile(r"^([\w.-]+)==([^ ;\\]+)(.*?)\n((?: +--hash=.*\n)+)", re.MULTILINE)


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_each_pin_is_that_of_the_constraints_and_has_hashes():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constraints = {plain(name): version for name, _, version in (line.partition("==") for line in lines)}
    text = (ROOT / "requirements-locked.txt").read_text()
    pins = {plain(name): version for name, version, _, hashes in PIN.findall(text) if "sha256:" in hashes}
    assert len(pins) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) > 100
    assert {name: version for name, version in pins.items() if constraints.get(name) != version} == {}


def test_what_setup_asks_for_is_locked():
    locked = {plain(name) for name, *_ in PIN.findall((ROOT / "requirements-locked.txt").read_text())}
    setup = (ROOT / "setup.py").read_text()
    needed = re.search(r"install_requires=\[(.*?)\n    \]", setup, re.DOTALL)[1]
    names = {plain(name) for name in re.findall(r'^ +"([\w.-]+)', needed, re.MULTILINE)}
    assert names and names <= locked


def test_the_release_is_tried_on_every_supported_python():
    supported = [f"3.{minor}" for minor in range(11, 14)]
    assert 'python_requires=">=3.11,<3.14"' in (ROOT / "setup.py").read_text()
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert workflow.count(f"python: {supported}".replace("'", '"')) == 2
    [environment] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["environments"]
    assert "python_version < '3.14'" in environment
