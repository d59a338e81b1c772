# Needs python3 >= 3.11, make and the package registries; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
WORKERS ?= 2

CODE := bucketdex functions infra tests benchmarks examples

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup test lint types unit simulation local-test side-by-side demo demo-stop soak mutations coverage bench docs clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything into .venv (again when pyproject.toml changes)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -e '.[dev]'
	@touch $(STAMP)

test: lint side-by-side ## everything: ruff, mypy --strict, pytest (unit, infra, simulation, local deployment)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy --strict bucketdex functions infra

unit: $(STAMP) ## tests that need no emulator
	$(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/unit tests/infra

simulation: $(STAMP) ## 2,000 simulated schedules
	$(BIN)/pytest -q -n $(WORKERS) tests/simulation

local-test: $(STAMP) ## tests on a real deployment to the emulator
	$(BIN)/pytest -q tests/local

# The deployment waits most of the time and mypy has one core, so they run beside the rest; what they say comes after.
side-by-side: $(STAMP) ## pytest and mypy, on all cores
	@mkdir -p build; echo "unit and simulation; beside them the local deployment and mypy"; \
	  $(MAKE) --no-print-directory local-test types > build/beside.log 2>&1 & beside=$$!; \
	  $(MAKE) --no-print-directory unit simulation; mine=$$?; \
	  wait $$beside; theirs=$$?; cat build/beside.log; test $$mine -eq 0 -a $$theirs -eq 0

demo: $(STAMP) ## deploy on this machine, upload 336,776 flights, query them
	$(BIN)/python examples/flights/demo.py

demo-stop: $(STAMP) ## stop the local deployment and delete its data
	$(BIN)/bucketdex local stop

soak: $(STAMP) ## play SEEDS=2000 simulated schedules under faults, from FIRST=0 on, in JOBS processes (all cores)
	$(BIN)/python tests/simulation/soak.py --seeds $(or $(SEEDS),2000) --first $(or $(FIRST),0) $(if $(JOBS),--jobs $(JOBS))

mutations: $(STAMP) ## take each rule of the protocol (MATCH='*floor*') out of a copy; show that the simulation notices
	$(BIN)/python tests/simulation/mutations.py $(if $(MATCH),--match '$(MATCH)') $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(JOBS),--jobs $(JOBS))

coverage: $(STAMP) ## show that simulated schedules run every branch of commits, compactions and collections
	$(BIN)/python tests/simulation/branches.py $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

bench: $(STAMP) ## print the counted requests and measured rates; WHAT=writers, debt, tiers or size for those of docs/scale.md
	$(BIN)/python -m benchmarks $(WHAT)

docs: $(STAMP) ## write docs/cli.md and the cost figures of the README
	$(BIN)/python -m bucketdex.cli.reference > docs/cli.md
	$(BIN)/python benchmarks/cost.py README.md

clean: ## delete the environment, caches and local state
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info cdk.out .bucketdex
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
