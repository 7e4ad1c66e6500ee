# Two commands matter: `make run` starts Truckee, `make test` runs the tests.
# Both set up what they need: a virtual environment with locked packages, and (for the tests) two more:
# one with a stock Tahoe-LAFS to compare with, one with SSH clients that are Python libraries.

PYTHON ?= python3
VENV := .venv
PEERS := .peers
BIN := $(VENV)/bin
NODE := run/node
SERVERS ?= 10

.PHONY: run test long check bench peers clean

run: $(VENV)/.ready
	@mkdir -p run
	$(BIN)/truckee start $(NODE) --servers $(SERVERS)

test: $(VENV)/.ready peers
	$(BIN)/pytest -q

long: $(VENV)/.ready peers
	$(BIN)/pytest -q --long

check: $(VENV)/.ready peers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage report --skip-covered --sort=cover

bench: $(VENV)/.ready peers
	$(BIN)/python -m benchmarks

peers: $(PEERS)/tahoe/.ready $(PEERS)/clients/.ready

$(VENV)/.ready: requirements-dev.lock setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	touch $@

$(PEERS)/tahoe/.ready: tests/interop/tahoe-peer.lock
	$(PYTHON) -m venv $(PEERS)/tahoe
	$(PEERS)/tahoe/bin/pip install -q --require-hashes -r tests/interop/tahoe-peer.lock
	touch $@

$(PEERS)/clients/.ready: tests/interop/client-peers.lock
	$(PYTHON) -m venv $(PEERS)/clients
	$(PEERS)/clients/bin/pip install -q --require-hashes -r tests/interop/client-peers.lock
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info
