# Quicklime from a bare checkout. Needs make and Python 3.11 or newer; everything else is fetched into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.stamp-setup

.DEFAULT_GOAL := help
.PHONY: help setup ldap up test check demo demo-data screenshots bench

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(READY) ## install into .venv what requirements.lock names, by hash

ldap: setup ## install the extra for sign-in by a directory, built here: a C compiler, libldap2-dev and libsasl2-dev
	@if command -v uv >/dev/null; then \
	  uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-ldap.lock; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-ldap.lock; \
	fi

up: setup ## run a whole CA in the foreground; flags: make up ARGS='--zone fleet.internal'
	@$(BIN)/quicklime up $(ARGS)

test: setup ## the whole suite on PostgreSQL and Redis, and what has a database on the embedded default
	@tests/run $(BIN)/python $(ARGS)

check: export QUICKLIME_STATE := $(shell mktemp -d -u)
check: setup ## format, lint, types, import contracts, missing migrations, Django's deployment checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check --deploy --fail-level WARNING
	@rm -rf "$$QUICKLIME_STATE"

demo: setup ## a short tour of a private instance
	@demo/tour $(BIN)

demo-data: setup ## a state directory, demo-state, in which 50 services have lived with Quicklime for half a year
	@$(BIN)/python demo/data.py $(or $(ARGS),demo-state)

screenshots: setup ## the pictures of docs/, of a private instance with demo data; needs chromium
	@$(BIN)/python demo/screenshots.py docs

bench: setup ## side by side with the peers, which it installs
	$(BIN)/python -m benchmarks $(ARGS)

# A changed lock or pyproject.toml makes the environment anew; a failed attempt leaves no stamp.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Quicklime needs Python 3.11 or newer: make PYTHON=/path/to/it")'
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps -e .; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .; \
	fi
	@touch $@
