# `make lab` opens the course, `make test` tests it; both set everything up in .venv first, and only once.
#
#   PYTHON=python3.12     the Python to use (3.11 or newer)
#   TORCH=cpu             which build of PyTorch: cpu (saves gigabytes on Linux without an NVIDIA card), cu126, cu128, ...
#                         default: the one that pip takes by itself
#   PORT=8888 ARGS=...    for JupyterLab

PYTHON ?= python3
PORT ?= 8888
VENV := .venv
BIN := $(VENV)/bin
export JUPYTER_PREFER_ENV_PATH = 1

# PyTorch publishes its CPU and CUDA builds in one index each.
ifdef TORCH
TORCH_INDEX := --extra-index-url https://download.pytorch.org/whl/$(TORCH)
endif
# In a container one is often root, which Jupyter accepts only if told so.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH_INDEX)

.PHONY: help lab test lessons book lint clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,7s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"This needs Python 3.11 or newer, and {sys.executable} is {v[0]}.{v[1]}.\n  Say which one to use: make lab PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "  The virtual environment could not be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# Each stamp is renewed when the requirements change.
$(VENV)/.lab: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up .venv for the lab (once; a few minutes) ..."
	@$(PIP) -e '.[lab]'
	@touch $@

$(VENV)/.test: $(VENV)/.lab
	@echo "Adding what the tests need ..."
	@$(PIP) -e '.[lab,test]'
	@touch $@

$(VENV)/.book: $(VENV)/.test
	@echo "Adding what the book needs ..."
	@$(PIP) -e '.[lab,test,book]'
	@touch $@

lab: $(VENV)/.lab
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --port=$(PORT) $(ALLOW_ROOT) --LabApp.default_url=/lab/tree/lessons/00_start_here.ipynb $(ARGS)

# One process a core, and one thread in each: the models are tiny, and threads would only wait for one another.
test: export OMP_NUM_THREADS = 1
test: JOBS = -n logical --dist loadfile
test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(JOBS) $(ARGS)
	MDMCOURSE_PROGRESS=$(CURDIR)/$(VENV)/progress.json $(BIN)/python -m pytest $(JOBS) --nbval-lax --nbval-current-env --nbval-cell-timeout=120 lessons

lint: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Execute again the notebooks that changed since their outputs were stored (ALL=1: all of them).
lessons: $(VENV)/.test
	$(BIN)/python lessons/execute.py $(if $(ALL),--all)

book: $(VENV)/.book
	$(BIN)/python book/build.py

clean:
	rm -rf $(VENV) dist build book/_build book/vendor book/checks book/node_modules
