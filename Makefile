# Needs Python 3.11 or newer and a package index; everything else goes into .venv and .tox.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help venv test check demo bench soak coverage format clean
.DELETE_ON_ERROR:

# The first Python that is new enough; a name alone proves nothing (it may be a shim), so each is run.
PYTHON ?= $(shell for python in python3.11 python3 python3.14 python3.13 python3.12 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$python; break; }; done)
JOBS ?= auto
BIN := .venv/bin
PROJECTS := core/pyproject.toml $(sort $(wildcard plugins/*/pyproject.toml contrib/*/pyproject.toml))
FOLDERS := $(PROJECTS:/pyproject.toml=)
SOURCES := $(wildcard $(addsuffix /src,$(FOLDERS)))
TESTED := $(shell grep -l '^\[dependency-groups\]' $(PROJECTS))
STAMP := .venv/installed

help:  ## say what can be made
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

venv: $(STAMP)  ## make .venv: the tools, and every package editable

# Made anew when a pyproject.toml changes or a package comes or goes.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(FOLDERS))
.PHONY: $(STAMP)
endif
$(STAMP): pyproject.toml $(PROJECTS)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group dev
	$(BIN)/python -m pip install --quiet --no-build-isolation $(addprefix -e ./,$(FOLDERS)) \
		$(foreach project,$(TESTED),--group $(project):test)
	@echo "$(FOLDERS)" > $@

test: $(STAMP)  ## run the tests of every package on every Python found (the tox matrix)
	$(BIN)/tox run-parallel --parallel $(JOBS) --parallel-no-spinner

check: $(STAMP)  ## lint, format, types, layering, house rules, documents
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(SOURCES)
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -q -m check tests core/tests/test_static_typing.py

demo: $(STAMP)  ## audit the packages installed here, kill the audit, go on, answer its question, look at the run
	$(BIN)/flow plugins list
	$(BIN)/python examples/dependency_audit/demo.py

bench: $(STAMP)  ## measure what a step, a run and a start cost
	$(BIN)/python -m tests.benchmarks

soak: $(STAMP)  ## crash, race and damage stored runs for half an hour; figures go to build/reliability.txt
	FLOW_TEST_SOAK=1 $(BIN)/python -m pytest -q tests/reliability

coverage: $(STAMP)  ## run all tests in .venv and say which lines they miss
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q tests $(wildcard $(addsuffix /tests,$(FOLDERS)))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: $(STAMP)  ## repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove everything that was made here
	rm -rf .venv .tox .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +
