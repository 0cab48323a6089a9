"""`python -m distill_jax.cli`."""

import sys

from distill_jax.cli.main import main

sys.exit(main())
