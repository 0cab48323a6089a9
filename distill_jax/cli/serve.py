"""`distill-jax serve`: a student behind OpenAI's protocol."""

import argparse

from distill_jax.cli.common import add_command
from distill_jax.errors import UserError

EXTRA = ("aiohttp", "prometheus_client", "pydantic")


def _serve(args: argparse.Namespace) -> int:
    try:
        from distill_jax.serving import listen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise UserError(f"serve needs {error.name}: pip install 'distill_jax[serve]'") from None
    listen.run(args, lambda line: print(line, flush=True))
    return 0


def add(commands) -> None:
    """Adds the command."""
    serve = add_command(commands, "serve", "serve a trained student over HTTP, as OpenAI's API", _serve)
    serve.add_argument("model_dir")
    serve.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    serve.add_argument("--step", type=int, help="of a checkpoint; default the latest")
    serve.add_argument("--name", help="of the model; default the folder's")
    serve.add_argument("--template", help="of an answer, such as '{rationale} The answer is {label}.'")
    serve.add_argument("--batch-size", type=int, default=32, help="inputs per batch")
    serve.add_argument("--max-queue", type=int, default=1024, help="inputs that may wait; more get 429")
    serve.add_argument("--max-wait-ms", type=float, default=2.0, help="that an input waits for company")
    serve.add_argument("--timeout", type=float, default=120.0, help="seconds until a request is given up")
