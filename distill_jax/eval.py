"""`python -m distill_jax.eval --gin_file=… --gin.NAME=…`: the same as `distill-jax eval`."""

import sys

from distill_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
