"""`python -m distill_jax.infer --gin_file=… --gin.NAME=…`: the same as `distill-jax infer`."""

import sys

from distill_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))
