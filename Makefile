# make train   set up, then run or resume Absolute Zero self-play on the embedded tiny model
# make test    set up, then the tests; make lint, make types: the checks of style and of types
# make plan    what `azr plan` needs beside: the compiler for TPUs (650 MB); its tests then run, too
# make soak    the full counts, which take long; writes docs/soak.md. A part: SOAK=tests/hostile
# make peers   what the benchmarks measure against, in environments of their own
#
# SANDBOX_LEVEL=1 accepts a weaker sandbox where the host lacks what the full one needs.
# PYTHON=python3.12 names the interpreter that .venv is made from.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN_DIR := runs/tiny
# Compiling every file of every package takes longer than installing them; few are ever imported.
PIP_FLAGS := --quiet --disable-pip-version-check --no-compile
TRAIN_FLAGS := $(if $(SANDBOX_LEVEL),--gin_bindings 'RunConfig.sandbox_level = $(SANDBOX_LEVEL)')

# Where it is set, every process compiles all that it imports anew, which takes longer than most tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test plan soak peers lint types
.DELETE_ON_ERROR:

train: $(VENV)/installed
	@$(VENV)/bin/azr train --gin_file runs/tiny.gin --run_dir '$(RUN_DIR)' $(TRAIN_FLAGS)

test: $(VENV)/installed-test
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m 'not soak'

plan: $(VENV)/installed-plan

soak: $(VENV)/installed-test
	@$(VENV)/bin/python -m pytest $(SOAK) -m soak --junitxml $(VENV)/soak.xml; code=$$?; \
	    $(VENV)/bin/python tests/soak_summary.py $(VENV)/soak.xml docs/soak.md; exit $$code

# The versions of docs and RESULTS.md. google-tunix needs Python >= 3.12.
PEERS := .venv-peers
TUNIX_PYTHON ?= python3.12

peers: $(PEERS)/torch/installed $(PEERS)/tunix/installed

$(PEERS)/torch/installed:
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/pip install $(PIP_FLAGS) torch==2.13.0 transformers==5.23.0
	@touch $@

$(PEERS)/tunix/installed:
	@$(TUNIX_PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/pip install $(PIP_FLAGS) google-tunix==0.1.7 jax==0.12.0.1
	@touch $@

lint: $(VENV)/installed-test
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(VENV)/installed-test
	@$(VENV)/bin/mypy

# A stamp is touched last: an interrupted set-up starts over, a finished one is not repeated.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing azr-jax into $(VENV) ..."
	@$(VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing azr-jax and its test tools into $(VENV) ..."
	@$(VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-plan: $(VENV)/installed-test
	@echo "Installing the compiler for TPUs into $(VENV) ..."
	@$(VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e '.[plan]'
	@touch $@

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "azr: $(PYTHON) is missing or older than 3.11;" \
	         "name a newer one, as in: make $(or $(MAKECMDGOALS),train) PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "azr: $(PYTHON) has no venv module;" \
	         "on Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
