"""What the processes that are fed begin with: with atheris, our code, which tells it what lines are reached."""

import contextlib
import importlib
import importlib.util

if importlib.util.find_spec("atheris"):
    import atheris

    instrumented = atheris.instrument_imports(include=["distill_jax", "gin", "yaml"])
else:
    instrumented = contextlib.nullcontext()
with instrumented:
    importlib.import_module("distill_jax.experiments.fuzz.one")
