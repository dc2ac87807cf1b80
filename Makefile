# The ways in. Every target sets up first what it needs; what is up to date is not done again.
#   make setup   Debian packages, .venv, the client of gobgpd, BPF objects, what is there in C as well as in Python
#   make lint    everything that judges the code without running it
#   make test    all tests (needs root: they make namespaces), several at once; ARGS="-k words" picks some, WORKERS=0 in turn
#   make test-fast   those that start no router and no zone: a minute
#   make test-sanitized   the C form under the sanitizers of the compiler
#   make soak    ten thousand commits beside live flows, and long random walks; SEED=n repeats a walk
#   make fuzz    octets that are nearly right against our BGP engine, MINUTES=10 in each form; SEED=n repeats
#   make soak-bgp   our own BGP engine among a crowd of unruly neighbours, for MINUTES=60; SEED=n repeats
#   make bench   measurements beside what one would use instead
#   make lab     a zone of namespaces on this machine; make lab-down removes it
#   make deb     a Debian package of everything, in build/
#   make image   VM disk, squashfs with kernel and initrd, container archive, list of contents, in build/image/
#   make image-test   boot, update, cut the power, compare two builds: all that is said of the image; ARGS="-k words"
#   make bundle  a signed update of the image, in build/image/; KEYS=directory holds cert.pem and key.pem
#   make clean   remove what was built (the Debian packages stay: .setup/installed-packages.txt names them)
#   make requirements   pin again after a change of requirements*.in; UPGRADE=--upgrade takes the newest

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := setup
.PHONY: setup system venv stubs bpf hot compiled lint test test-fast test-sanitized soak fuzz soak-bgp bench lab lab-down
.PHONY: requirements clean deb image image-test bundle

PYTHON ?= /usr/bin/python3
ARGS ?=
# One more than cores: tests of the zone take the longest and wait often. A few tests are quicker without any worker.
WORKERS ?= $(if $(ARGS),0,$(shell echo $$((1 + $$(nproc)))))
UPGRADE ?=
LAB ?= labs/az/az.clab.yml

# What is compiled is kept, whatever the caller's environment says: tests start our programs hundreds of times.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
MULTIARCH := $(shell uname -m)-linux-gnu
PYTHON_HEADERS = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
HOT_TESTS := $(addprefix tests/unit/routing/bgp/test_,nlri.py table.py scan.py encode.py hot.py) \
	tests/unit/appliance/kernel/test_routecolumns.py
BPF_HEADERS := $(wildcard appliance/kernel/bpf/*.h)
BPF_OBJECTS := $(patsubst %.c,%.o,$(wildcard appliance/kernel/bpf/*.bpf.c bench/bpf/*.bpf.c))

setup: system venv stubs bpf hot

system:
	@tools/setup.sh

# Made anew when the pins change, so that the environment holds what the file says and nothing older.
# Wheels only: building a package would need tools that no hash pins.
.venv/.pinned: requirements-dev.txt | system
	@echo "setup: making .venv from requirements-dev.txt ..."
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.txt
	@touch $@

.venv/.editable: pyproject.toml .venv/.pinned
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@touch $@

venv: .venv/.editable

stubs: venv
	@$(BIN)/python tools/stubs.py

bpf: $(BPF_OBJECTS)

hot: venv
	@$(BIN)/python hatch_build.py

# Before several processes at once find that it is not.
compiled: | setup
	@$(BIN)/python -m compileall -q appliance routing services tests/support

%.bpf.o: %.bpf.c $(BPF_HEADERS) | system
	clang -O2 -g -Wall -target bpf -I/usr/include/$(MULTIARCH) -c $< -o $@

# One target each, so that `make -k lint` says everything at once.
LINTERS := lint-rules lint-format lint-types lint-layers lint-test-names lint-c
.PHONY: $(LINTERS)

lint: $(LINTERS)

$(LINTERS): setup

lint-rules:
	$(BIN)/ruff check

lint-format:
	$(BIN)/ruff format --check

lint-types:
	$(BIN)/mypy

lint-layers:
	$(BIN)/lint-imports

lint-test-names:
	$(BIN)/python tests/filename_matching.py

lint-c:
	clang -fsyntax-only -Wall -Wextra -Wshadow -Wconversion -Werror -isystem $(PYTHON_HEADERS) $(wildcard routing/bgp/*.c appliance/kernel/*.c)

# What up1 of the lab announces; made here so that containerlab finds it too.
FEED := labs/az/up1/feed.conf

$(FEED): tools/feed.py tests/support/feed.py tests/support/routers/bird.py | setup
	@echo "lab: writing $@ ..."
	@$(BIN)/python tools/feed.py > $@

test: setup compiled $(FEED)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

test-fast: setup compiled
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit tests/contract tests/sequences $(ARGS)

# The library of the address sanitizer must be the first there is. Python leaks on purpose when it ends.
test-sanitized: setup
	@$(BIN)/python hatch_build.py .setup/sanitized -g -fsanitize=address,undefined -fno-sanitize-recover
	LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
		$(BIN)/python -c 'import sys, appliance.kernel as a, routing.bgp as b; import pytest; \
		[one.__path__.insert(0, ".setup/sanitized") for one in (a, b)]; sys.exit(pytest.main(sys.argv[1:]))' $(HOT_TESTS) $(ARGS)

COMMITS ?= 10000
STEPS ?= 3000
SEED ?= $(shell date +%s)

soak: SEED := $(SEED)
soak: setup compiled
	@echo "soak: $(COMMITS) commits beside flows that they do not concern; a walk of $(STEPS) steps with seed $(SEED) ..."
	EDGEWAY_COMMITS=$(COMMITS) EDGEWAY_STEPS=$(STEPS) EDGEWAY_SEED=$(SEED) $(BIN)/python -m pytest --show-capture=no \
		tests/packet/test_commits.py tests/packet/test_flow_model.py $(ARGS)

fuzz: MINUTES ?= 10
fuzz: SEED := $(SEED)
fuzz: setup
	@echo "fuzz: twice $(MINUTES) minutes from seed $(SEED) ..."
	$(BIN)/python -m tests.support.fuzzing_engine $(MINUTES) $(SEED)
	EDGEWAY_PURE=1 $(BIN)/python -m tests.support.fuzzing_engine $(MINUTES) $(SEED)

soak-bgp: MINUTES ?= 60
soak-bgp: SEED := $(SEED)
soak-bgp: setup compiled
	@echo "soak-bgp: $(MINUTES) minutes with seed $(SEED) ..."
	EDGEWAY_MINUTES=$(MINUTES) EDGEWAY_SEED=$(SEED) $(BIN)/python -m pytest --capture=no --show-capture=no \
		tests/engines/test_native_soak.py $(ARGS)

bench: setup $(FEED)
	$(BIN)/python -m bench $(ARGS)

lab: setup $(FEED)
	$(BIN)/edgeway lab up $(LAB)

lab-down: setup
	$(BIN)/edgeway lab down $(LAB)

# Without index, host or path, so that the files serve wherever packages come from.
COMPILE := .setup/pip-tools/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-options --no-emit-index-url --no-emit-trusted-host --no-emit-find-links $(UPGRADE)

requirements: system
	@test -x .setup/pip-tools/bin/pip-compile || \
		{ $(PYTHON) -m venv .setup/pip-tools && .setup/pip-tools/bin/pip install --quiet pip-tools; }
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --output-file requirements-dev.txt requirements-dev.in

KEYS ?= build/keys

# Each is made anew only when something that goes into it is newer or another.
deb: setup
	@$(BIN)/python -m images deb

image: setup
	@$(BIN)/python -m images image --keys $(KEYS)

bundle: setup
	@$(BIN)/python -m images bundle --keys $(KEYS)

image-test: setup compiled
	EDGEWAY_IMAGE=all $(BIN)/python -m pytest -v tests/image $(ARGS)

clean:
	rm -rf .venv .setup/pip-tools .setup/sanitized dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f appliance/kernel/bpf/*.bpf.o bench/bpf/*.bpf.o routing/bgp/_hot*.so appliance/kernel/_routecolumns*.so
	find routing/engines/gobgp_api -mindepth 1 ! -name __init__.py -delete
	find appliance routing services images tests tools bench -name __pycache__ -type d -prune -exec rm -rf {} +
