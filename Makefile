# Every daily verb of batchpoint; `make` alone lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
PY := .venv/bin/python
UV := .venv/bin/uv
T ?=

# pip reads a site's mirror settings by itself; uv knows them under other names. What is set for uv wins.
UV_SITE = export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null || true)}}"; \
	[ -n "$$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX; \
	[ -z "$${PIP_CERT:-}" ] || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; \
	export UV_HTTP_TIMEOUT="$${UV_HTTP_TIMEOUT:-180}";

.PHONY: help
help: ## List the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

.PHONY: setup
setup: .venv/.installed ## Make .venv with everything the other verbs need (does nothing when up to date)

.venv/.bootstrapped: requirements/bootstrap.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "batchpoint needs Python 3.11 or newer; try: make setup PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@touch $@

.venv/.installed: .venv/.bootstrapped pyproject.toml requirements/dev.lock
	@$(UV_SITE) $(UV) pip install --quiet --no-config --compile-bytecode --require-hashes --python $(PY) -r requirements/dev.lock
	@$(UV_SITE) $(UV) pip install --quiet --no-config --no-build-isolation --no-deps --python $(PY) -e .
	@touch $@

# Servers that tests start (tests/servers): Node's come from npm, with the Node of this machine or of .venv.
tests/servers/node_modules/.installed: .venv/.installed tests/servers/package-lock.json
	@$(PY) -m tests.servers.node_runtime
	@touch $@

.PHONY: demo
demo: setup ## Train the heart classifier, deploy it and score a folder with it
	bash examples/heart-classifier-mlflow/deploy-and-run.sh

.PHONY: test
test: setup tests/servers/node_modules/.installed ## Run the quick tests (T=path or T="-k word" for some of them)
	$(PY) -m pytest -m "not slow and not network and not heavy" $(T)

.PHONY: test-examples
test-examples: setup ## Run all examples as their READMEs say, PyTorch and TensorFlow included, and time them
	$(PY) -m pytest --durations=0 --durations-min=5 tests/test_examples.py tests/examples $(T)

.PHONY: torture
torture: setup tests/servers/node_modules/.installed ## Run the long tests: real processes killed, filled and hung
	$(PY) -m pytest -m "slow and not network" $(T)

.PHONY: lint
lint: setup ## Check style, types, floors and spelling
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 .venv/bin/pyright --warnings
	.venv/bin/lint-imports --no-cache
	.venv/bin/vermin --quiet --no-tips --violations --target=3.8- src/batchpoint_worker
	.venv/bin/codespell

.PHONY: format
format: setup ## Repair what ruff can repair
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

.PHONY: bench
bench: setup ## Print our speed next to the hand-written limit
	$(PY) -m bench

.PHONY: docs
docs: setup ## Write the list of modules into docs/architecture.md
	$(PY) docs/module_list.py

.PHONY: lock
lock: .venv/.bootstrapped ## Pin every dependency anew (U=--upgrade for the newest)
	@$(UV_SITE) env -u UV_FIND_LINKS $(UV) pip compile --quiet --no-config --universal --generate-hashes --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(U) \
		--all-extras --group dev --group examples pyproject.toml --output-file requirements/dev.lock
	@$(UV_SITE) echo uv | env -u UV_FIND_LINKS $(UV) pip compile --quiet --no-config --universal --generate-hashes --python-version 3.11 \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
		--constraints requirements/dev.lock - --output-file requirements/bootstrap.lock

.PHONY: clean
clean: ## Remove .venv and everything generated
	rm -rf .venv tests/servers/node_modules .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find src tests bench sim examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
