# Every target that needs the virtual environment makes it first: `make demo` is enough on a fresh clone.
SHELL := /bin/sh
BIN := .venv/bin
PYTEST := $(BIN)/pytest
.DEFAULT_GOAL := help
# Tests and demo start hundreds of processes: with our modules kept compiled each starts in half the time.
unexport PYTHONDONTWRITEBYTECODE
# A file of tests stays with one worker, so that what it makes for all of them is made once. Tests of whole systems
# mostly wait: one worker more than there are cores keeps these busy. More than four gain little.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); [ $$n -lt 3 ] && echo $$((n + 1)) || echo 4)
.PHONY: help ready setup demo test check lint types imports sizes bench soak gen gen-check clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

ready:
	@sh tools/setup.sh --if-needed

setup: ## Create .venv and fetch what the tests and the demo need (no root)
	@sh tools/setup.sh

demo: ready ## Five simulated boards, two outages, one model update; KEEP=1 leaves the page open
	@$(BIN)/edgewise demo $(if $(KEEP),--keep)

test: ready ## Run the tests on all cores at once (ARGS="-k word" selects, JOBS=1 takes one)
	$(PYTEST) $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile --no-loadscope-reorder) $(ARGS)

check: lint types imports gen-check sizes ## Lint, types, imports, generated files, sizes, MicroPython syntax

lint: ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: ready
	$(BIN)/pyright

imports: ready
	$(BIN)/lint-imports --no-logo

sizes: ready
	$(BIN)/python -m tools.sizes

bench: ready ## Print measurements beside what they are compared with (ARGS=name selects)
	$(BIN)/python -m tools.bench $(ARGS)

soak: ready ## Run the long tests that `make test` leaves out
	$(PYTEST) -m soak $(ARGS)

gen: ready ## Rebuild generated files
	$(BIN)/python -m tools.gen

gen-check: ready ## Fail when a generated file differs from its source
	$(BIN)/python -m tools.gen --check

clean: ## Remove what was built and fetched; keep .venv
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .venv/.setup-stamp
	find . -name .venv -prune -o \( -name __pycache__ -o -name '*.mpy' -o -name '*.egg-info' \) -print0 | xargs -0 rm -rf
