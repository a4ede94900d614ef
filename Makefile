# The commands of a checkout; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK = $(BIN)/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--no-annotate --no-header --no-strip-extras --generate-hashes setup.cfg

# Without its cache, pytest would rewrite every module again at each run.
unexport PYTHONDONTWRITEBYTECODE
# COVERAGE=true measures coverage, too, in all processes; .ci/run sets it and reports on it.
PYTEST = $(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest --numprocesses auto

.DEFAULT_GOAL := help
.PHONY: run seed test test-slow check bench torture wheel hooks lock help

run: $(VENV)/run ## Start the service on localhost:$PORT (3000), with a demo user on a fresh clone
	@$(BIN)/python -m jwt_server

seed: $(VENV)/run ## Create the demo user travis again, where missing
	@FLASK_SKIP_DOTENV=1 $(BIN)/python -m flask --app wsgi seed

test: $(VENV)/dev ## Run all tests but the slow ones; make test ARGS="-k pets" runs some
	@$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(VENV)/dev ## Run the slow tests: torture, long fuzzing, request smuggling, the wheel
	@$(PYTEST) -m slow $(ARGS)

check: $(VENV)/dev ## Run the linter, the type checker and the check of the layers
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/python -c "from importlinter.cli import lint_imports_command as check; check()"

bench: $(VENV)/bench ## Compare with peers; make bench ARGS="--rounds 1 --only ours bare" takes less time
	@$(BIN)/python -m bench $(ARGS)

torture: $(VENV)/dev ## Kill the service 100 times under load and check that nothing is lost; ARGS="--kills 20"
	@$(BIN)/python -m tests.torture $(ARGS)

wheel: $(VENV)/dev ## Build dist/jwt_server-*.whl, the package for a server
	@rm -rf build *.egg-info   # they still hold deleted files
	@$(BIN)/python -m uv build --quiet --wheel --no-build-isolation --clear
	@ls dist/*.whl

hooks: $(VENV)/dev ## Make git run `make check` before each commit, `make test` before each push
	@$(BIN)/python -m pre_commit install --hook-type pre-commit --hook-type pre-push

lock: $(VENV)/dev ## Resolve the newest allowed dependencies, with hashes, into requirements*.txt
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraints requirements.txt --output-file requirements-dev.txt
	$(LOCK) --extra bench --constraints requirements-dev.txt --output-file requirements-bench.txt

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Stamps of the environment: with what the service needs, its tests, and the benchmark.
$(VENV)/run: requirements.txt
$(VENV)/dev: requirements-dev.txt
$(VENV)/bench: requirements-bench.txt
$(VENV)/run $(VENV)/dev $(VENV)/bench:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "python3 comes without venv here: sudo apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing $< into $(VENV), a minute the first time ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
