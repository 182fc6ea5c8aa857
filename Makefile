# One command per wish; `make` alone lists them. Needs python >= 3.11, make and git, nothing else:
# the environment is built in .venv from requirements-dev.lock, whose every file is pinned by hash.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
RUN := $(VENV)/bin/python
LOCKED := $(VENV)/locked
READY := $(VENV)/ready
UV_VERSION := 0.13.8
PROTO := protos/escalation/v1/escalation.proto

# Arguments for the program a target runs: make demo ARGS="--duration-s 10 --seed 1"
ARGS ?=
# Which benchmarks to run: make bench BENCH=frame_lane ARGS="--rounds 3". All but those that have to
# be told which models to compare: make bench BENCH=int8 ARGS="FLOAT INT8".
BENCH ?= $(filter-out int8 fuse_still frontier footage frontier_line,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py)))
# The interpreter to build .venv with; chosen among those installed when not given.
PYTHON ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  Arguments are passed on: make demo ARGS="--duration-s 10 --seed 1 --summary out.json"'

.PHONY: demo
demo: $(READY) ## Run the inspection line with both services and print what escalation bought
	@$(RUN) -m reference_line demo $(ARGS)

.PHONY: test
test: $(READY) ## Run the tests
	@$(RUN) -m pytest $(ARGS)

.PHONY: check
check: $(READY) ## Style, types, layers, generated code, manifests, documents
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m checks.stubs
	$(RUN) -m checks.house
	$(RUN) -m checks.manifests
	$(RUN) -m checks.links

.PHONY: protos
protos: $(READY) ## Generate the stubs of the wire contract
	$(RUN) -m grpc_tools.protoc -I . --python_out=. --grpc_python_out=. --pyi_out=. $(PROTO)

.PHONY: bench
bench: $(READY) ## Print the figures the documentation quotes
	@for name in $(BENCH); do echo "== $$name"; $(RUN) -m "benchmarks.$$name" $(ARGS); done

.PHONY: lock
lock: $(READY) ## Resolve the dependencies anew and write the lock files
	$(RUN) -m pip install --quiet uv==$(UV_VERSION)
	$(RUN) -m uv pip compile pyproject.toml $(LOCK_OPTIONS) --output-file requirements.lock
	$(RUN) -m uv pip compile pyproject.toml $(LOCK_OPTIONS) --output-file requirements-dev.lock \
	    --extra workshop --extra demo --extra dev
	$(RUN) -m uv pip compile --group build $(LOCK_OPTIONS) --output-file requirements-build.lock

# One version for every interpreter from 3.11 on, and nothing in the file about where it was made.
LOCK_OPTIONS := --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet

.PHONY: clean
clean: ## Remove the environment, caches and what demo runs left behind
	rm -rf $(VENV) build dist demo-out *.egg-info .mypy_cache .ruff_cache .pytest_cache \
	    .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment follows the lock file; the project itself is installed in place, so only its
# metadata (commands, entry points) needs renewing when pyproject.toml changes.
$(READY): $(LOCKED) pyproject.toml
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Each candidate is run, not only found: a version manager's stand-in exists without working.
$(LOCKED): requirements-dev.lock
	@recent='import sys; sys.exit(sys.version_info < (3, 11))'; python=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3.14 python3 python); do \
	    if "$$candidate" -c "$$recent" >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "No Python >= 3.11 found$(if $(PYTHON), at $(PYTHON)). Install one, or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" --version), about a minute" >&2; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { echo "Could not create $(VENV): on Debian, install python3-venv" >&2; exit 1; }
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
