"""transformers computes what our decoder-only students compute; skipped where it is not installed."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from distill_jax.checkpoints.convert import convert
from distill_jax.checkpoints.other_formats import llama_names
from distill_jax.checkpoints.other_formats.huggingface import read_huggingface, write_huggingface
from distill_jax.checkpoints.other_formats.parameters import to_tree
from distill_jax.checkpoints.other_formats.tokenizer_files import read_tokenizer, write_tokenizer
from distill_jax.checkpoints.reading import open_checkpoint
from distill_jax.config import ConvertConfig
from distill_jax.data.records import Segment, to_features
from distill_jax.data.vocabularies import load_vocabulary
from distill_jax.decoding import continuous
from distill_jax.decoding.engine import Engine
from distill_jax.errors import UserError
from distill_jax.experiments import smollm2 as download
from distill_jax.models.families import make_network
from distill_jax.training.losses import CrossEntropy, standard_weights, token_weights

torch = pytest.importorskip("torch", reason="for parity tests only")
transformers = pytest.importorskip("transformers", reason="for parity tests only")

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
THEIRS = {
    "Llama": ("Llama", {"tie_word_embeddings": False, "rms_norm_eps": 1e-5}),
    "linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}}),
    "Llama 3": (
        "Llama",
        {
            "tie_word_embeddings": True,
            "rope_parameters": {**LLAMA3, "original_max_position_embeddings": 32, "rope_theta": 900.0},
        },
    ),
    "Qwen 3": ("Qwen3", {"head_dim": 12, "tie_word_embeddings": True}),
}
HARD = [
    "a man is sleeping.",
    "  two\n\nlines\t",
    "1234567 and 3.14",
    "naïve ☃ 😀",
    "It's we'll",
    "<|im_end|>x",
    "",
]


@functools.cache
def peer(kind):
    torch.manual_seed(0)
    name, options = THEIRS[kind]
    config = getattr(transformers, f"{name}Config")(**SIZES, **options)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # norms too
    return model


@pytest.fixture(params=THEIRS)
def pair(request, tmp_path):
    """Their model, and ours read from its folder."""
    theirs = peer(request.param)
    theirs.save_pretrained(tmp_path)
    parameters, config = read_huggingface(tmp_path)
    return theirs, make_network(config), to_tree(parameters)


def rows(seed=0):
    """Prefixes and their continuations, of several lengths."""
    rng = np.random.default_rng(seed)
    lengths = ((70, 9), (3, 40), (1, 2))
    return [(rng.integers(0, 60, n).tolist(), rng.integers(0, 60, m).tolist()) for n, m in lengths]


def test_logits(pair):
    theirs, model, params = pair
    for prefix, targets in rows():
        with torch.no_grad():
            expected = theirs(torch.tensor([prefix + targets])).logits[0, len(prefix) :].numpy()
        inputs = jnp.array([prefix + [model.config.pad_id] * 5])
        shifted = jnp.array([targets])
        found = model.apply({"params": params}, inputs, shifted, shifted, enable_dropout=False)
        np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_fifty_greedy_tokens(pair):
    theirs, model, params = pair
    inputs = [prefix for prefix, _ in rows()]
    limits = {"batch_size": 4, "longest": 80, "max_length": 50, "start_id": 7, "end_id": -1}
    for item, tokens, _ in continuous.decode(model, params, inputs, **limits):
        with torch.no_grad():
            prompt = torch.tensor([[*inputs[item], 7]])
            options = {"max_new_tokens": 50, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
            expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        assert tokens.tolist() == expected[0, prompt.shape[1] :].tolist()


def test_gradients_of_the_loss(pair):
    theirs, model, params = pair
    made = [Segment(prefix, targets, 1, n, start=7) for n, (prefix, targets) in enumerate(rows())]
    features = to_features(made, {"inputs": 80, "targets": 52})
    batch = {name: jnp.asarray(array)[None] for name, array in features.items()}
    weights = token_weights(batch["decoder_task_ids"], batch["decoder_loss_weights"], standard_weights())

    @jax.jit
    def loss(params):
        options = {"model": model, "key": None, "teacher": None, "loss_chunk": 16, "z_loss": 0.0}
        return CrossEntropy()(params, batch={**batch, "weights": weights}, **options)[0]

    value, grads = jax.value_and_grad(loss)(params)
    theirs.zero_grad()
    total = 0.0
    for prefix, targets in rows():
        ids = torch.tensor([[*prefix, 7, *targets[:-1]]])
        logits = theirs(ids).logits[0, len(prefix) :]
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="sum")
    total = total / sum(len(targets) for _, targets in rows())
    total.backward()
    assert float(value) == pytest.approx(total.item(), abs=1e-4)
    flat = traverse_util.flatten_dict(grads, sep="/")
    of_theirs = dict(theirs.named_parameters())
    for name, ours, transposed in llama_names.names(model.config):
        expected = of_theirs[name].grad.numpy()
        np.testing.assert_allclose(flat[ours], expected.T if transposed else expected, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", THEIRS)
def test_what_is_written_is_what_was_read(kind, tmp_path):
    peer(kind).save_pretrained(tmp_path / "theirs")
    parameters, config = read_huggingface(tmp_path / "theirs")
    write_huggingface(tmp_path / "ours", parameters, config)
    again, same = read_huggingface(tmp_path / "ours")
    assert same == config
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(loaded) is type(peer(kind))
    for name, array in peer(kind).state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], array, err_msg=name)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        np.testing.assert_array_equal(loaded(ids).logits, peer(kind)(ids).logits)
    assert set(again) == set(parameters)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"attention_bias": True}, "attention_bias is True, this model can only have False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rotary positions of the type 'yarn'"),
        ({"num_key_value_heads": 3}, "num_kv_heads 3 does not divide"),
    ],
)
def test_another_architecture_is_refused(changes, what, tmp_path):
    peer("Llama").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=what):
        read_huggingface(tmp_path)


def test_the_tokenizers_ids_are_those_of_transformers(causal_vocabulary, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    write_tokenizer(tmp_path, causal_vocabulary, 300)
    assert read_tokenizer(tmp_path).fingerprint == causal_vocabulary.fingerprint
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == causal_vocabulary.eos_id
    for text in HARD:
        ids = theirs(text)["input_ids"]
        assert causal_vocabulary.encode(text) == ids
        [ids] = causal_vocabulary.encode_targets([text])
        assert ids == theirs(f" {text}")["input_ids"]
        assert causal_vocabulary.decode(ids) == text or text == HARD[5]  # the end of a text


def test_a_converted_student_generates_there_what_it_does_here(causal_vocabulary, tmp_path):
    theirs = peer("Llama")
    config = transformers.LlamaConfig(**SIZES | {"vocab_size": causal_vocabulary.vocab_size})
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path / "theirs")
    write_tokenizer(tmp_path / "theirs", causal_vocabulary, config.vocab_size)
    convert(ConvertConfig(source=str(tmp_path / "theirs"), destination=str(tmp_path / "run"), to="distill-jax"))
    convert(ConvertConfig(source=str(tmp_path / "run"), destination=str(tmp_path / "back"), to="huggingface"))
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back").eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    checkpoint = open_checkpoint(str(tmp_path / "run"))
    network, vocabulary = make_network(checkpoint.model_config()), checkpoint.vocabulary()
    engine = Engine(to_tree(checkpoint.parameters), network, vocabulary, 32, 2)
    assert loaded.generation_config.eos_token_id == vocabulary.eos_id
    for text, [hypothesis] in zip(HARD[:4], engine.generate(HARD[:4], 12), strict=True):
        prompt = words(text + "\nAnswer:", return_tensors="pt")
        with torch.no_grad():
            written = loaded.generate(**prompt, max_new_tokens=12, do_sample=False)
        assert list(hypothesis.tokens) == written[0, prompt["input_ids"].shape[1] :].tolist()


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    if absent := download.missing():
        pytest.skip(f"the real weights need {', '.join(absent)}: see experiments/smollm2.py")
    folder = tmp_path_factory.mktemp("smollm2")
    download.save(str(folder))
    return folder


@pytest.mark.slow
def test_smollm2s_own_weights(smollm2):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(smollm2).eval()
    words, vocabulary = transformers.AutoTokenizer.from_pretrained(smollm2), load_vocabulary(smollm2)
    for text in [*HARD, "def f(x):\n    return x**2  # 平方"]:
        assert vocabulary.encode(text) == words(text)["input_ids"]
    checkpoint = open_checkpoint(str(smollm2))
    model, params = make_network(checkpoint.model_config()), to_tree(checkpoint.parameters)
    ids = words("The capital of France is Paris, and the capital of Italy is Rome.")["input_ids"]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    inputs, targets = jnp.array([ids[:6]]), jnp.array([ids[6:]])
    found = jax.jit(lambda p: model.apply({"params": p}, inputs, targets, targets, enable_dropout=False))(
        params
    )
    np.testing.assert_allclose(found[0], expected[6:], atol=1e-4)
    engine = Engine(params, model, vocabulary, 16, 1)
    [[hypothesis]] = engine.generate(["Two plus two is"], 50)
    prompt = words("Two plus two is\nAnswer:", return_tensors="pt")
    with torch.no_grad():
        written = theirs.generate(**prompt, max_new_tokens=50, do_sample=False)
    assert list(hypothesis.tokens) == written[0, prompt["input_ids"].shape[1] :].tolist()
