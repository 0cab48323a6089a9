# Everything runs in .venv, which each target makes on its own.
PYTHON ?= python3
BIN := .venv/bin

# The tests start many processes: without it each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint site bench lock audit licenses

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

TOOLS := .venv/tools/bin

.venv/tools/installed: requirements-tools.txt constraints.txt
	$(PYTHON) -m venv .venv/tools
	$(TOOLS)/pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-tools.txt
	@touch $@

lock: .venv/tools/installed
	$(TOOLS)/uv pip compile setup.py --extra teachers --extra anthropic --extra gemini --extra serve --extra int8 \
	  --extra huggingface --extra slurm -c constraints.txt --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --quiet --custom-compile-command "make lock" -o requirements-locked.txt

audit: .venv/tools/installed
	@$(TOOLS)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements-locked.txt \
	  || { echo "error: a known vulnerability, or a package that could not be looked up: the lines above"; exit 1; }

licenses: setup .venv/tools/installed
	$(TOOLS)/pip-licenses --python $(BIN)/python --from=mixed --order=license --with-urls
