"""Compiled programs in the cache folder: by kind of machine, and only where nothing else is set."""

import jax
import jax.numpy as jnp
import pytest

from distill_jax.training import programs

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R)
flags\t\t: fpu sse2 avx2
cpu MHz\t\t: 2000.1
"""


@pytest.fixture
def compiled_in(tmp_path, monkeypatch):
    """(text of /proc/cpuinfo) -> the folder that programs are kept in then; JAX is put back to what it was."""
    names = ("compilation_cache_dir", "compilation_cache_max_size", "persistent_cache_min_compile_time_secs")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "CPU_INFO", tmp_path / "cpuinfo")

    def keep(text=None, already=None):
        if text is not None:
            (tmp_path / "cpuinfo").write_text(text)
        jax.config.update("jax_compilation_cache_dir", already)
        programs.keep_compiled()
        return jax.config.jax_compilation_cache_dir

    yield keep
    for name, value in before.items():
        jax.config.update(name, value)


def test_each_kind_of_machine_has_a_folder_of_its_own(compiled_in, monkeypatch):
    own = compiled_in(INTEL)
    assert compiled_in(INTEL.replace("2000.1", "1200.7")) == own  # the clock is no kind
    assert compiled_in(INTEL.replace("avx2", "avx2 avx512f")) != own
    monkeypatch.setattr(programs.os, "sched_getaffinity", lambda _: range(64))
    assert compiled_in(INTEL) != own


def test_a_machine_that_cannot_be_told_and_a_folder_of_the_users_are_left_alone(compiled_in, tmp_path):
    assert compiled_in() is None  # not Linux
    assert compiled_in("nothing is said") is None
    assert compiled_in(INTEL, already=str(tmp_path)) == str(tmp_path)


def test_a_cache_that_cannot_be_written_is_told(compiled_in, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    assert compiled_in(INTEL) is None
    [line] = caplog.messages
    assert "each process compiles its programs anew" in line


def test_a_program_is_compiled_beside_what_the_caller_does(monkeypatch):
    lowered = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((2,), jnp.int32))
    assert programs.compiling(lowered).result()(jnp.arange(2)).tolist() == [1, 2]
    monkeypatch.setattr(type(lowered), "compile", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # told to whoever waits for the program
        programs.compiling(lowered).result()
