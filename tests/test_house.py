"""Rules of the house that no linter checks, over the sources of the package."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = [ROOT / "distill_jax", ROOT / "tasks", ROOT / "experiments"]
SOURCES = sorted(path for folder in PACKAGE for path in folder.rglob("*.py"))
OWN = ("distill_jax", "benchmarks")
# The only file that may call the C library: the allocator's settings, for the command line.
ALLOCATOR = "distill_jax/cli/host_memory.py"
MAY_PRINT = ("distill_jax/cli/", "experiments/")
LINES = 350


def name(path):
    return path.relative_to(ROOT).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name)


def imports(path):
    """(module, imported names) of every import of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, [alias.name for alias in node.names]


@each(SOURCES)
def test_only_public_parts_of_other_libraries(path):
    for module, names in imports(path):
        if not module.startswith((*OWN, "__future__")):
            private = [part for part in (*module.split("."), *names) if part.startswith("_")]
            assert not private, f"{module}: {private}"


@each(SOURCES)
def test_no_parameter_travels_in_the_environment(path):
    text = path.read_text()
    assert not re.search(r"os\.environ\[[^\]]*\]\s*=[^=]|os\.environ\.(update|setdefault|pop)|putenv", text)


@each([path for path in SOURCES if name(path) != ALLOCATOR])
def test_the_c_library_is_called_for_the_allocator_alone(path):
    assert "ctypes" not in {module.partition(".")[0] for module, _ in imports(path)}


@each([path for path in SOURCES if not name(path).startswith(MAY_PRINT)])
def test_only_the_command_line_prints(path):
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    assert not names & {"print", "Console"}


@each(SOURCES)
def test_a_file_is_one_thing(path):
    assert len(path.read_text().splitlines()) <= LINES


@each([path for path in SOURCES if path.name == "__init__.py"])
def test_a_folder_says_what_enters_and_what_leaves_it(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert len(re.findall(r"[.:](?:\s|$)", docstring)) >= 2, "expected a paragraph"
