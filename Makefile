# Everything a fresh machine needs besides Python 3.11+ and make is set up by the first target that is called.
PYTHON ?= python3
VENV := .venv
CORES ?= 8
# Runs `make inventory` and looks at what it made.
DEFAULT := tests/workflow/test_default.py
READY := $(VENV)/.ready
# Snakemake's rules call `geocrack`: the environment's commands come first, activated or not.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: inventory test check lock qgis-check clean help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

inventory: $(READY) ## set up what is missing, then run the embedded default from raw products to the inventory
	snakemake --cores $(CORES) inventory

test: $(READY) ## set up what is missing, then run all tests
	OMP_NUM_THREADS=1 python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --ignore $(DEFAULT)
	python -m pytest $(DEFAULT) # trains on all cores: beside others its threads would wait for each other

check: $(READY) ## format, lint and types
	ruff format --check .
	ruff check .
	mypy
	snakefmt -l 120 --check Snakefile

qgis-check: ## open the default's inventory in QGIS and render results/demo/qgis.png (needs QGIS with its Python)
	@tests/qgis/check.sh results/demo

lock: ## resolve the versions anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-emit-index-url --no-header --custom-compile-command "make lock" -o requirements.lock

clean: ## remove the environment and all results of the default
	rm -rf $(VENV) results/demo demo

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); geocrack needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 2; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "$(PYTHON) cannot make environments; on Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@if command -v gdal-config >/dev/null && ! $(VENV)/bin/python -c 'import osgeo' 2>/dev/null; then \
	  echo "gdal-config found: installing the GDAL Python bindings $$(gdal-config --version) (optional)"; \
	  $(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation "gdal==$$(gdal-config --version)" || \
	  echo "they could not be built; nothing needs them, going on without"; fi
	@touch $@
