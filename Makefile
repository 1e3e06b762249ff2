# The two commands that matter: `make train` and `make test`. Both set up .venv by themselves.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
EDITABLE := --no-build-isolation --config-settings=editable.rebuild=false --editable
SOURCES := $(wildcard kernels/*) CMakeLists.txt pyproject.toml constraints.txt

.PHONY: train test tests checks checks-and-sanitizers test-slow sanitize wheels lint format benchmark docs docs-serve \
	gpu-kit clean

train: $(VENV)/training
	$(BIN)/tensor-optix train CartPole-v1

test: $(VENV)/installed
	$(MAKE) --jobs=2 --output-sync=target tests checks-and-sanitizers

# Tests start many processes: where the environment forbids compiled modules, each would compile the package anew.
tests: $(VENV)/installed
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q --numprocesses auto --dist=loadfile

checks-and-sanitizers: checks
	$(MAKE) sanitize

checks: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror kernels/*.hpp kernels/*.cpp
	$(BIN)/mypy

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -q -m slow

sanitize: $(VENV)/installed
	$(BIN)/python tests/kernels/sanitize.py

# A wheel for each Python, in dist/, each tried where there is no compiler.
PYTHONS ?= python3.11 python3.12 python3.13
wheels:
	$(PYTHON) tests/wheels/check.py dist $(PYTHONS)

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i kernels/*.hpp kernels/*.cpp

benchmark: $(VENV)/installed
	$(BIN)/python -m pytest -q benchmarks --benchmark-only

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

# What a machine with a GPU and PyTorch, but no network, needs beside them; CONTRIBUTING.md says more.
KIT := build/gpu-kit
GPU_PYTHON ?= 3.12
GPU_WHEELS := cloudpickle execnet Farama-Notifications gymnasium iniconfig nanobind ninja packaging pathspec \
	pluggy Pygments pytest pytest-xdist safetensors scikit_build_core typing_extensions
GPU_MORE ?=
MANYLINUX := $(foreach glibc,_2_28 _2_27 _2_17 2014,--platform manylinux$(glibc)_x86_64)

gpu-kit: $(VENV)/training
	rm -rf $(KIT) && mkdir -p $(KIT)/wheels
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --constraint constraints.txt \
		--python-version $(GPU_PYTHON) --implementation cp $(MANYLINUX) --dest $(KIT)/wheels \
		$(GPU_WHEELS) $(GPU_MORE)
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(KIT)/wheels .
	$(BIN)/python -c 'from scikit_build_core.build import build_sdist; build_sdist("$(KIT)/wheels")'
	cp -r tests benchmarks pyproject.toml tests/gpu/run.sh $(KIT)
	find $(KIT) -name __pycache__ -exec rm -r {} +
	du -sh $(KIT)

# What training needs: the compiled kernels, and no framework. Python compiles what it imports.
$(VENV)/training: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) scikit-build-core nanobind cmake ninja
	$(INSTALL) --no-compile $(EDITABLE) '.[cli]'
	touch $@

# What tests may see of other packages must not depend on whether they were imported before: all are compiled.
$(VENV)/installed: $(VENV)/training
	$(INSTALL) --no-compile $(EDITABLE) '.[dev]'
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true
	touch $@

clean:
	rm -rf $(VENV) build
