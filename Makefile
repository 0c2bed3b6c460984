# make study: the embedded quick study, from agents to figures, in runs/, beside what is shipped.
# make test: lint, types and tests.   make test-all: the slow tests too.
# make fuzz: ten thousand spoilt files, configurations and commands, and what became of each kind.
# make docs: the documentation, in build/docs; a broken link is an error, so all pages are read anew (-E).
# Each builds its own virtual environment; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
RUNS ?= runs

.PHONY: study test test-all fuzz docs bench clean

study: $(VENV)/.installed
	$(BIN)/mzprobe study cartpole-quick --under $(RUNS)

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow"

test-all: test
	$(BIN)/python -m pytest -q -n $(WORKERS) -m slow

fuzz: $(VENV)/.installed-dev
	MZPROBE_FUZZ=10000 $(BIN)/python -m pytest -q -s tests/fuzz

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -E -W --keep-going -q -b html docs build/docs

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/env_speed.py
	$(BIN)/python benchmarks/minatar_speed.py
	$(BIN)/python benchmarks/atari_speed.py
	$(BIN)/python benchmarks/search_speed.py
	$(BIN)/python benchmarks/search_rules.py
	$(BIN)/python benchmarks/search_visits.py
	$(BIN)/python benchmarks/convolution.py
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/reanalyse_speed.py
	$(BIN)/python benchmarks/probe_speed.py
	$(BIN)/python benchmarks/lunarlander_search.py
	$(BIN)/python benchmarks/reward_floor.py
	$(BIN)/python benchmarks/study_tasks.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mzprobe needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# Stamps: an install is repeated only when what it depends on has changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing mzprobe and what it needs (PyTorch is large: minutes, silent) into $(VENV)"
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing mzprobe, what it needs and its tests' tools (PyTorch is large: minutes, silent) into $(VENV)"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench,box2d,atari]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
