# make quickstart   set up, then build a dataset with the embedded miniature, train on it, and compare
# make test         set up, then the checks, without those that take minutes each
# make test-all     set up, then every check but those of vLLM
# make test-vllm    the checks that need vLLM, in an environment of their own (3 GB, no GPU)
# make hub          a Hub on this machine, to try --push without an account
# make setup        the virtual environment alone
#
# Another interpreter: make PYTHON=python3.12 ...

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP_DONE := $(VENV)/.setup-done
VLLM_VENV := .venv-vllm
VLLM_DONE := $(VLLM_VENV)/.setup-done

.PHONY: quickstart test test-all test-vllm hub setup

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
	$(BIN)/pytest $(if $(filter test,$@),-m 'not slow and not vllm')

hub: setup
	$(BIN)/python tests/hub_server.py

test-vllm: $(VLLM_DONE)
	$(VLLM_VENV)/bin/pytest -m vllm

setup: $(SETUP_DONE)

$(SETUP_DONE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt torch==2.13.0
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@

$(VLLM_DONE): pyproject.toml tests/vllm_environment.sh
	rm -rf $(VLLM_VENV)
	tests/vllm_environment.sh $(PYTHON) $(VLLM_VENV)
	touch $@
