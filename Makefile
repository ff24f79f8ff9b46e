# fairseq_birq: every target makes the environment that it needs.
#
#   make env                       .venv with everything, pinned in requirements/main.txt
#   make demo [DATA=/folder]       the whole way on synthesised speech, or pre-training on your recordings
#   make test | test-legacy        the tests; the same with Python 3.10 and fairseq 0.12.2
#   make test-fairseq2             the tests of the doors to fairseq2, in .venv-fairseq2 (make env-fairseq2)
#   make lint                      style, format and types
#   make check                     lint and test: what CI runs
#   make docs                      the documentation as a site, in build/site
#   make bench | clean             time and memory beside other implementations
#   make s3prl CHECKPOINT=FILE SPEECH=/folder SPEAKERS=/folder   the encoder in s3prl's own tasks: examples/s3prl
#   make gpu-check                 all that only a GPU can tell, in 8 minutes on one H100: build/gpu/gpu.json and gpu.md
#
# PYTHON=python3.11              the interpreter of .venv (3.11 or 3.12)
# PYTHON310=python3.10           the interpreter of .venv-legacy
# PYTHON_FAIRSEQ2=python3.11     the interpreter of .venv-fairseq2 (3.11 or 3.12)
# TORCH=torch==2.13.0            the torch to install; on a CUDA machine plain pip brings the CUDA build
# METHOD='best_rq birq'          which examples/<METHOD>/demo.yaml the demo pre-trains

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help env demo test env-legacy test-legacy env-fairseq2 test-fairseq2 lint check docs bench s3prl gpu-check clean

PYTHON ?= python3
PYTHON310 ?=
PYTHON_FAIRSEQ2 ?= $(PYTHON)
TORCH ?= $(shell grep '^torch==' requirements/main.txt)
METHOD ?= best_rq birq
DATA ?=
CHECKPOINT ?=
SPEECH ?=
SPEAKERS ?=

TESTS := -n 2 --dist loadfile tests

VENV := .venv
LEGACY := .venv-legacy
FAIRSEQ2 := .venv-fairseq2
PEERS := build/bench-peers
DOCS := build/docs-env
S3PRL := build/s3prl-env
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
LEGACY_PIP := $(LEGACY)/bin/python -m pip --disable-pip-version-check --no-input
FAIRSEQ2_PIP := $(FAIRSEQ2)/bin/python -m pip --disable-pip-version-check --no-input

BUILD_TOOLS := numpy cython setuptools wheel
# What fairseq lists, without torchaudio: nothing here imports it, and its wheels need CUDA libraries to load.
FAIRSEQ_NEEDS := cffi hydra-core omegaconf regex sacrebleu tqdm bitarray packaging

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# ---- .venv: one stamp per stage, so that an interrupted installation goes on where it stopped

env: $(VENV)/.stamp-package

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || { echo \
	  "error: '$(PYTHON)' is missing or is not Python 3.11 or 3.12. Name one: make env PYTHON=/path/to/python3.11" \
	  "(Python 3.9 and 3.10: make env-legacy)."; exit 1; }
	@$(call check_tools,$(PYTHON))
	@echo "== 1/4 $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv requirements/main.txt
	@echo "== 2/4 $(TORCH)"
	$(PIP) install -c requirements/main.txt $(BUILD_TOOLS)
	$(PIP) install $(TORCH) $$(grep '^numpy==' requirements/main.txt)
	@touch $@

$(VENV)/.stamp-fairseq: $(VENV)/.stamp-torch
	@echo "== 3/4 fairseq (compiles its extensions: a few minutes)"
	$(PIP) install --no-build-isolation -c requirements/main.txt $(FAIRSEQ_NEEDS) scikit-learn
	$(PIP) install --no-build-isolation --no-deps $$(grep '^fairseq-fixed==' requirements/main.txt)
	@touch $@

$(VENV)/.stamp-package: $(VENV)/.stamp-fairseq pyproject.toml requirements/main.txt
	@echo "== 4/4 fairseq_birq and what it needs"
	$(PIP) install --no-build-isolation -c requirements/main.txt -e '.[dev,export,parity,lint]'
	$(BIN)/python -c 'import torch, fairseq; print("torch", torch.__version__, "fairseq", fairseq.__version__)'
	@touch $@

# ---- .venv-legacy: Python 3.10, fairseq 0.12.2 built with build isolation, pip < 24.1

env-legacy: $(LEGACY)/.stamp-package

$(LEGACY)/.stamp-venv:
	@python=""; for candidate in $(PYTHON310) python3.10 $(HOME)/.pyenv/versions/3.10.*/bin/python; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then echo \
	  "error: no Python 3.10 found. Name one: make test-legacy PYTHON310=/path/to/python3.10"; exit 1; fi; \
	$(call check_tools,$$python); \
	echo "== 1/4 $(LEGACY) with $$($$python --version)"; \
	"$$python" -m venv $(LEGACY)
	@touch $@

$(LEGACY)/.stamp-torch: $(LEGACY)/.stamp-venv requirements/legacy.txt
	@echo "== 2/4 torch"
	$(LEGACY_PIP) install 'pip<24.1'
	$(LEGACY_PIP) install -c requirements/legacy.txt $(BUILD_TOOLS)
	$(LEGACY_PIP) install $$(grep -E '^(torch|numpy)==' requirements/legacy.txt)
	@touch $@

$(LEGACY)/.stamp-fairseq: $(LEGACY)/.stamp-torch
	@echo "== 3/4 fairseq 0.12.2 (compiles its extensions: a few minutes)"
	$(LEGACY_PIP) install --no-build-isolation -c requirements/legacy.txt $(FAIRSEQ_NEEDS)
	$(LEGACY_PIP) install --no-deps $$(grep '^fairseq==' requirements/legacy.txt)
	@touch $@

$(LEGACY)/.stamp-package: $(LEGACY)/.stamp-fairseq pyproject.toml requirements/legacy.txt
	@echo "== 4/4 fairseq_birq and what it needs"
	$(LEGACY_PIP) install --no-build-isolation -c requirements/legacy.txt -e '.[dev]'
	$(LEGACY)/bin/python -c 'import torch, fairseq; print("torch", torch.__version__, "fairseq", fairseq.__version__)'
	@touch $@

# ---- .venv-fairseq2: wheels alone, nothing is compiled

env-fairseq2: $(FAIRSEQ2)/.stamp-package

$(FAIRSEQ2)/.stamp-venv:
	@$(PYTHON_FAIRSEQ2) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || { echo \
	  "error: '$(PYTHON_FAIRSEQ2)' is missing or is not Python 3.11 or 3.12. Name one:" \
	  "make env-fairseq2 PYTHON_FAIRSEQ2=/path/to/python3.11"; exit 1; }
	@echo "== 1/3 $(FAIRSEQ2) with $$($(PYTHON_FAIRSEQ2) --version)"
	$(PYTHON_FAIRSEQ2) -m venv $(FAIRSEQ2)
	@touch $@

$(FAIRSEQ2)/.stamp-fairseq2: $(FAIRSEQ2)/.stamp-venv requirements/fairseq2.txt
	@echo "== 2/3 torch and fairseq2"
	$(FAIRSEQ2_PIP) install -c requirements/fairseq2.txt $$(grep -E '^(torch|fairseq2n?)==' requirements/fairseq2.txt)
	@touch $@

$(FAIRSEQ2)/.stamp-package: $(FAIRSEQ2)/.stamp-fairseq2 pyproject.toml requirements/fairseq2.txt
	@echo "== 3/3 fairseq_birq and what it needs"
	$(FAIRSEQ2_PIP) install -c requirements/fairseq2.txt -e . pytest
	$(FAIRSEQ2)/bin/python -c 'import torch, fairseq2; print("torch", torch.__version__, "fairseq2", fairseq2.__version__)'
	@touch $@

# $(call check_tools,python): a C++ compiler, Python's headers and the venv module
define check_tools
command -v c++ >/dev/null || command -v g++ >/dev/null || { echo "error: no C++ compiler found; fairseq is built from source. Debian and Ubuntu: install g++"; exit 1; }; \
$(1) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(1) has no venv module. Debian and Ubuntu: install python3-venv"; exit 1; }; \
$(1) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "error: $(1) has no Python.h; fairseq is built from source. Debian and Ubuntu: install python3-dev"; exit 1; }
endef

# ---- what the environments are for

demo: env
	$(BIN)/python examples/demo/run.py --method $(METHOD) $(if $(DATA),--data "$(DATA)")

test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS)

test-legacy: env-legacy
	OMP_NUM_THREADS=1 $(LEGACY)/bin/python -m pytest $(TESTS)

test-fairseq2: env-fairseq2
	OMP_NUM_THREADS=1 $(FAIRSEQ2)/bin/python -m pytest tests/fairseq2

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

# The pages themselves, as they lie in the repository; only the installation needs a network.
docs: $(DOCS)/.stamp
	@mkdir -p build/site-pages
	NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(DOCS)/bin:$$PATH" mkdocs build --strict --clean
	@echo "build/site/index.html"

$(DOCS)/.stamp: requirements/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check --no-input install -r requirements/docs.txt
	@touch $@

bench: env $(PEERS)/.stamp
	PYTHONPATH=$(PEERS) $(BIN)/python benchmarks/quantizer.py
	PYTHONPATH=$(PEERS) $(BIN)/python benchmarks/step.py

s3prl: env $(S3PRL)/.stamp
	@if [ -z "$(CHECKPOINT)" ] || [ -z "$(SPEECH)" ] || [ -z "$(SPEAKERS)" ]; then echo \
	  "error: name them: make s3prl CHECKPOINT=runs/x/checkpoint_last.pt SPEECH=/data/mboshi SPEAKERS=/data/fsdd"; exit 1; fi
	$(BIN)/python examples/s3prl/run.py "$(CHECKPOINT)" build/s3prl --speech "$(SPEECH)" --speakers "$(SPEAKERS)"

$(S3PRL)/.stamp: requirements/s3prl.txt
	$(PYTHON) -m venv $(S3PRL)
	$(S3PRL)/bin/python -m pip --disable-pip-version-check --no-input install -r requirements/s3prl.txt
	@touch $@

# peers are measured where they are installed already: a GPU's minutes are not for installing
gpu-check: env
	PYTHONPATH=$(PEERS):$(CURDIR) $(BIN)/python benchmarks/gpu.py --out build/gpu

$(PEERS)/.stamp: requirements/bench.txt $(VENV)/.stamp-package
	-$(PIP) install --no-deps --upgrade --target $(PEERS) -r requirements/bench.txt
	@mkdir -p $(PEERS) && touch $@

clean:
	rm -rf $(VENV) $(LEGACY) $(FAIRSEQ2) build dist demo_run *.egg-info .pytest_cache .hypothesis .ruff_cache
