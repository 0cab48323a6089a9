"""Our macros under T5X, read from gin: loss, network, optimizer; what T5X has no place for is refused."""

import gin
import pytest

pytest.importorskip("t5x", reason="T5X is on no registry: docs/t5x.md tells how it is installed")
pytestmark = pytest.mark.slow  # TensorFlow takes seconds to import

from distill_jax.errors import UserError  # noqa: E402
from distill_jax.t5x import settings  # noqa: E402
from distill_jax.training.losses import CrossEntropy, LogitDistillation, SoftLabels  # noqa: E402


@pytest.fixture
def bind():
    def parse(**macros):
        gin.clear_config()
        macros = {"MIXTURE_OR_TASK_NAME": "svamp_step_by_step", "NETWORK": "ours"} | macros
        gin.parse_config([f"{name} = {value!r}" for name, value in macros.items()])

    yield parse
    gin.clear_config()


def test_the_method_and_its_loss(bind):
    bind(METHOD="step_by_step", ALPHA=0.3)
    assert settings.view_weights() == pytest.approx({"label": 0.3, "rationale": 0.7})
    assert settings.objective() == CrossEntropy()
    bind(MIXTURE_OR_TASK_NAME="svamp_soft_labels", TEMPERATURE=2.0)
    assert settings.objective() == SoftLabels(temperature=2.0, cross_entropy_weight=0.5)
    bind(MIXTURE_OR_TASK_NAME="svamp_logit_distillation", METHOD="logit_distillation", DIVERGENCE="reverse_kl")
    assert settings.objective() == LogitDistillation(kind="reverse_kl")
    bind(METHOD="standard")
    with pytest.raises(UserError, match=r"\(METHOD\) is standard"):
        settings.objective()


def test_other_families_are_refused_by_name(bind):
    bind(MODEL_FAMILY="t5gemma", EMB_DIM=64)
    with pytest.raises(UserError, match="MODEL_FAMILY 't5gemma': T5X trains only t5"):
        settings.network()


def test_references_to_macros_and_functions(bind):
    bind(BASE=1e-3, TRAIN_STEPS=10, SCHEDULE="constant")
    gin.parse_config(["LEARNING_RATE = %BASE", "OPTIMIZER = @gin.singleton()"])
    assert settings.configuration().learning_rate == 1e-3
    assert float(settings.schedule("constant")(5)) == pytest.approx(1e-3)
    assert settings.schedule(len) is len and settings.optimizer(None) is None
    assert settings.optimizer("adamw").init


def test_our_network(bind):
    bind(EMB_DIM=64, NUM_HEADS=2, VOCAB_SIZE=None, SCAN_LAYERS=True)
    gin.parse_config("NETWORK = @settings.network()", skip_unknown=True)
    config = settings.network().config
    assert (config.emb_dim, config.num_heads, config.vocab_size, config.scan_layers) == (64, 2, None, True)


@pytest.mark.parametrize(
    ("macros", "message"),
    [
        ({"MESH": {"data": 2}}, "MESH: T5X has no place"),
        ({"ONLY_AGREEING": True}, "ONLY_AGREEING: T5X has no place"),
        ({"RATIONALE_RATE": 0.5}, "RATIONALE_RATE: T5X has no place"),
        ({"TEACHER_TOP_K": 8}, "TEACHER_TOP_K: T5X has no place"),
        ({"EMB_DIM": 64}, "EMB_DIM: of our network"),
        ({"ALPHA": 2}, "ALPHA"),
        ({"DIVERGENCE": "kl"}, "DIVERGENCE"),
    ],
)
def test_refusals(bind, macros, message):
    bind(**macros)
    with pytest.raises(UserError, match=message):
        settings.objective()
    bind(ONLY_AGREEING=False, TEACHER_TOP_K=None)  # what changes nothing is taken
    settings.objective()
