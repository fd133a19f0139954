# Two commands matter: `make demo` shows the main job, `make test` runs every check.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
EXTRAS := worker export postgres s3 embedded dev
STAMP := $(VENV)/installed.stamp
PIP := $(BIN)/python -m pip install --quiet --quiet --no-compile --only-binary :all: --constraint constraints.txt
PIP_FROM_OUTSIDE := $(PYTHON) -m pip --python $(BIN)/python install --no-compile --constraint constraints.txt pip
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
COMPILE = $(BIN)/python -m compileall -qq -x '/($(subst $(space),|,$(strip $(RARELY_IMPORTED) $(1))))/' $(VENV)/lib
comma := ,
space := $() $()
# Folders of libraries that no program of ours imports, or a part of them only: compiled when they are.
RARELY_IMPORTED := tests? testing _vendor _inductor distributed sympy networkx moto mypyc? pip setuptools hypothesis \
	transformers quantization reference tools distutils signal lexers prompt_toolkit wcwidth v1

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# Hundreds of programs start, and three processes of tests rewrite the same assertions: bytecode is kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install by-uv libraries torch project by-pip demo test types lint layers schema collection bench clean

install: $(STAMP)

# pip reads all of a person's configuration, uv is several times as quick: pip has to do what uv cannot. Of mmdet, tests
# read the evaluator of VOC's numbers, one module that needs none of what the whole needs.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PIP_FROM_OUTSIDE) >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@echo "installing the pinned dependencies into $(VENV) (a minute, once)"
	@$(MAKE) --no-print-directory by-uv \
		|| { echo "uv could not install them; pip tries, which takes longer"; $(MAKE) --no-print-directory by-pip; }
	@touch $@

# uv knows of pip's configuration only what it is told.
by-uv:
	@$(PIP) uv
	@index=$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}; \
		test -z "$$index" || export UV_DEFAULT_INDEX="$$index"; \
		$(MAKE) --no-print-directory --jobs 2 libraries torch && $(MAKE) --no-print-directory project

# Whatever does not compile is of no use to this Python, and nobody's error.
libraries:
	@$(UV) --no-build --requirement pyproject.toml $(addprefix --extra ,$(filter-out export,$(EXTRAS)))
	@$(call COMPILE,torch) || true

# By far the largest, so it has a core of its own; by pip, whose configuration says where builds for the CPU lie.
torch:
	@$(PIP) --no-deps torch
	@$(call COMPILE)/python*/site-packages/torch || true

# The build tools are pinned like everything else, so the project is built with them and not in isolation.
project:
	@$(UV) --no-build --requirement pyproject.toml $(addprefix --extra ,$(EXTRAS)) hatchling editables
	@$(UV) --no-deps --no-build-isolation --editable .
	@$(UV) --no-deps --no-build mmdet

by-pip:
	@$(PIP) --upgrade pip  # the one that comes with Python takes twice the time to resolve
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[$(subst $(space),$(comma),$(EXTRAS))]'
	@$(PIP) --no-deps mmdet
	@$(call COMPILE) -j 2 || true

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
