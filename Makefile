# Two commands: `make learn` for learners, `make test` for everything that is tested.
# PYTHON=python3.12 names another Python; TORCH=cpu, cuda or default chooses the build of torch.

SHELL := /bin/sh
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; \
	done; echo python3)
TORCH ?= auto
CPU_INDEX := https://download.pytorch.org/whl/cpu
WORKERS ?= 2
CHECK ?=
ARGS ?=
ifdef VIRTUAL_ENV
unexport VIRTUAL_ENV
endif
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
RUN := $(BIN)/python

.PHONY: help learn test test-full lint format build book clean
help:
	@echo 'make learn            set up, look at the machine, open the next lesson'
	@echo 'make learn CHECK=1    the same without staying open; grades a lesson at the end'
	@echo 'make test             install what tests need and run all of them'
	@echo 'make test-full        the same with 20 seeds and nothing cached (long)'
	@echo 'make lint | format    ruff'
	@echo 'make build            lessons and executed solutions from their sources (minutes)'
	@echo 'make book             the web site of the course, in build/book/html (a minute or two)'
	@echo 'make clean            caches and the environment; your answers in work/ stay'

learn: $(VENV)/.learn
	@$(RUN) -m coursework learn $(if $(CHECK),--check) $(ARGS)

test: $(VENV)/.test lint
	$(RUN) -m coursework build --check
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-full: $(VENV)/.test lint
	$(RUN) -m coursework build --check
	OMP_NUM_THREADS=1 COURSE_SEEDS=20 COURSE_CACHE=off \
		$(RUN) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(VENV)/.test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

build: $(VENV)/.test
	$(RUN) -m coursework build $(ARGS)

# REPOSITORY=owner/name on GitHub gives the book links to Colab, Binder and the source.
book: $(VENV)/.book
	$(RUN) docs/build.py $(if $(REPOSITORY),--repository $(REPOSITORY)) $(ARGS)

clean:
	rm -rf build/book build/screenshots
	rm -rf $(VENV) .course-cache .pytest_cache .ruff_cache .hypothesis

# The environment. Stamps say what was installed, so that nothing is installed twice; with what
# the tests need, what lessons need is there, too.

$(VENV)/.learn: pyproject.toml constraints.txt $(VENV)/.made
	@if [ -e $(VENV)/.test ]; then $(MAKE) --no-print-directory $(VENV)/.test; else \
		$(MAKE) --no-print-directory install EXTRA=; fi
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/.made
	@$(MAKE) --no-print-directory install EXTRA='[test]'
	@touch $@

# Sphinx and its theme are not needed to learn or to test: only the book asks for them.
$(VENV)/.book: pyproject.toml constraints.txt $(VENV)/.made
	@if [ -e $(VENV)/.test ]; then $(MAKE) --no-print-directory install EXTRA='[test,book]'; else \
		$(MAKE) --no-print-directory install EXTRA='[book]'; fi
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo \
		'There is no $(PYTHON). Install Python 3.11 or newer: https://www.python.org/downloads/'; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"The course needs Python 3.11 or newer, and $(PYTHON) is" \
		"$$($(PYTHON) -c 'import platform; print(platform.python_version())')." \
		'If a newer one is installed, name it: make PYTHON=python3.12 learn'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo \
		'This Python comes without venv. On Debian and Ubuntu: sudo apt install python3-venv'; \
		exit 1; }
	@echo 'Making $(VENV) with '$$($(PYTHON) --version)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# On Linux, PyPI's torch brings CUDA: gigabytes that a machine without such a GPU has no use for.
.PHONY: install
install:
	@torch='$(TORCH)'; \
	if [ "$$torch" = auto ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null \
		&& $(RUN) -c "import urllib.request as u; u.urlopen('$(CPU_INDEX)/torch/', timeout=5)" \
		2>/dev/null; then torch=cpu; fi; \
	if [ "$$torch" = cpu ]; then \
		echo 'Installing torch for the CPU (TORCH=cuda for another)'; \
		$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt \
			--extra-index-url $(CPU_INDEX) torch; fi
	@echo 'Installing the packages of constraints.txt (a few minutes, once)'
	@$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.$(EXTRA)'
