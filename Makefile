# make train [ARGS="pooling=stochastic model=resnet20"]   set up once, then train
# make test  [ARGS="-k soft"]                             set up once, then test
# make lint, make format, make clean

VENV := .venv
BIN  := $(VENV)/bin
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help train test lint format clean

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

train: $(VENV)/.run
	@$(BIN)/python train.py $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
