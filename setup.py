"""Packaging; `tasks/`, `experiments/` and `gin_configs/` install under the package's own name."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "distill_jax/__init__.py").read_text()).group(1)

# Only `annotate` and `store` need them: a host that trains, evaluates or serves does without.
TEACHERS = {
    "teachers": [
        "bm25s",
        "genai-prices",
        "json-repair>=0.50",
        "openai>=3",
        "pydantic>=2",
        "pyyaml",
        "scipy",
        "tenacity>=9",
    ],
    "anthropic": ["anthropic>=2"],
    "gemini": ["google-genai>=3"],
    "transformers": ["torch", "transformers>=5"],
}
INT8 = ["qwix>=0.1.8"]
CTRANSLATE2 = ["ctranslate2>=4.8"]
SLURM = ["submitit>=1.5"]
DOCS = ["zensical>=0.0.73"]  # builds the manual; the successor of MkDocs Material
# aiohttp 3.14.5 closes a connection that sends no request.
SERVE = ["aiohttp>=3.14.5", "prometheus-client", "pydantic>=2.10"]

setup(
    name="distill_jax",
    version=VERSION,
    description="Distilling step-by-step in JAX: small T5 students from an LLM's labels and rationales",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["distill_jax", "distill_jax.*"])
    + [
        "distill_jax.tasks",
        "distill_jax.experiments",
        "distill_jax.experiments.demo",
        "distill_jax.experiments.faults",
        "distill_jax.experiments.fuzz",
        "distill_jax.experiments.sweep",
        "distill_jax.experiments.report",
        "distill_jax.gin_configs",
    ],
    package_dir={
        "distill_jax.tasks": "tasks",
        "distill_jax.experiments": "experiments",
        "distill_jax.gin_configs": "gin_configs",
    },
    package_data={
        "distill_jax.gin_configs": ["**/*.gin"],
        "distill_jax.planning": ["parameters.json"],
        "distill_jax.serving": ["page.css", "page.js"],
        "distill_jax.teachers": ["prompts/*.yaml"],
    },
    install_requires=[
        "array_record>=0.8",
        "datasketch>=2",
        "filelock",  # a lock for each cell of a sweep
        "flax>=0.12",
        "fsspec",
        "gin-config>=0.5",
        "grain>=0.2.18",
        "huggingface_hub>=1",  # the checkpoints that students start from; tokenizers brings it too
        "importlib_resources",  # tensorflow-datasets imports it and does not ask for it
        "jax>=0.10",
        "matplotlib",
        "numpy",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "pyarrow",
        "pyyaml",  # of a sweep's file
        "rich",
        "rouge-score",
        "safetensors>=0.8",
        "scipy",
        "sentencepiece",
        "seqio>=0.0.20",
        "shtab>=1.13",  # completion of commands and flags; from 1.13 on it knows fish
        "tensorboardX",
        "tensorflow-datasets",
        "tensorstore>=0.1.80",
        "tokenizers>=0.22",
        "xxhash>=3",  # the checksums of checkpoints: ten times as fast as the standard library's CRC
    ],
    extras_require={
        **TEACHERS,
        # `--engine ctranslate2`; `export --to ctranslate2` needs the extra `transformers` beside it.
        "ctranslate2": CTRANSLATE2,
        "gcs": ["gcsfs"],
        "huggingface": ["datasets>=4"],
        "int8": INT8,
        "serve": SERVE,
        "slurm": SLURM,
        "wandb": ["wandb"],
        "mlflow": ["mlflow"],
        "docs": DOCS,
        # The clients' tests need no key and no network: they talk to a server on the loopback.
        "test": [
            *TEACHERS["teachers"],
            *TEACHERS["anthropic"],
            *TEACHERS["gemini"],
            *SERVE,
            *INT8,
            *CTRANSLATE2,
            *SLURM,
            *DOCS,
            "datasets>=4",
            "hypothesis",
            "import-linter",
            "pytest",
            "pytest-xdist",
            "ruff",
        ],
    },
    entry_points={"console_scripts": ["distill-jax = distill_jax.cli.main:main"]},
)
