# Every target sets up what it needs: .venv with the pinned packages, and where none is found Java and libatomic, and Chromium and curl for the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PINS := requirements/dev.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo run test lint format bench pins docs manifests clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## set up .venv, Java and libatomic; the other targets do it by themselves
	@scripts/ensure-java
	@scripts/ensure-libatomic $(BIN)/python

demo: setup ## the whole pipeline on made-up events, its report checked
	@$(BIN)/flyertime demo

run: setup $(VENV)/spark.jsa ## the whole pipeline on this machine until Ctrl-C
	@$(BIN)/flyertime run

test: setup $(VENV)/spark.jsa $(VENV)/spark-sql.jsa $(VENV)/httpfs $(VENV)/shillelagh $(VENV)/s3_server ## all tests
	@scripts/ensure-chromium
	@command -v curl >/dev/null || scripts/apt-install curl curl
	@command -v strace >/dev/null || scripts/apt-install strace strace || true # without it no power cut is tried
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup $(VENV)/spark.jsa $(VENV)/spark-sql.jsa ## side-by-side measurements, one JSON object a line
	$(BIN)/python -m bench

pins: $(STAMP) ## resolve the pinned requirements anew from pyproject.toml
	scripts/pin $(BIN)/uv

docs: $(STAMP) ## write the tables of settings and metrics into docs/
	$(BIN)/python scripts/tables.py docs/settings.md docs/operations.md

manifests: $(STAMP) ## render knative/*.yaml from the chart
	$(BIN)/python scripts/render_manifests.py

clean: ## remove .venv and what tools leave behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build flyertime.egg-info

# Classes that Spark's JVM loads, so that it starts a quarter sooner: for folds, and for what counts history.
$(VENV)/spark.jsa: $(STAMP) spark/session.py
	$(BIN)/python -m spark.class_archive
$(VENV)/spark-sql.jsa: $(STAMP) spark/session.py
	$(BIN)/python -m spark.class_archive sql

# A second DuckDB for the test of its extension httpfs, which has no package yet for the version that is measured against;
# and shillelagh, which wants packages that nothing else here needs.
$(VENV)/httpfs $(VENV)/shillelagh: $(VENV)/%: tests/report/%.txt | $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --upgrade --target $@ -r $<
	@touch $@

# A server that speaks S3, for the tests of the archive there: its packages are for nothing else.
$(VENV)/s3_server: tests/spark/s3_server.txt | $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --upgrade --target $@ -r $<
	@touch $@

$(STAMP): $(PINS) pyproject.toml scripts/make-venv
	@scripts/make-venv "$(PYTHON)" $(VENV) $(PINS)
	@touch $(STAMP)
