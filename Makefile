# Everything a newcomer needs is Python >= 3.11 and make; each target sets up .venv by itself.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test test-slow coverage uncovered lint format bench readiness lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.complete ## the whole environment in .venv

# What runs the system, and the test runner.
$(VENV)/.running: core/local/requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "fairlane needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what fairlane runs with into $(VENV) (about half a minute)"
	@$(PIP) --require-hashes -r core/local/requirements.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The rest of development: types, style, layers, stand-ins that others wrote.
$(VENV)/.complete: tests/requirements.txt $(VENV)/.running
	@echo "installing what fairlane is developed with into $(VENV) (about half a minute more)"
	@$(PIP) --require-hashes -r tests/requirements.txt
	@touch $@

PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

demo: $(VENV)/.running ## watch customers of five clinics being answered, end to end, on this machine
	@$(BIN)/fairlane demo

dev: $(VENV)/.running ## the whole stack on this machine, to play with
	@$(BIN)/fairlane dev

test: setup ## unit, contract, integration and end-to-end tests
	$(PYTEST) -m "not slow"

test-slow: setup ## the longer proofs
	$(BIN)/pytest -m slow

coverage: setup ## the branches that the tests of rules, use cases and adapters reach, in their own process
	$(PYTEST) -q -m "not slow" --cov --cov-report= tests/domain tests/usecases tests/ports tests/adapters tests/edge
	@$(MAKE) --no-print-directory uncovered

uncovered: setup ## the last count's figure, and what those tests leave of the turn, the journal, money and slots
	@echo "lines and branches of core that tests reach: $$($(BIN)/coverage report --format=total) %"
	@$(BIN)/coverage report --show-missing --skip-covered --include=$(MEASURED)

MEASURED := core/usecases/turn/*,core/usecases/journal/*,core/domain/money.py,core/domain/budget.py,core/domain/prices.py,core/adapters/redis_slots*.py

lint: setup ## style, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## apply the style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## every figure beside its target and its baseline
	$(BIN)/python -m tests.bench

readiness: setup ## the audit's rows and scores, each with what proves it
	$(BIN)/python -m tests.readiness

lock: ## pin requirements anew, with hashes, from pyproject's extras (needs .venv/bin/pip-compile)
	$(COMPILE) --extra webhook -o functions/webhook/requirements.txt
	$(COMPILE) --extra webhook --extra turn -o functions/turn/requirements.txt
	$(COMPILE) --extra webhook --extra turn --extra ops --extra local --extra test -o core/local/requirements.txt
	$(COMPILE) --extra webhook --extra turn --extra ops --extra local --extra test --extra dev -o tests/requirements.txt

COMPILE := $(BIN)/pip-compile pyproject.toml --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --upgrade

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis .import_linter_cache build *.egg-info
