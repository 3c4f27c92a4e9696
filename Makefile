# make quickstart   set up, then build a dataset with the embedded miniature, train on it, and compare
# make test         set up, then every check that takes seconds
# make test-all     set up, then every check
# make hub          a Hub on this machine, to try --push without an account
# make setup        the virtual environment alone
#
# Another interpreter: make PYTHON=python3.12 ...

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP_DONE := $(VENV)/.setup-done

.PHONY: quickstart test test-all hub setup

quickstart: setup
	$(BIN)/gv-data build --recipe quickstart
	$(BIN)/gv-train --dataset runs/quickstart --resume
	$(BIN)/gv-data eval --tuned runs/train/quickstart/model --prompts runs/quickstart
	@echo "Look at it: $(CURDIR)/runs/eval/quickstart/report.html"

test test-all: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest $(if $(filter test,$@),-m 'not slow')

hub: setup
	$(BIN)/python tests/hub_server.py

setup: $(SETUP_DONE)

$(SETUP_DONE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt torch==2.13.0
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@
