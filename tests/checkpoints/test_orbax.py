import concurrent.futures
import dataclasses
import json
import logging
import time

import flax.struct
import jax.numpy as jnp
import numpy as np
import pytest

from distill_jax.checkpoints import orbax
from distill_jax.checkpoints.orbax import Checkpointer, pick_step, restore_params, steps
from distill_jax.errors import UserError


@flax.struct.dataclass
class State:
    step: jnp.ndarray
    params: dict


def state(step):
    return State(jnp.int32(step), {"layer": {"kernel": jnp.full((2, 3), float(step))}})


def run(folder, scores, first=1, metric="accuracy", **options):
    """Saves and scores one checkpoint per score, as a process does."""
    checkpointer = Checkpointer(str(folder), **{"keep": 1, "keep_best": 1} | options)
    for step, score in enumerate(scores, first):
        checkpointer.save(state(step), {"place": step})
        if score is not None:
            checkpointer.record(step, (metric, score))
    checkpointer.close()


def test_the_best_outlives_the_process_that_scored_it(tmp_path):
    run(tmp_path, [0.1, 0.9, 0.2])
    run(tmp_path, [0.3, 0.4], first=4)
    assert steps(str(tmp_path)) == [2, 5]
    assert pick_step(str(tmp_path), "best") == 2


def test_the_best_loss_is_the_lowest(tmp_path):
    run(tmp_path, [-3.0, -1.0, -2.0, -4.0], metric="label_loss", keep_best=2)
    assert steps(str(tmp_path)) == [2, 3, 4]
    assert pick_step(str(tmp_path), "best") == 2


def test_of_equal_scores_the_later_is_better_and_no_number_is_none():
    scores = orbax.Scores("accuracy", {1: 0.5, 2: 0.5, 3: None, 4: 0.1})
    assert scores.best([1, 2, 3, 4], 2) == [1, 2]
    assert scores.best([3]) == []
    assert orbax.Scores.from_json(scores.to_json(), "") == scores


def test_a_validation_without_the_metric_is_told_and_does_not_stop_the_run(tmp_path, caplog):
    checkpointer = Checkpointer(str(tmp_path), keep=2, keep_best=1)
    checkpointer.save(state(1), {})
    with caplog.at_level(logging.WARNING, "distill_jax.checkpoints.orbax"):
        checkpointer.record(1, None)
    assert "step 1 cannot be the best checkpoint: its validation gave None" in caplog.text
    checkpointer.save(state(2), {})
    checkpointer.record(2, ("accuracy", float("nan")))
    checkpointer.close()
    assert checkpointer.is_validated(1) and checkpointer.is_validated(2)
    with pytest.raises(UserError, match=r"no checkpoint has a validation score.*one of \[1, 2\]"):
        pick_step(str(tmp_path), "best")


def test_a_step_by_its_name_or_number(tmp_path):
    run(tmp_path, [0.1, 0.9, 0.2], keep=None)
    picked = {step: pick_step(str(tmp_path), step) for step in (None, "latest", "best", "1", 1)}
    assert picked == {None: 3, "latest": 3, "best": 2, "1": 1, 1: 1}
    for step, message in [
        (7, r"no checkpoint of step 7; there are \[1, 2, 3\]"),
        ("last", "expected latest, best"),
    ]:
        with pytest.raises(UserError, match=message):
            pick_step(str(tmp_path), step)
    np.testing.assert_array_equal(
        restore_params(str(tmp_path), "best")["layer"]["kernel"], np.full((2, 3), 2.0)
    )


def test_scores_of_steps_that_were_lost_are_forgotten(tmp_path):
    run(tmp_path, [0.1])
    (tmp_path / "scores.json").write_text(json.dumps({"metric": "accuracy", "by_step": {"1": 0.1, "2": 0.9}}))
    checkpointer = Checkpointer(str(tmp_path), keep=1, keep_best=1)
    restored, place = checkpointer.restore(state(0))
    assert int(restored.step) == 1 and place == {"place": 1}
    assert checkpointer.is_validated(1) and not checkpointer.is_validated(2)
    checkpointer.close()
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(UserError, match=r"scores.json: no validation scores of a run.*delete this file"):
        pick_step(str(tmp_path), "best")


def restore(folder):
    checkpointer = Checkpointer(str(folder), keep=None, keep_best=0)
    try:
        return checkpointer.restore(state(0))
    finally:
        checkpointer.close()


def test_a_folder_without_a_state_is_neither_the_latest_nor_passed_over(tmp_path):
    run(tmp_path, [None] * 4, keep=None)
    (tmp_path / "checkpoints" / "9").mkdir()
    assert steps(str(tmp_path)) == [1, 2, 3, 4]
    for look in (lambda: pick_step(str(tmp_path)), lambda: restore(tmp_path)):
        with pytest.raises(UserError, match="9: not a whole checkpoint.*to go back to step 4"):
            look()
    assert pick_step(str(tmp_path), 3) == 3


def test_a_lost_file_is_one_line(tmp_path):
    run(tmp_path, [None, None], keep=None)
    for path in (tmp_path / "checkpoints" / "2" / "state").rglob("d/*"):
        path.unlink()
    with pytest.raises(UserError, match="2: cannot be restored: delete this folder to resume"):
        restore(tmp_path)
    with pytest.raises(UserError, match="parameter layer/kernel .*the checkpoint is not whole"):
        restore_params(str(tmp_path))


def test_state_of_another_shape_is_one_line(tmp_path):
    run(tmp_path, [None])
    checkpointer = Checkpointer(str(tmp_path), keep=None, keep_best=0)
    other = dataclasses.replace(state(0), params={"other": jnp.zeros(3)})
    with pytest.raises(UserError, match="1: cannot be restored"):
        checkpointer.restore(other)
    checkpointer.close()


def test_threads_begin_their_saves_one_after_the_other(tmp_path, monkeypatch):
    """Orbax has one number for the save that a process began last."""
    begun, most = 0, 0
    save = orbax.ocp.CheckpointManager.save

    def slow(*args, **options):
        nonlocal begun, most
        begun += 1
        most = max(most, begun)
        time.sleep(0.05)
        saved = save(*args, **options)
        begun -= 1
        return saved

    monkeypatch.setattr(orbax.ocp.CheckpointManager, "save", slow)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda name: run(tmp_path / name, [None, None], keep=None), "abc"))
    assert [steps(str(tmp_path / name)) for name in "abc"] == [[1, 2]] * 3
    assert most == 1
