SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install kafka clients demo screenshots test chaos soak fuzz bench lint format lock clean

VENV := .venv
BIN := $(VENV)/bin
FUZZ := event bulk item erasure body retrain filters credentials
FUZZ_S := 60
INSTALLED := $(VENV)/.installed

# Options for the command behind a goal: `make demo ARGS="--stay"`. The words that begin with dashes in
# `make demo -- --stay` reach make as goals of their own: they are passed on, and there is nothing to make of them.
override ARGS += $(filter --%,$(MAKECMDGOALS))
--%:
	@:

help:  ## Show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

install: $(INSTALLED)  ## Set up .venv with every pinned dependency (2.5 GB, minutes once, then nothing)

$(INSTALLED): constraints.txt pyproject.toml clients/python/pyproject.toml tools/install
	@tools/install $(VENV)
	@touch $@

kafka:  ## Fetch the jars of Apache Kafka into ~/.cache/headrace (43 MB, once; needs Java 17 and Maven)
	@tools/kafka

# What npm installs, by the lock file; it reads your own configuration.
NODE := clients/typescript
NODE_PACKAGES := $(NODE)/node_modules/.package-lock.json

$(NODE_PACKAGES): $(NODE)/package.json $(NODE)/package-lock.json
	@command -v npm >/dev/null || { echo "make: needs Node.js 18 or newer with npm" \
		"(on Debian and Ubuntu: apt install nodejs npm)." >&2; exit 1; }
	@npm ci --silent --prefix $(NODE)
	@touch $@

clients: install $(NODE_PACKAGES)  ## Make the clients anew from the API's document, after a change of it (needs Node.js)
	@$(BIN)/python tools/client_code.py
	@$(BIN)/headrace openapi > $(NODE)/openapi.json
	@npm run --silent --prefix $(NODE) generate
	@npm run --silent --prefix $(NODE) build

demo: install  ## Run the main job live on real ratings; ARGS="--stay" leaves it up
	@$(BIN)/headrace demo $(ARGS)

DEMO := build/demo/stack

screenshots: install  ## Take the pictures in docs/ anew, from the demo that `make demo -- --stay` left up (needs Chromium)
	@$(BIN)/python tools/screenshots.py $(DEMO)

# Three at a time: most of them wait for processes that they have started.
test: install kafka $(NODE_PACKAGES)  ## Run the tests; ARGS="tests/local -x" chooses
	@$(BIN)/python -m pytest --numprocesses 3 $(ARGS)

chaos: install kafka  ## Kill workers, broker and Redis over 100,000 events, swap 1,000 versions (15 minutes); CHAOS_SEED=N repeats a run
	@$(BIN)/python -m pytest tests/chaos/full.py tests/serving/full_swaps.py tests/serving/full_training_bench.py tests/console/full_pages.py -s --show-capture=no $(ARGS)

soak: install  ## Watch the console's memory over an hour with every page open (needs Chromium); SOAK_MINUTES=5 is a try
	@$(BIN)/python -m pytest tests/console/full_hour.py -s --show-capture=no $(ARGS)

# Atheris stays out of .venv: it has no wheel for Python 3.10, and is of use here alone.
fuzz: install  ## Fuzz what reads foreign bytes, FUZZ_S=60 seconds each; FUZZ="event body" chooses; finds go to build/fuzz
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --upgrade --target build/fuzz/lib --requirement tools/fuzz.txt
	@for target in $(FUZZ); do echo "--- $$target"; \
	  PYTHONPATH="build/fuzz/lib:$(CURDIR)" $(BIN)/python tests/fuzz/run.py $$target build/fuzz $(FUZZ_S) || exit 1; done

bench: install  ## Measure the streams (half an hour, on a machine that does nothing else); JSON in build/
	@$(BIN)/headrace bench streams --json build/streams.json $(ARGS)

lint: install  ## Check style, types and the imports between the parts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@PATH="$(CURDIR)/$(BIN):$$PATH" lint-imports

format: install  ## Put the code in order: imports, layout, what ruff mends by itself
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

# The images' files hold the same pins as constraints.txt, fewer of them.
PIN := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.10 --generate-hashes \
	--no-header --no-annotate --no-emit-package headrace
UPGRADE := --upgrade

lock: install  ## Renew the pinned dependencies; UPGRADE= keeps the versions that still fit
	@$(PIN) $(UPGRADE) --group dev --all-extras --output-file constraints.txt
	@$(PIN) --upgrade --constraints constraints.txt --group build --extra streams --extra serving --extra tracing \
		--output-file constraints-serving.txt
	@$(PIN) --upgrade --constraints constraints.txt --group build --extra streams --extra training --extra tracing \
		--output-file constraints-training.txt

clean:  ## Remove .venv, build/ and caches; the local stack's data in .headrace stays
	@rm -rf clients/python/build clients/python/src/*.egg-info $(NODE)/node_modules $(NODE)/dist
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
