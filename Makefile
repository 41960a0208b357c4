# Everything starts here. Needs Python >= 3.11 with venv, a Rust toolchain, git and make.
# `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python >= 3.11 that really runs and can make virtual environments.
RUNS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3.14 python3.13 python3.12 python3.11 python3,$(if $(shell $(name) -c '$(RUNS)' >/dev/null 2>&1 && echo yes),$(name))))

VENV := $(CURDIR)/.venv
PY := $(VENV)/bin/python
export VIRTUAL_ENV := $(VENV)
unexport PYTHONHOME PYTHONPATH

RUST_SOURCES := $(shell find rust -type f \( -name '*.rs' -o -name '*.toml' \) 2>/dev/null)
CRATES := -p fabrik-op -p fabrik-merge
STAMPS := $(VENV)/.stamps
MYPY_PATHS := fabrik_node sync/fabrik_sync demo tests

ONLY ?=
KEEP ?=
FULL ?=
SHARE ?= 1
SECONDS_EACH ?= 2
SEED ?= 1
WRITES ?=
JOBS ?= 2
SOAK ?=

.PHONY: help setup test test-rust test-python previous jitter seeded soak fuzz check check-rust check-python check-docs bench bench-peers demo wheels lock clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

setup: $(STAMPS)/core  ## virtual environment, pinned dependencies, the Rust core, both distributions (editable)

$(STAMPS)/venv: requirements.lock
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 with venv runs here: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(PY) || { echo "setup: virtual environment with $(PYTHON)" >&2; $(PYTHON) -m venv $(VENV); }
	@echo "setup: pinned dependencies" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/sync: $(STAMPS)/venv sync/pyproject.toml
	@echo "setup: fabrik-sync" >&2
	@PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --no-index --no-deps --no-build-isolation --editable sync
	@touch $@

$(STAMPS)/core: $(STAMPS)/sync pyproject.toml Cargo.toml Cargo.lock $(RUST_SOURCES)
	@command -v cargo >/dev/null || { echo "no cargo: install a Rust toolchain (see rust-version in Cargo.toml)" >&2; exit 1; }
	@echo "setup: the Rust core and fabrik-node; a minute or two from nothing" >&2
	@PIP_NO_INDEX=1 PIP_QUIET=1 $(VENV)/bin/maturin develop --release --locked --quiet >&2
	@touch $@

test: test-rust test-python  ## everything that must pass: cargo test, then pytest with JOBS=2 files at a time

test-rust: setup
	cargo test --release --locked --quiet $(CRATES)

test-python: setup previous
	$(PY) -m pytest --numprocesses $(JOBS) --dist loadfile

previous: setup  ## the previous build from this repository's history, for the tests of a mesh with both
	@$(PY) tests/mixed/previous.py

jitter: setup  ## tests of one process with everything that may be late late, by SEED=1; ONLY=tests/unit/node for some
	FABRIK_JITTER=$(SEED) $(PY) -m pytest --numprocesses $(JOBS) --dist loadfile $(if $(ONLY),$(ONLY),tests/unit tests/integration)

seeded: setup  ## plant known bugs in a copy of the sources, one by one: the tests must notice each; ONLY=word for some, SHARE=3 for a third of them
	@$(PY) tests/seeded/run.py --share $(SHARE) $(if $(ONLY),--only "$(ONLY)")

soak: setup  ## 8 agents, 100 items, nodes and commands killed at random: each merged once; SOAK="--seed 7 --items 20" for another one
	@$(PY) tests/soak/run.py $(SOAK)

fuzz:  ## feed the core's decoders and chains corpus and chance, SECONDS_EACH=2 per target, SEED=1; ONLY=target for one
	@cd rust/fuzz && CARGO_TARGET_DIR=$(CURDIR)/target/fuzz cargo run --release --locked --quiet --example drive -- --seconds $(SECONDS_EACH) --seed $(SEED) $(ONLY)

check: check-python check-rust check-docs  ## formatting, lints, types, import rules, the core's stub, documents

check-python: setup
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/mypy $(MYPY_PATHS)
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -m mypy.stubtest fabrik_node._core --allowlist tests/tidy/stubtest_allowlist.txt

check-rust:
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets --quiet -- -D warnings
	cd rust/fuzz && cargo fmt --check && CARGO_TARGET_DIR=$(CURDIR)/target/fuzz cargo clippy --release --locked --lib --examples --quiet -- -D warnings

check-docs: setup
	$(PY) -m pytest --quiet tests/tidy

bench: setup  ## one JSON line per benchmark; ONLY=name for one, FULL=1 for the full sizes
	@$(PY) tests/bench/suite.py $(if $(ONLY),--only $(ONLY)) $(if $(FULL),--full)

bench-peers: $(STAMPS)/peers  ## this core beside pycrdt, loro and automerge, into docs/benchmarks.md; WRITES=1000 for a quick look on the terminal only
	@$(VENV)/peers/bin/python tests/bench/peers/compare.py $(if $(WRITES),--writes $(WRITES),--write-report)

$(STAMPS)/peers: $(STAMPS)/core tests/bench/peers/requirements.lock
	@test -x $(VENV)/peers/bin/python || $(PY) -m venv $(VENV)/peers
	@echo "bench-peers: the libraries to compare with, in an environment of their own" >&2
	@$(VENV)/peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/bench/peers/requirements.lock
	@touch $@

demo: setup  ## the main job on this machine: three nodes, a killed agent, every item merged once; KEEP=1 keeps the folder
	@$(PY) demo/run.py $(if $(KEEP),--keep)

wheels: setup  ## both wheels into dist/
	$(VENV)/bin/maturin build --release --locked --out dist --quiet
	$(PY) -m pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir dist ./sync
	@ls dist/*.whl

lock: $(STAMPS)/venv  ## pin the newest allowed dependencies with hashes; run it with the oldest supported Python
	@$(PY) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "make lock wants Python 3.11, the oldest supported: markers of newer ones are a subset")'
	$(PY) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*(d for d in p["dependencies"] + p["optional-dependencies"]["dev"] if not d.startswith("fabrik-")), sep="\n")' > $(STAMPS)/lock.in
	CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-annotate \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --output-file requirements.lock $(STAMPS)/lock.in

clean:  ## everything that was built
	rm -rf $(VENV) target dist build .hypothesis .mypy_cache .ruff_cache .pytest_cache fabrik_node/_core*.so sync/*.egg-info
