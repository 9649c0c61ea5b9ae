# Everything a newcomer needs is Python >= 3.11 and make; each target sets up .venv by itself.
VENV := .venv
BIN := $(VENV)/bin
# Older interpreters first: the embedded Redis (used where no redis-server is installed) ends at 3.12.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test test-slow lint format bench readiness lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.complete ## the environment in .venv

$(VENV)/.complete: tests/requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "fairlane needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (about a minute)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## watch customers of five clinics being answered, end to end, on this machine
	@$(BIN)/fairlane demo

dev: setup ## the whole stack on this machine, to play with
	@$(BIN)/fairlane dev

test: setup ## unit, contract, integration and end-to-end tests
	$(PYTEST) -m "not slow"

test-slow: setup ## the longer proofs
	$(BIN)/pytest -m slow

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
	$(COMPILE) --extra webhook --extra turn --extra ops --extra local --extra dev -o tests/requirements.txt

COMPILE := $(BIN)/pip-compile pyproject.toml --quiet --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --upgrade

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
