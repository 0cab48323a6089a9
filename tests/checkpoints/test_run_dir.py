import dataclasses

import pytest

from distill_jax.checkpoints import run_dir
from distill_jax.errors import UserError

RUN = run_dir.Run(
    mixture_or_task_name="svamp_step_by_step",
    label_source="reference",
    module=None,
    task_feature_lengths={"inputs": 64, "targets": 32},
    vocabulary="abc",
    data="def",
    model={"emb_dim": 8},
    batch_size=4,
    seed=0,
    view_weights={"label": 0.5, "rationale": 0.5},
)


def test_a_folder_is_claimed_once_and_again_by_the_same_run(tmp_path):
    run_dir.claim(str(tmp_path / "run"), RUN)
    run_dir.claim(str(tmp_path / "run"), RUN)
    assert run_dir.load(str(tmp_path / "run")) == RUN


def test_another_run_is_refused_with_the_fields_that_differ(tmp_path):
    run_dir.claim(str(tmp_path), RUN)
    with pytest.raises(UserError, match="batch_size was 4, now 8") as error:
        run_dir.claim(str(tmp_path), dataclasses.replace(RUN, batch_size=8))
    assert "vocabulary" not in str(error.value)
    assert run_dir.load(str(tmp_path)) == RUN


def test_checkpoints_of_an_unknown_run_are_refused(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no run.json"):
        run_dir.claim(str(tmp_path), RUN)


def test_a_folder_without_a_run_and_a_damaged_one(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        run_dir.load(str(tmp_path))
    (tmp_path / "run.json").write_text('{"mixture')
    with pytest.raises(UserError, match="run.json: not a run description"):
        run_dir.load(str(tmp_path))


def test_a_url_is_refused_before_a_folder_of_its_name_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="MODEL_DIR gs://bucket/run: expected a folder: mount the bucket"):
        run_dir.claim("gs://bucket/run", RUN)
    assert not list(tmp_path.iterdir())
