# Everything a clone needs: make and Python 3.11 or newer with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test test-slow check bench format clean

demo: $(VENV)/.demo  ## run the flight delays of 2013 through a real flow
	$(BIN)/python examples/flight_delays.py run

test: $(VENV)/.dev  ## the test suite
	$(PYTEST) -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/.dev  ## each promise's mechanism taken out, and its tests must go red
	$(PYTEST) -n 2 --dist worksteal -m slow

check: $(VENV)/.dev  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## side by side with Metaflow; takes a while
	$(BIN)/python -m benchmarks

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-peers .mypy_cache .ruff_cache

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "daskflow needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@echo "Installing daskflow and what its examples need into $(VENV): half a minute, once."
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@echo "Installing daskflow and what its tests need into $(VENV): a minute, once."
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.demo
