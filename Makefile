PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos lint format bench broker docs demo-model clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.runtime ## make .venv with the daemon and the demo

demo: setup ## forecast a year of real weather, score it and draw it (no broker needed)
	$(BIN)/streamer demo --output demo-output

test: lint ## run every test, against a real Kafka broker too (needs Java and Maven)
	$(BIN)/pytest --cov --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

chaos: $(VENV)/.development ## the whole failure-injection suite, against real brokers (an hour)
	$(BIN)/pytest -m 'chaos or not chaos' tests/chaos -s

lint: $(VENV)/.development ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.development ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.development ## measure throughput, restore, changelog and take-over, minutes (needs Java and Maven)
	$(BIN)/python -m tests.benchmarks.core_throughput
	$(BIN)/python -m tests.benchmarks.restore
	$(BIN)/python -m tests.benchmarks.changelog
	$(BIN)/python -m tests.benchmarks.take_over

broker: $(VENV)/.runtime ## a throw-away Kafka on 127.0.0.1:9092, until Ctrl-C (needs Java and Maven)
	$(BIN)/python -m tests.integration

docs: $(VENV)/.development ## write the generated tables in docs/ again
	$(BIN)/python -m tests.streamer.test_settings

demo-model: $(VENV)/.development ## train the demo's model again (minutes)
	$(BIN)/training fit configs/training/demo.yaml --data streamer/demo/weather.jsonl.gz --output streamer/demo/model.onnx

clean: ## remove .venv and everything generated
	rm -rf $(VENV) demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tidecast needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.development: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) --editable '.[demo,training,dev,fast]'
	@touch $@ $(VENV)/.runtime
