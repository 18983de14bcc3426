PYTHON ?= python3
VENV := .venv
CLIENT ?= kafka-python
SCENARIOS ?= 3# at once: most of them wait most of the time, for brokers and sessions that time out
TESTS ?= 3# files at once, for the same reason
BIN := $(VENV)/bin
HELM_VERSION := v3.22.0
KUBECONFORM_VERSION := v0.8.0
GO_INSTALL := GOFLAGS=-buildvcs=false CGO_ENABLED=0 go install
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos lint format bench broker docs demo-model tools dashboards audit sbom kubernetes clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.runtime ## make .venv with the daemon and the demo

demo: setup ## forecast a year of real weather, score it and draw it (no broker needed)
	$(BIN)/streamer demo --output demo-output

test: lint tools ## run every test, against a real Kafka broker too (needs Java and Maven)
	$(BIN)/pytest --numprocesses $(TESTS) --dist loadfile \
		--cov --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

chaos: $(VENV)/.development ## the whole failure-injection suite, real brokers (half an hour; CLIENT=confluent)
	$(BIN)/pytest -m 'chaos or not chaos' tests/chaos --client $(CLIENT) --numprocesses $(SCENARIOS) --dist worksteal \
		--verbose --show-capture=no

lint: $(VENV)/.development ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.development ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.development ## measure throughput, delay, restore, changelog, take-over and many streams, an hour (needs Java and Maven)
	$(BIN)/python -m tests.benchmarks.core_throughput
	$(BIN)/python -W ignore -m tests.benchmarks.daemon_throughput
	$(BIN)/python -m tests.benchmarks.delay
	$(BIN)/python -m tests.benchmarks.restore
	$(BIN)/python -m tests.benchmarks.changelog
	$(BIN)/python -m tests.benchmarks.take_over
	$(BIN)/python -m tests.benchmarks.many_streams

broker: $(VENV)/.runtime ## a throw-away Kafka on 127.0.0.1:9092, until Ctrl-C (ADDRESS=…: on another; needs Java and Maven)
	$(BIN)/python -m tests.integration $(ADDRESS)

docs: $(VENV)/.development ## write the generated tables in docs/ and the chart again
	$(BIN)/python -m tests.streamer.test_settings
	$(BIN)/python -m helm.dashboards

demo-model: $(VENV)/.development ## train the demo's model again (minutes)
	$(BIN)/training fit configs/training/demo.yaml --data streamer/demo/weather.jsonl.gz --output streamer/demo/model.onnx

tools: $(VENV)/.development ## helm, kubeconform and its schemas, for the chart's tests (needs Go; nothing without it)
	@if ! command -v go > /dev/null; then echo "no Go: the chart's tests are skipped but for those that find helm"; \
	else $(MAKE) --no-print-directory .tools/.made || echo "the chart's tools could not be made: see above"; fi

dashboards: $(VENV)/.development ## write the dashboards again, and run their queries on a Prometheus under load (needs one, Java and Maven)
	$(BIN)/python -m helm.dashboards
	$(BIN)/pytest tests/observability tests/integration/test_prometheus.py -s -q

kubernetes: $(VENV)/.development tools ## the chart on a real cluster, minutes (KUBECONFIG=…, IMAGE=…; needs Java and Maven)
	$(BIN)/python -W ignore -m tests.kubernetes --image "$(IMAGE)"

audit: .audit/.made ## review what the image brings along, and search it for known vulnerabilities (asks PyPI)
	$(BIN)/python -m tests.audit .audit/image --requirements .audit/requirements.txt
	@.audit/tools/bin/pip-audit --strict --disable-pip --no-deps --requirement .audit/requirements.txt \
	|| { echo "vulnerable, or not checked: see above; 'not found on PyPI' means that it did not answer"; exit 1; }

sbom: .audit/.made ## write sbom.cdx.json, what the image holds beyond its base (CycloneDX)
	.audit/tools/bin/cyclonedx-py environment .audit/image/bin/python --pyproject pyproject.toml \
	  --short-PURLs --output-reproducible --output-file sbom.cdx.json

clean: ## remove .venv and everything generated
	rm -rf $(VENV) .tools .audit sbom.cdx.json demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tidecast needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# An editable installation compiles the C library once: its source and its builder are prerequisites like the rest.
INSTALLED := pyproject.toml constraints.txt hatch_build.py streamer/adapters/forecast_text.c

$(VENV)/.runtime: $(VENV)/.python $(INSTALLED)
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.development: $(VENV)/.python $(INSTALLED)
	$(PIP) --editable '.[demo,training,dev,fast]'
	@touch $@ $(VENV)/.runtime

.tools/.made: tests/helm/schemas.py Makefile
	mkdir -p .tools
	command -v helm || GOBIN=$(CURDIR)/.tools/bin $(GO_INSTALL) helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)
	command -v kubeconform || GOBIN=$(CURDIR)/.tools/bin $(GO_INSTALL) github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM_VERSION)
	$(BIN)/python -m tests.helm.schemas
	@touch $@

# The image's packages, as its Dockerfile installs them, and the programs that look at them, each apart.
.audit/.made: $(VENV)/.development pyproject.toml constraints.txt
	$(BIN)/python -m venv --clear .audit/tools
	$(BIN)/python -m venv --clear --without-pip .audit/image
	.audit/tools/bin/python -m pip --quiet install pip-audit==2.10.1 cyclonedx-bom==7.5.0
	.audit/tools/bin/python -m pip --quiet --python .audit/image/bin/python install --constraint constraints.txt '.[fast]'
	@touch $@
