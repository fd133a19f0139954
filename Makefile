# Two commands matter: `make demo` shows the main job, `make test` runs every check.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
EXTRAS := worker,export,postgres,s3,embedded,dev
STAMP := $(VENV)/installed.stamp
PIP := $(BIN)/python -m pip install --quiet --quiet --no-compile --only-binary :all: --constraint constraints.txt
# What no program of ours imports, or a part of it only: compiled when it is.
RARELY_IMPORTED := /(tests?|testing|_inductor|distributed|sympy|networkx|moto|mypyc?|pip|setuptools)/

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# Hundreds of programs start, and three processes of tests rewrite the same assertions: bytecode is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test types lint layers schema collection bench clean

install: $(STAMP)

# The build tools are pinned like everything else, so the project is built with them and not in isolation; pip itself
# is one of them, since old ones take twice the time to resolve and compile on one core. Whatever does not compile is
# of no use to this Python, and nobody's error.
# Of mmdet, tests read the evaluator of VOC's numbers, one module that needs none of what the whole needs.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) (minutes, once)"
	@$(PIP) --upgrade pip
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[$(EXTRAS)]'
	@$(PIP) --no-deps mmdet
	@$(BIN)/python -m compileall -qq -j 2 -x '$(RARELY_IMPORTED)' $(VENV)/lib || true
	@touch $@

demo: install
	@$(BIN)/npuq demo

# Each check stops the run; the tests come last, so that their last line is the last line. Three processes for two
# cores: tests of whole fleets wait as much as they compute.
test: install
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target types lint layers schema collection
	$(BIN)/pytest -q --numprocesses 3 --no-loadscope-reorder

types: install
	$(BIN)/mypy

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

layers: install
	$(BIN)/lint-imports

schema: install
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
		$(BIN)/npuq --home "$$home" db upgrade && $(BIN)/npuq --home "$$home" db check

# Every test can be imported; their bytecode is written once, not by each process of tests.
collection: install
	@found=$$($(BIN)/pytest --collect-only -qq 2>&1) || { echo "$$found"; exit 1; }

bench: install
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
