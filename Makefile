# `make demo` and `make test` are all a newcomer needs: both make .venv and install the pinned dependencies first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two processes on two cores; torch would otherwise start as many threads in each.
WORKERS ?= auto

.PHONY: install browser demo phone-data test test-all matrix fast trl-range quality bench docs clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt "pip>=25"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

# A browser for the tests of the phone in Chromium, which are skipped without one. Debian's, as root or with sudo.
browser:
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
	command -v $$name > /dev/null && exit 0; done; \
	if [ "$$(id -u)" != 0 ]; then sudo=sudo; fi; \
	$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium-headless-shell

# Train a small model with IGPO on multi-turn search questions, on a CPU. ARGS passes arguments: make demo ARGS="--help"
demo: $(INSTALLED)
	$(BIN)/trl-multiturn demo $(ARGS)

# Demonstrations on the phone in the form of the published Mobile-R1 data: 500 trajectories in runs/phone-data.
phone-data: $(INSTALLED)
	$(BIN)/trl-multiturn phone-data $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# Everything, also what CI runs only a selection of: hours on two cores.
test-all: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS) -m "" $(ARGS)

# The support matrix in docs/: runs the cells that have not been run, about half an hour of one core for all. ARGS="--help" lists choices.
matrix: $(INSTALLED)
	$(BIN)/python -m tests.matrix $(ARGS)

fast: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not exhaustive" $(ARGS)

# The tests that stand on TRL, on the oldest and the newest supported TRL and transformers: docs/results/trl_range.md.
# ARGS="--versions 1.13.0" tries others.
trl-range: $(INSTALLED)
	$(BIN)/python -m tests.trl_range $(ARGS)

quality: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Minutes each; see benchmarks/README.md.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.belief_scoring
	$(BIN)/python -m benchmarks.step_overhead
	$(BIN)/python -m benchmarks.tool_concurrency
	$(BIN)/python -m benchmarks.gain_share

docs: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
