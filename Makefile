# Everything that people and CI run. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODES ?= 1
PORT ?= 9092
SEED ?= 1
# Most tests wait for processes more than they compute.
WORKERS ?= $(shell echo $$((2 * $$(nproc 2>/dev/null || echo 2))))
CONFIG ?= redis-agent.yaml
.DEFAULT_GOAL := help

.PHONY: help
help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	@echo "making the virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed; this is $$($(PYTHON) --version). Name another: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing the locked packages (about 2 GB, a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements-dev.lock $(VENV)/.runtime
	@echo "installing the locked packages for tests"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: setup
setup: $(VENV)/.runtime ## Virtual environment with the locked packages; needs nothing but Python

.PHONY: setup-test
setup-test: $(VENV)/.test ## Besides, what the tests need: tools, redis-server, Java and Maven, Chromium
	@./deploy/test-packages.sh

.PHONY: demo
demo: setup ## Two datacentres of real Redis, one dies, a client follows the name
	@$(BIN)/redis-agent demo

.PHONY: test
test: setup-test ## The answer in minutes: every test but the long ones, with real Kafka, Redis and Chromium
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not long"

.PHONY: test-all
test-all: test ## Besides, outages, samples of the matrices and the long stories (SEED=N chooses the samples)
	@$(BIN)/python -m pytest -n $(WORKERS) -m long --seed $(SEED)

.PHONY: chaos
chaos: setup-test ## The matrices whole (SEED=N); not part of CI
	@$(BIN)/python -m pytest -n $(WORKERS) -m matrix --whole --seed $(SEED)

.PHONY: check
check: $(VENV)/.test ## Format, lint, types, import contracts, protos, generated code, manifests
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/buf lint
	@./proto/breaking.sh
	@./proto/check-generated.sh
	@$(BIN)/python deploy/check.py

.PHONY: proto
proto: $(VENV)/.test ## Regenerate redis_agent/v1 from proto/
	@./proto/generate.sh

.PHONY: proto-baseline
proto-baseline: $(VENV)/.test ## Keep today's descriptors as what later changes of the protos are compared with
	@$(BIN)/buf build --exclude-source-info -o proto/baseline.binpb

.PHONY: format
format: $(VENV)/.test ## Format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lock
lock: $(VENV)/.test ## Resolve the dependencies anew, with hashes and without addresses
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --extra dev pyproject.toml -o requirements-dev.lock

.PHONY: bench
bench: setup-test ## The figures of benchmarks/README.md
	@$(BIN)/python -m benchmarks.all

.PHONY: model
model: setup-test ## Record healthy traffic of real Redis and train the base model anew (about 10 minutes)
	@$(BIN)/python -m benchmarks.base_model

.PHONY: kafka
kafka: setup ## A real Apache Kafka in the foreground (NODES=3 for three, PORT=9092)
	@$(BIN)/python -m simulator.kafka_broker --nodes $(NODES) --port $(PORT)

.PHONY: up
up: setup ## All services on this machine in the background (CONFIG=redis-agent.yaml)
	@./deploy/background.sh up $(CONFIG)

.PHONY: down
down: ## Stop what `make up` started
	@./deploy/background.sh down
