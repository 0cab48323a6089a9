"""`distill-jax serve`: a student behind OpenAI's protocol."""

from distill_jax.cli.common import add_command, quiet
from distill_jax.config import ServeConfig
from distill_jax.errors import UserError

EXTRA = ("aiohttp", "prometheus_client", "pydantic")


def _serve(config: ServeConfig) -> int:
    try:
        from distill_jax.serving import listen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise UserError(f"serve needs {error.name}: pip install 'distill_jax[serve]'") from None
    quiet()
    listen.run(config, lambda line: print(line, flush=True))
    return 0


def add(commands) -> None:
    """Adds the command."""
    add_command(commands, "serve", "serve a trained student over HTTP, as OpenAI's API", _serve, ServeConfig)
