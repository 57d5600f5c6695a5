.PHONY: help setup demo test ui bench check format lock
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(STAMP)  ## make the locked environment in .venv
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-build-isolation --no-deps -e .
	touch $@

demo: $(STAMP)  ## run the whole pipeline in the sandbox and say where to look
	$(BIN)/crypto-assets demo

test: $(STAMP)  ## run every test
	$(BIN)/pytest -n 2 --dist worksteal

ui: $(STAMP)  ## serve the Dagster UI on :3000, the dbt docs and GX Data Docs on :3001
	$(BIN)/python -m crypto_assets.ui

bench: $(STAMP)  ## measure against peers and limits, as ratios in one run
	$(BIN)/python -m benchmarks

check: $(STAMP)  ## format, lint, types, definitions, dbt parse
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	DAGSTER_DISABLE_TELEMETRY=1 DAGSTER_HOME= $(BIN)/dg check defs
	CRYPTO_ASSETS_WAREHOUSE=data/warehouse.duckdb $(BIN)/dbt parse --quiet --no-partial-parse --project-dir dbt_project --profiles-dir dbt_project

format: $(STAMP)  ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --select I --fix .

lock: $(STAMP)  ## rewrite requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-emit-index-url --no-header --no-strip-extras --group dev --extra ccxt -o requirements.lock pyproject.toml
