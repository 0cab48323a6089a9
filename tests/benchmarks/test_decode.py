"""The benchmark of decoding on a tiny student: all contestants decode the same rows."""

import pytest

from benchmarks import decode, turns


def test_contestants_write_the_same_and_are_told_apart(make_run, tmp_path, monkeypatch):
    pytest.importorskip("ctranslate2", reason="the benchmark's peer")
    monkeypatch.setenv("DISTILL_JAX_CACHE", str(tmp_path))
    monkeypatch.setitem(decode.NEEDED, "transformers", ("no_such_package",))
    settings = decode.Settings(
        model_dir=make_run("step_by_step"), views=("label",), rows=4, repeats=2, batch_size=8, max_length=12
    )
    found = decode.run(settings, turns.Here)["label"]
    assert found["transformers"] is None and found["rows"] == 4
    assert found["rows_that_differ"]["ctranslate2_float32"] == 0
    for name in ("ours", "ctranslate2_float32", "ctranslate2_int8"):
        assert len(found[name]) == 2 and found["flops"][name] > 0
    assert found["settings"]["ctranslate2_int8"]["batch_size"] in (16, 32)
    assert found["output_tokens"]["longest"] <= 12
