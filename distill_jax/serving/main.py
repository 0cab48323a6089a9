"""Runs the server until it is told to stop."""

import asyncio
import logging
import os
import pathlib
import signal

from distill_jax.decoding.predictor import Predictor
from distill_jax.errors import UserError
from distill_jax.serving.app import Server
from distill_jax.serving.listen import listening


async def _serve(server: Server, host: str, port: int) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with listening(server, host, port) as address:
        print(f"serving on {address}; Ctrl-C stops", flush=True)
        await stop.wait()
        print("stopping: answering what waits", flush=True)


def run(
    *,
    model_dir: str,
    host: str,
    port: int,
    step: int | None,
    name: str | None,
    template: str | None,
    batch_size: int,
    max_queue: int,
    max_wait: float,
    timeout: float,
) -> int:
    """Loads the student and serves it; the exit status.

    Args:
      model_dir: the run's folder.
      host: address to listen on.
      port: 0 takes a free one.
      step: of a checkpoint; None for the latest.
      name: of the model; None for the name of the folder.
      template: see `completion.forms`.
      batch_size: inputs worked off at a time.
      max_queue: inputs that may wait.
      max_wait: seconds that an input waits for company.
      timeout: seconds after which a request is given up.

    Raises:
      UserError: for a folder that is no run, or an address that cannot be had.
    """
    if max_queue < 1 or max_wait < 0 or not timeout > 0:
        raise UserError("expected --max-queue of 1 or more, --max-wait-ms of 0 or more and --timeout above 0")
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every file it opens
    predictor = Predictor(model_dir, step, batch_size)
    server = Server(
        predictor,
        name or pathlib.Path(model_dir).absolute().name,
        template=template,
        max_queue=max_queue,
        max_wait=max_wait,
        timeout=timeout,
        key=os.environ.get("DISTILL_JAX_SERVE_KEY") or None,
    )
    server.warm_up()
    asyncio.run(_serve(server, host, port))
    return 0
