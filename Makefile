# All the commands of the project, in a virtual environment of its own.
# Needs Python >= 3.11, git and make. Name a Python with: make test PYTHON=/path/to/python

.DEFAULT_GOAL := help
.PHONY: help venv demo test long processors lint types docs notebooks figures check dist package lowest newest api format clean

# The one that made constraints.txt comes first, then those it is known to serve.
PYTHON ?= python3.11 python3.12 python3.13 python3
PIP := .venv/bin/python -m pip --disable-pip-version-check
WHEEL_PIP := .venv-wheel/bin/python -m pip --disable-pip-version-check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A Python without venv or ensurepip (Debian splits them off) cannot make an environment, so it is passed over.
.venv/bin/pip:
	@for python in $(PYTHON); do \
	    if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "$$python -m venv .venv"; exec $$python -m venv .venv; \
	    fi; \
	done; \
	echo "No Python >= 3.11 with venv among: $(PYTHON). Install one (on Debian also python3-venv)," \
	    "or name it: make PYTHON=/path/to/python" >&2; \
	exit 1

# Two stamps, so that the demo installs no tools. Order-only: pip renewing itself is no reason to install again.
.venv/runtime: pyproject.toml constraints.txt | .venv/bin/pip
	$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/runtime
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

venv: .venv/bin/pip  ## make the empty environment, to put a torch build of your choice into it first

demo: .venv/runtime  ## train on example data and write what comes out into demo/
	.venv/bin/eigencode demo --output demo

# One process a core and one thread a process: nearly all networks of the tests are too small for more.
TESTS := -n auto --dist worksteal
test long lowest newest: export OMP_NUM_THREADS := 1

test: .venv/dev  ## run the tests and the examples in the docstrings; a warning is an error
	.venv/bin/pytest $(TESTS) -m 'not long' --doctest-modules src/eigencode tests

long: .venv/dev  ## tests that repeat at scale what shorter ones ask: many seeds, rows, files and processes; whole notebooks
	.venv/bin/pytest $(TESTS) -m long tests

processors: .venv/dev  ## quick tests as on other processors, with 1 and 2 threads, with other seeds (about half an hour)
	.venv/bin/python .ci/processors.py $(TESTS)

lint: .venv/dev  ## check style and format
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: .venv/dev  ## check types
	.venv/bin/mypy

docs: .venv/dev  ## build the documentation into docs/_build/html; a warning or a broken link is an error
	rm -rf docs/_build/html docs/api/pages
	.venv/bin/sphinx-build -E -W --keep-going -b html docs docs/_build/html
	.venv/bin/python .ci/pages.py docs/_build/html

figures: .venv/dev  ## measure the figures of README again and write them into it, about ten minutes
	.venv/bin/python .ci/figures.py

notebooks: .venv/dev  ## run the notebooks again, with their outputs
	.venv/bin/python notebooks/run.py

check: lint types test docs  ## everything that must pass before a change comes in

dist: .venv/dev  ## build sdist and wheel into dist/
	rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt .venv/bin/python -m build

# One more environment, for the wheel alone. `package` begins with an empty one; `lowest` and `newest` change versions in
# place, since most of the time that an environment takes goes into torch, which stays the same.
package: dist  ## install the wheel into an empty environment and try it outside of the repository
	rm -rf .venv-wheel
	.venv/bin/python -m venv .venv-wheel
	$(WHEEL_PIP) install -c constraints.txt dist/*.whl
	$(WHEEL_PIP) check
	cd "$$(mktemp -d)" && $(CURDIR)/.venv-wheel/bin/python -I $(CURDIR)/.ci/smoke.py $(CURDIR)/dist

.venv-wheel/bin/python: | .venv/dev
	.venv/bin/python -m venv .venv-wheel

lowest: dist .venv-wheel/bin/python  ## tests marked `versions`, of the wheel on the lowest versions (torch excepted)
	$(WHEEL_PIP) uninstall -y eigencode
	$(WHEEL_PIP) install -c constraints-lowest.txt "$$(echo dist/*.whl)[test]"
	.venv-wheel/bin/python -m pytest $(TESTS) -m 'versions and not slow' tests

newest: dist .venv-wheel/bin/python  ## quick tests of the wheel on the newest versions (torch excepted)
	$(WHEEL_PIP) uninstall -y eigencode
	grep '^torch==' constraints.txt > .venv-wheel/torch.txt
	$(WHEEL_PIP) install -c .venv-wheel/torch.txt --upgrade --upgrade-strategy eager "$$(echo dist/*.whl)[test]"
	.venv-wheel/bin/python -m pytest $(TESTS) -m 'not slow' tests

api: .venv/dev  ## take the present public API for the one that is promised; see docs/versioning.md
	.venv/bin/python tests/golden/make.py api

format: .venv/dev  ## put the code into the project's format
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

clean:  ## remove all that the other targets made, the environment too
	rm -rf .venv .venv-wheel build dist demo docs/_build docs/api/pages docs/gallery .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
