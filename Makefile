# PYTHON=python3.12 chooses the interpreter; otherwise the first of these that is new enough.
PYTHON ?=
CANDIDATES = $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11)

BIN = .venv/bin
READY = .venv/.ready
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

# Frameworks that `make peers` compares with; each has an environment of its own.
PEERS = langgraph pydantic-ai

# What `make real-server` computes with. Any build does; one for the CPU is the smallest.
TORCH = torch==2.13.0
REAL = .peers/real-server

# What is imported is compiled once, and not by every process that a test or a program starts.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL = help
.PHONY: help setup demo test check fmt bench peers real-server campaign coverage lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name does; do printf '  make %-11s  %s\n' "$$name" "$$does"; done

setup: $(READY) ## create .venv and install the locked requirements (quick the second time)

$(READY): pyproject.toml requirements/dev.txt requirements/uv.txt
	@found=; for python in $(CANDIDATES); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then found=$$python; break; fi; done; \
	if [ -z "$$found" ]; then \
		echo "lorimer needs Python 3.11 or newer, found none in: $(CANDIDATES) (try: make setup PYTHON=/path/to/python3)" >&2; \
		exit 1; fi; \
	"$$found" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## run the demonstration
	@$(BIN)/lorimer demo

test: setup ## run the tests, on all cores
	$(BIN)/pytest -q -n auto --dist worksteal

check: setup ## lint, formatting, types, direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright $(wildcard src examples)
	$(BIN)/lint-imports

fmt: setup ## format, and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: setup ## measure the budgets
	$(BIN)/python -m benchmarks

peers: setup $(PEERS:%=.peers/%/.ready) ## kill the same agent on other frameworks too: what each repeats (downloads them)
	@$(BIN)/python -m benchmarks.killed $(OPTIONS)

.peers/%/.ready: benchmarks/killed/requirements/%.txt
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python .peers/$*
	@$(BIN)/uv pip sync --quiet --python .peers/$*/bin/python --require-hashes $<
	@touch $@

real-server: setup $(REAL)/.ready ## ask a real model server, with a tiny model made on the spot (downloads it)
	@$(BIN)/python -m tests.real.serve $(REAL)/bin/python $(REAL)/run

$(REAL)/.ready: tests/real/requirements.txt
	@$(BIN)/python -m venv --clear $(REAL)
	@$(REAL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@$(REAL)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

campaign: setup ## run kills, seeds and random programs at full figures (long)
	LORIMER_CAMPAIGN=1 $(BIN)/pytest -q -s --timeout=0 tests/campaign \
		$$(grep -rl --include='test_*.py' LORIMER_CAMPAIGN tests --exclude-dir=campaign | sort)

# What DESIGN wants covered wholly; FLOOR is how far it is, in per cent of lines and branches.
WHOLLY = */lorimer/core/*,*/lorimer/journal/*,*/lorimer/tools/policy/*,*/lorimer/tools/rule_files/*
FLOOR = 99.9

coverage: setup ## run the tests and report what they miss; fails where engine, journal or policy fall back
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n auto --dist worksteal --timeout=600
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/coverage report --include '$(WHOLLY)' --precision=2 --fail-under=$(FLOOR)

lock: setup ## resolve the requirements again (newer versions: make lock UPGRADE=1)
	$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group pyproject.toml:bootstrap -o requirements/uv.txt
	for peer in $(PEERS); do $(COMPILE) $(if $(UPGRADE),--upgrade) benchmarks/killed/requirements/$$peer.in \
		-o benchmarks/killed/requirements/$$peer.txt || exit 1; done
	$(COMPILE) $(if $(UPGRADE),--upgrade) tests/real/requirements.in \
		--override tests/real/overrides.in -o tests/real/requirements.txt

clean: ## remove environments, caches and build results
	rm -rf .venv .peers build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
