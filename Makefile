# Everything runs in .venv, which each target makes on its own.
PYTHON ?= python3
BIN := .venv/bin

# The tests start many processes: without it each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint site bench

setup: .venv/installed

.venv/installed: setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "error: Python 3.11 to 3.13 is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: setup
	$(BIN)/distill-jax demo

test: setup
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The folders that setup.py maps into the package are laid where an installation has them.
	@rm -rf build/lint && mkdir -p build/lint && cp -r distill_jax benchmarks build/lint/
	@cp -r tasks experiments build/lint/distill_jax/
	cd build/lint && ../../$(BIN)/lint-imports ../../pyproject.toml
	$(MAKE) --no-print-directory site

site: setup
	$(BIN)/zensical build --strict

# PyTorch without CUDA's libraries; with an accelerator: make bench TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.venv/bench: .venv/installed requirements-bench.txt
	PIP_EXTRA_INDEX_URL=$(TORCH_INDEX) $(BIN)/pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -r requirements-bench.txt
	@touch $@

bench: .venv/bench
	$(BIN)/python -m benchmarks.run $(ARGS)
