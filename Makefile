# hopwire: every target works on a fresh Debian or Ubuntu machine with Python >= 3.11, make and root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: demo test e2e conformance lint bench bench-picture picture man schema metrics install kernels lock clean help

help:
	@echo "make demo     build two hosts and a router, and show it working (root)"
	@echo "make test     run all tests (root, for those in network namespaces)"
	@echo "make conformance  which rows of docs/conformance.md and docs/nat.md hold, on hopwire and on the kernel (root)"
	@echo "make e2e      the lab of docker-compose.yml on a Docker engine"
	@echo "make lint     ruff, mypy, import-linter"
	@echo "make bench    measure against the kernel's forwarding (root)"
	@echo "make bench-picture  draw docs/pictures/bench.svg from BENCH_JSON, a file of 'hopwire bench --output'"
	@echo "make man      write docs/control-cli.1 anew, from what control-cli's parser reads"
	@echo "make schema   write docs/hopwire.schema.json anew, from the models that check the configuration"
	@echo "make metrics  write docs/metrics.md and Grafana's dashboards anew, from the code"
	@echo "make install  make $(VENV) and compile the kernels"
	@echo "make lock     renew the pinned requirements"

demo: kernels
	@$(BIN)/hopwire demo

# With PYTEST_ARGS only what they say.
test: kernels $(VENV)/.test
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	$(BIN)/python tests/run_all.py
endif

# With a Docker engine, or one that is started for this run only; see tests/e2e/run.
e2e: $(VENV)/.test
	@PYTHON=$(BIN)/python tests/e2e/run $(PYTEST_ARGS)

conformance: kernels $(VENV)/.test
	@PYTHONPATH=tests/integration $(BIN)/python -m suites $(CONFORMANCE_ARGS)

lint: $(VENV)/.runtime $(VENV)/.test $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: kernels
	@$(BIN)/hopwire bench $(BENCH_ARGS)

BENCH_JSON ?= bench.json
bench-picture: $(VENV)/.runtime
	$(BIN)/python -m services.launcher.bench.picture $(BENCH_JSON) > docs/pictures/bench.svg.new && \
		mv docs/pictures/bench.svg.new docs/pictures/bench.svg

picture: kernels
	@$(BIN)/python docs/picture.py

man: $(VENV)/.runtime
	$(BIN)/python -m services.control.cli.manual > docs/control-cli.1.new && mv docs/control-cli.1.new docs/control-cli.1

schema: $(VENV)/.runtime
	$(BIN)/python -m services.control.configuration.schema > docs/hopwire.schema.json.new && \
		mv docs/hopwire.schema.json.new docs/hopwire.schema.json

metrics: $(VENV)/.runtime
	$(BIN)/python -m services.control.monitoring.reference > docs/metrics.md.new && mv docs/metrics.md.new docs/metrics.md
	$(BIN)/python monitoring/grafana/generate.py

install: kernels

kernels: $(VENV)/.runtime
	@$(BIN)/python -m services.common.kernels

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "hopwire needs Python 3.11 or newer; choose one with: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "python3-venv is missing; run: apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.runtime: $(VENV)/.venv requirements/build.txt requirements/runtime.txt pyproject.toml
	@echo "installing dependencies into $(VENV)"
	@$(PIP) --requirement requirements/build.txt
	@$(PIP) --requirement requirements/runtime.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.runtime requirements/test.txt
	@$(PIP) --requirement requirements/test.txt
	@touch $@

$(VENV)/.lint: $(VENV)/.runtime requirements/lint.txt
	@$(PIP) --requirement requirements/lint.txt
	@touch $@

# Pins with hashes for every platform; no registry's address gets into the files. runtime.txt is what all services and
# the launcher need together; each image is built from the part that its service needs, with the same versions.
LOCK = cd requirements && ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header
lock:
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --upgrade service.in kernels.in control.in launcher.in --output-file runtime.txt
	$(LOCK) --constraint runtime.txt service.in --output-file service.txt
	for part in kernels control; do \
		($(LOCK) --constraint runtime.txt service.in $$part.in --output-file $$part.txt) || exit 1; \
	done
	for purpose in build test lint; do \
		($(LOCK) --upgrade $$purpose.in --output-file $$purpose.txt) || exit 1; \
	done

clean:
	rm -rf $(VENV) .kernels build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
