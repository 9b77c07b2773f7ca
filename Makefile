# Seedbed's own commands; 'make' alone lists them.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# that run tests side by side; each starts servers and workers of its own
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo quick test lint types check chaos bench docs clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,local]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[worker,local,dev]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run ## render a small sweep on this machine, from nothing to a contact sheet
	$(BIN)/seedbed run examples/demo.yaml

quick: $(VENV)/.dev ## run the tests that are not slow: seven of eight, in under three minutes
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -m "not slow"

test: $(VENV)/.dev ## run the whole test suite
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

lint: $(VENV)/.dev ## format and lint checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## type checks: strict on shared and producer
	$(BIN)/mypy

check: lint types test ## all that a change must pass

chaos: $(VENV)/.dev ## hurt a real pool: each fault alone, then at random for MINUTES (10), from SEED
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.dev ## measure: each benchmark prints its ratios and how they were got
	$(BIN)/python -m tests.benchmarks

docs: $(VENV)/.dev ## regenerate docs/cli.md, tables of the docs, and Kubernetes' alerts
	$(BIN)/python -m producer.cli.reference
	$(BIN)/python -m tests.field_table
	$(BIN)/python -m tests.metric_page
	$(BIN)/python -m tests.alert_rules

clean: ## remove the virtual environment, caches and the embedded stack's data
	rm -rf $(VENV) seedbed-data .pytest_cache .mypy_cache .ruff_cache .hypothesis
