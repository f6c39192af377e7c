# scanwise: `make help` says what there is. Needs Python 3.11 or later; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.demo
DEV := .venv/.dev
SDK := .venv-sagemaker/.installed
FLOORS := .venv-floors/.installed
VIEWER := .venv/.viewer/package/dist/index.html
OHIF := 3.13.2
NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "scanwise needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 2; }

# Tests on real scans look here, and skip with a reason where there are none.
export SCANWISE_SHARED ?= $(abspath ../shared)

# Which tests `make test` runs: everyday, or all, the extended ones among them.
TIER ?= everyday
MARKS_everyday := not slow and not extended
MARKS_all := not slow

.DEFAULT_GOAL := help
.PHONY: help demo docs sdk viewer test slow floors check clean

help:  ## say what there is
	@grep -E '^[a-z.]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */:/' | awk -F: '{ printf "make %-9s %s\n", $$1, $$2 }'

.venv: $(DEV)  ## install scanwise and the tools of its developers, at the versions of constraints.txt

$(DEMO): pyproject.toml constraints.txt tools/install.py
	@$(NEW_ENOUGH)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python tools/install.py -c constraints.txt -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt tools/install.py
	@$(NEW_ENOUGH)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python tools/install.py -c constraints.txt -e '.[dev]'
	@touch $@ $(DEMO)

demo: $(DEMO)  ## synthetic scans to a report, in a minute or two: demo/
	$(BIN)/scanwise demo

docs: $(DEV)  ## the manual, from docs/ and the docstrings, without a network: site/index.html; a broken link is an error
	$(BIN)/python tools/manual.py
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --doctree-dir .venv/.doctrees docs site
	@echo "site/index.html"

# Compiled files are written whatever the shell says: else every process compiles all of src/ and tests/ anew.
test: $(DEV)  ## the everyday tests; TIER=all runs the extended ones too, as CI does; browser tests skip where there is no chromium
	$(if $(MARKS_$(TIER)),,$(error there is no TIER $(TIER); it is everyday or all))
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=25 -m '$(MARKS_$(TIER))' $(ARGS)

sdk: $(SDK)  ## the SageMaker SDK, in an environment of its own (1 GB), for the tests that submit jobs

$(SDK): constraints-sagemaker.txt
	test -x .venv-sagemaker/bin/python || $(PYTHON) -m venv .venv-sagemaker
	.venv-sagemaker/bin/python tools/install.py -c constraints-sagemaker.txt sagemaker
	@touch $@

viewer: $(VIEWER)  ## OHIF's viewer of studies (MIT, 170 MB), for the test that looks at DICOM results in Chromium; needs npm

$(VIEWER):
	mkdir -p .venv/.viewer
	cd .venv/.viewer && npm pack --silent @ohif/app@$(OHIF) >/dev/null && tar -xzf ohif-app-$(OHIF).tgz --exclude='*.map'
	rm .venv/.viewer/*.tgz
	@touch $@

slow: $(DEV) $(SDK)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

$(FLOORS): pyproject.toml tools/install.py
	@$(NEW_ENOUGH)
	$(PYTHON) -m venv --clear .venv-floors
	.venv-floors/bin/python tools/install.py --resolution lowest-direct -e '.[test,kaggle]'
	@touch $@

floors: $(FLOORS)  ## loading, decoding and recipes with the lowest versions that pyproject.toml allows
	OMP_NUM_THREADS=1 .venv-floors/bin/python -m pytest -n auto -m 'not slow and not browser' $(ARGS) \
		tests/cohort tests/models tests/test_bundle.py tests/test_records.py tests/test_recipe.py tests/test_run.py

check: $(DEV)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove caches; .venv, demo/ and runs/ stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage dist site
