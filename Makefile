# The two commands that matter: `make train` and `make test`. Both set up .venv by themselves.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(wildcard kernels/*) CMakeLists.txt pyproject.toml constraints.txt

.PHONY: train test test-slow sanitize lint format benchmark clean

train: $(VENV)/installed
	$(BIN)/tensor-optix train CartPole-v1

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror kernels/*.hpp kernels/*.cpp
	$(BIN)/mypy
	$(BIN)/python -m pytest -q
	$(MAKE) sanitize

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -q -m slow

sanitize: $(VENV)/installed
	$(BIN)/python tests/kernels/sanitize.py

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i kernels/*.hpp kernels/*.cpp

benchmark: $(VENV)/installed
	$(BIN)/python -m pytest -q benchmarks --benchmark-only

$(VENV)/installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt scikit-build-core nanobind cmake ninja
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation \
		--config-settings=editable.rebuild=false --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build
