# scanwise: `make help` says what there is. Needs Python 3.11 or later; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
SDK := .venv-sagemaker/.installed

# Tests on real scans look here, and skip with a reason where there are none.
export SCANWISE_SHARED ?= $(abspath ../shared)

.DEFAULT_GOAL := help
.PHONY: help demo sdk test slow check clean

help:  ## say what there is
	@grep -E '^[a-z.]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */:/' | awk -F: '{ printf "make %-7s %s\n", $$1, $$2 }'

.venv: $(STAMP)  ## install scanwise and its tools, at the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "scanwise needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## synthetic scans to a report, in about a minute: demo/
	$(BIN)/scanwise demo

test: $(STAMP)  ## all tests but the slow ones; browser tests skip where there is no chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

sdk: $(SDK)  ## the SageMaker SDK, in an environment of its own (1 GB), for the tests that submit jobs

$(SDK): constraints-sagemaker.txt
	test -x .venv-sagemaker/bin/python || $(PYTHON) -m venv .venv-sagemaker
	.venv-sagemaker/bin/python -m pip install --disable-pip-version-check -c constraints-sagemaker.txt sagemaker
	@touch $@

slow: $(STAMP) $(SDK)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(STAMP)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove caches; .venv, demo/ and runs/ stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist
