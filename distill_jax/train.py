"""`python -m distill_jax.train --gin_file=… --gin.NAME=…`: the same as `distill-jax train`."""

import sys

from distill_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
