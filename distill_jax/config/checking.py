"""Options of checking files against damage."""

from distill_jax.config.options import REQUIRED, Options, option


class VerifyOption(Options):
    """Damaged files"""

    verify_checksums: bool = option(
        True, "compare checkpoints and prepared records with their checksums first", flags=("verify",)
    )


class CheckConfig(Options):
    """What is checked"""

    model_dir: str = option(REQUIRED, "the run's folder", positional=True, path=True)
