# make demo   build, start a server on 127.0.0.1:8000 with a small EM volume and its segmentation, keep serving
# make test   the whole test suite
# The other targets are at the bottom. All install what they need into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KERNELS := $(shell find src -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
BUILD := pyproject.toml setup.py $(KERNELS)
PYTEST ?= $(BIN)/python -m pytest
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test install conformance bench sanitize soak lint docs clean

demo: $(VENV)/.demo
	$(BIN)/dvidcore demo --data demo-data

test: $(VENV)/.test
	$(PYTEST) -n 2

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# What a user installs, and with it what the tests need; both see the sources in place.
$(VENV)/.demo: $(BIN)/python $(BUILD)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(BIN)/python $(BUILD)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/.demo $@

install: $(VENV)/.test

# Replays the recorded answers of DVID where the conformance kit is beside the checkout.
conformance: $(VENV)/.test
	$(BIN)/python tests/conformance.py $(SCENARIOS)

# Kernels, on generated volumes and on the real ones where they are beside the checkout, requests and the store; then the
# kernels and their peers from PyPI in one table, where the peers' benchmark is beside the checkout.
bench: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(PYTEST) benchmarks --benchmark-only --benchmark-columns=min,median,rounds --benchmark-sort=name -p no:cacheprovider
	$(BIN)/python benchmarks/peers.py

# Kernels built with AddressSanitizer, fed with broken and hostile input for SECONDS.
SECONDS ?= 60
SANITIZED := build/sanitize/lib
sanitize: $(VENV)/.test
	$(BIN)/python -m pip install --quiet 'setuptools>=77' 'cython>=3.1' numpy
	DVIDCORE_SANITIZE=1 $(BIN)/python setup.py -q build_py --build-lib $(SANITIZED) build_ext --build-lib $(SANITIZED) --build-temp build/sanitize/temp
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(SANITIZED) $(BIN)/python tests/sanitize/run.py --seconds $(SECONDS)

# The crash, concurrency and model tests again, for longer.
soak: $(VENV)/.test
	$(PYTEST) -m slow

lint: $(VENV)/.test
	$(BIN)/ruff check src tests benchmarks examples setup.py
	$(BIN)/ruff format --check src tests benchmarks examples setup.py
	$(BIN)/mypy

docs: $(VENV)/.test
	mkdir -p build
	$(BIN)/python -m dvidcore.api.openapi > build/http-api.md
	mv build/http-api.md docs/http-api.md

clean:
	rm -rf build dist demo-data $(VENV) src/*.egg-info
	find src -name '*.so' -delete
	find src -name '*.pyx' | sed 's/pyx$$/cpp/' | xargs rm -f
