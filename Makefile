# make train [ARGS="pooling=stochastic model=resnet20"]   set up once, then train
# make test  [ARGS="-k soft"]                             set up once, then test
# make instruction-sets                                   build the native operators for all of them, and fuzz the others
# make sanitize                                           test the native operators under address and undefined sanitizers
# make gpu                                                build for this machine's GPU and run the tests that need one
# make lint, make format, make clean

VENV := .venv
BIN  := $(VENV)/bin
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help train test instruction-sets sanitize gpu lint format clean

# The first Python from 3.11 to 3.13 that runs (a version manager's shim may be there and not run).
define FIND_PYTHON
for python in $${PYTHON:-python3 python3.13 python3.12 python3.11}; do \
  if $$python -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then echo $$python; exit; fi; \
done; echo "poolzoo needs Python 3.11, 3.12 or 3.13 with venv; name one with: make PYTHON=/path/to/python" >&2; exit 1
endef

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

$(BIN)/python:
	@python=$$($(FIND_PYTHON)) && echo "setting up $(VENV) with $$($$python --version)" && $$python -m venv $(VENV)

# A stamp is newer than pyproject.toml once its packages are installed: a second call installs nothing.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ $(VENV)/.run

# Where a compiler fails, the build says so and plain PyTorch computes instead.
$(VENV)/.kernels: $(wildcard pooling/kernels/*) | $(VENV)/.run
	@$(BIN)/python -m pooling.kernels.build || true
	@touch $@

train: $(VENV)/.run $(VENV)/.kernels
	@$(BIN)/python train.py $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pooling.kernels.build --threads
	@$(BIN)/python -m pytest $(ARGS)

# AVX2 and none: this machine's own is what `make test` runs on.
instruction-sets: $(VENV)/.dev
	@$(BIN)/python -m pooling.kernels.build --all --cuda none
	@for set in avx2 default; do \
		ATEN_CPU_CAPABILITY=$$set $(BIN)/python -m pytest tests/pooling/kernels/test_fuzz.py $(ARGS) || exit 1; \
	done

# Null and misaligned pointers are left out: checking for them doubles the time to compile.
SANITIZER := -O1 -g1 -fsanitize=address,undefined -fno-sanitize=null,alignment,object-size,vptr -fno-sanitize-recover=undefined
sanitize: export POOLZOO_CACHE := $(CURDIR)/build/sanitize
sanitize: export POOLZOO_FLAGS := $(SANITIZER)
sanitize: $(VENV)/.dev
	@$(BIN)/python -m pooling.kernels.build --cuda none --threads
	@LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 POOLZOO_FUZZ=$${POOLZOO_FUZZ:-200} $(BIN)/python -m pytest -s tests/pooling/kernels \
		--ignore=tests/pooling/kernels/test_build.py --ignore=tests/pooling/kernels/test_engine.py $(ARGS)

gpu: $(VENV)/.dev
	@$(BIN)/python -m pooling.kernels.build
	@$(BIN)/python -m pytest -m gpu $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
