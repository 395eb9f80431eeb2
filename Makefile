# make demo: train a small model on every device of this machine.   make test: everything that is tested.
# Both make .venv, build into build/make (kept, so the second run is quick) and need nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BUILD := build/make
# Anything for CMake, e.g. make test CMAKE_ARGS=-DVIBETENSOR_CUDA=OFF
export CMAKE_ARGS ?=
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without isolation the build sees the same paths each time, so CMake does not start over.
INSTALL := $(BIN)/pip install -v --no-deps --no-build-isolation -Cbuild-dir=$(BUILD)

.DEFAULT_GOAL := help
.PHONY: help demo test sanitize sanitize-cuda dev lint format wheel clean

help:
	@echo "make demo      train a character model on all devices of this machine"
	@echo "make test      build, then run the C++ and Python tests"
	@echo "make sanitize  the C++ tests under address, undefined-behaviour and thread sanitizers"
	@echo "make sanitize-cuda  the CUDA tests under compute-sanitizer's memcheck and racecheck"
	@echo "make dev       build and install for development, tests and linters included"
	@echo "make lint      ruff, mypy, clang-format"
	@echo "make format    let ruff and clang-format rewrite the sources"
	@echo "make wheel     a wheel for this Python in dist/"
	@echo "make clean     remove .venv and build products"

demo: $(VENV)/.installed-run
	$(INSTALL) -Ccmake.define.VIBETENSOR_TESTS=OFF -e .
	$(BIN)/vibetensor demo

test: $(VENV)/.installed-test
	$(INSTALL) -Ccmake.define.VIBETENSOR_TESTS=ON -e .
	$(BIN)/ctest --test-dir $(BUILD) --output-on-failure
	$(BIN)/python -m pytest $(PYTEST_ARGS)

sanitize: $(VENV)/.installed-test $(BUILD)-asan $(BUILD)-tsan
$(BUILD)-asan: SANITIZERS := address,undefined
$(BUILD)-tsan: SANITIZERS := thread
.PHONY: $(BUILD)-asan $(BUILD)-tsan
$(BUILD)-asan $(BUILD)-tsan: $(VENV)/.installed-test
	$(BIN)/cmake -S . -B $@ -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DVIBETENSOR_CUDA=OFF \
	  -DVIBETENSOR_TESTS=ON -DVIBETENSOR_SANITIZE=$(SANITIZERS) -DPython_EXECUTABLE=$(abspath $(BIN))/python
	$(BIN)/cmake --build $@ --target vibetensor_tests
	$(BIN)/ctest --test-dir $@ --output-on-failure

sanitize-cuda: $(VENV)/.installed-test
	$(INSTALL) -Ccmake.define.VIBETENSOR_TESTS=OFF -e .
	$(BIN)/python tools/sanitize.py --tool memcheck $(SANITIZE_ARGS)
	$(BIN)/python tools/sanitize.py --tool racecheck $(SANITIZE_ARGS)

dev: $(VENV)/.installed-test $(VENV)/.installed-lint
	$(INSTALL) -Ccmake.define.VIBETENSOR_TESTS=ON -e .

SOURCES = git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs -r $(BIN)/clang-format

lint: $(VENV)/.installed-run $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(SOURCES) --dry-run --Werror
	$(BIN)/mypy

format: $(VENV)/.installed-lint
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(SOURCES) -i

wheel: $(VENV)/.installed-run
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist vibetensor/*.so vibetensor/*.LICENSE vibetensor/_C.pyi

$(BIN)/python:
	PYTHON=$(PYTHON) tools/system_packages.sh
	$(PYTHON) -m venv $(VENV)

# The pins live in pyproject.toml alone; a change there installs again.
$(VENV)/.installed-run: EXTRA :=
$(VENV)/.installed-test: EXTRA := test
$(VENV)/.installed-lint: EXTRA := lint
$(VENV)/.installed-%: pyproject.toml tools/requirements.py | $(BIN)/python
	@echo "Installing the Python packages ($*)"
	$(BIN)/python tools/requirements.py build cmake run $(EXTRA) > $@.txt
	$(BIN)/pip install --quiet -r $@.txt
	@touch $@
