# Everything a developer does, and all that CI calls. Needs make and Python 3.11 or newer.
# `make` alone lists the targets.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n 2 --dist loadfile -q
SEEDS ?= 100
SEED ?=

.PHONY: help setup run test verify check sim bench docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev  ## prepare .venv with the fairlead command and all development tools

run: $(VENV)/.run  ## show it all: three tenants, a killed service, a report (about a minute)
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev  ## run the test suite (PYTEST_ARGS='-x tests/core' for less)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

verify: $(VENV)/.dev  ## the long checks: real logs job by job, published tables, queueing theory at length
	@$(BIN)/python -m pytest -m long -n 2 -q

check: $(VENV)/.dev  ## lint, types, layers, tidiness
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py tests/test_tidy.py

sim: $(VENV)/.dev  ## break things on purpose: SEEDS=100 histories, or one with SEED=n
	@$(BIN)/python -m fairlead sim faults $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

bench: $(VENV)/.dev  ## measure; JSON lines, with the noise of this machine (ONLY=place,imports for less)
	@$(BIN)/python bench/run.py $(if $(ONLY),--only $(ONLY))

docs: $(VENV)/.dev  ## make the pages that come from the code; run what the pages show, check their links
	@$(BIN)/python docs/generate.py
	@$(BIN)/python docs/compare_page.py
	@$(BIN)/python -m pytest -q tests/test_docs.py

clean:  ## remove what was built here; job state elsewhere is not touched
	rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed once, and again only when pyproject.toml changes. `make run` needs less than the
# development tools, but is content with them.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing Fairlead and the development tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(VENV)/.dev $(VENV)/.run

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "Installing Fairlead into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[examples]'
	@touch $(VENV)/.run

$(BIN)/python:
	@for python in "$$PYTHON" python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  if [ -n "$$python" ] && "$$python" -c \
	    'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "make: Fairlead needs Python 3.11 or newer, and found none." >&2; \
	  echo "  Install one, or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "make: $$found cannot make virtual environments (no venv or ensurepip module)." >&2; \
	  echo "  On Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; \
	fi; \
	"$$found" -m venv $(VENV)
export PYTHON
