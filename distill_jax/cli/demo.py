"""`distill-jax demo`."""

import importlib.util
import sys

from distill_jax.cli import host_memory
from distill_jax.cli.common import command
from distill_jax.config import DemoConfig
from distill_jax.errors import UserError

WITH_TEACHER = ("aiohttp", "openai", "prometheus_client", "pydantic", "scipy", "tenacity", "yaml")


@command("demo", "standard against step-by-step, in minutes, on CPU")
def _demo(config: DemoConfig) -> int:
    host_memory.keep_freed()
    if not config.with_teacher:
        from distill_jax.experiments.demo import main

        return main.run(task=config.task, seeds=config.seeds, output=config.output or "demo")
    missing = [name for name in WITH_TEACHER if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--with-teacher needs {', '.join(missing)}: pip install 'distill_jax[serve,teachers]'")
    from distill_jax.experiments.demo import teacher_report
    from distill_jax.training.preemption import EXIT_STATUS, Preempted

    try:
        output = config.output or "demo/with-teacher"
        return teacher_report.run(task=config.task, seeds=config.seeds, output=output)
    except Preempted as stop:
        print(f"{stop}; the same command resumes from there", file=sys.stderr)
        return EXIT_STATUS
