# The commands of a checkout; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK = $(BIN)/python -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--no-annotate --no-header --no-strip-extras --generate-hashes

# Without its cache, pytest would rewrite every module again at each run.
unexport PYTHONDONTWRITEBYTECODE
# Tests keep their files in memory, so that no commit waits for a disk. In containers no program can
# run from there, and there is too little space.
MEMORY = $(shell awk '$$2 == "/dev/shm" && $$4 !~ /noexec/ { print "TMPDIR=/dev/shm"; exit }' /proc/mounts 2>/dev/null)
# COVERAGE=true measures coverage, too, in all processes; .ci/run sets it and reports on it.
PYTEST = $(MEMORY) $(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest --numprocesses auto

# What CI runs on both databases: the API, but for what is refused before the database is asked.
ON_POSTGRESQL = $(filter-out tests/api/test_pars% tests/api/test_openapi.py, $(wildcard tests/api/test_*.py))

.DEFAULT_GOAL := help
.PHONY: run example seed postgres test test-postgresql test-slow test-hosts check bench torture failover wheel hooks lock help

run: $(VENV)/run ## Start the service on localhost:$PORT (3000), with a demo user on a fresh clone
	@$(BIN)/python -m jwt_server

example: ## Serve examples/spa, a front end, on localhost:8000, beside `make run`; ARGS=9000
	@$(PYTHON) examples/serve.py $(ARGS)

seed: $(VENV)/run ## Create the demo user travis again, where missing
	@FLASK_SKIP_DOTENV=1 $(BIN)/python -m flask --app wsgi seed

postgres: $(VENV)/dev ## Run a private PostgreSQL for development until Ctrl+C, which deletes it
	@$(BIN)/python -m tests.helpers.development_cluster

test: $(VENV)/dev ## Run all tests but the slow ones; make test ARGS="-k pets" runs some
	@$(PYTEST) --maxprocesses 4 -m "not slow and not hosts" $(ARGS)

test-postgresql: $(VENV)/dev ## Run the tests of the API on PostgreSQL
	@TEST_DATABASE=postgresql $(PYTEST) --maxprocesses 4 -m "not slow and not hosts" $(ON_POSTGRESQL) $(ARGS)

test-slow: $(VENV)/dev ## Run the slow tests: torture, long fuzzing, request smuggling, the wheel
	@$(PYTEST) -m slow $(ARGS)

test-hosts: $(VENV)/dev ## Run the tests of several hosts, failover, faults of PostgreSQL, and PgBouncer
	@$(PYTEST) -m hosts $(ARGS)

check: $(VENV)/dev ## Run the linter, the type checker and the check of the layers
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy
	@$(BIN)/python -c "from importlinter.cli import lint_imports_command as check; check()"

bench: $(VENV)/bench ## Compare with peers; make bench ARGS="--rounds 1 --only ours bare" takes less time
	@$(BIN)/python -m bench $(ARGS)

torture: $(VENV)/dev ## Kill the service 100 times under load and check that nothing is lost; ARGS="--kills 20"
	@$(BIN)/python -m tests.torture $(ARGS)

failover: $(VENV)/dev ## Kill PostgreSQL's primary 20 times under load and check that nothing is lost; ARGS="--hang"
	@$(BIN)/python -m tests.failover $(ARGS)

wheel: $(VENV)/build ## Build dist/jwt_server-*.whl, the package for a server
	@rm -rf build dist *.egg-info   # they still hold deleted files
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

hooks: $(VENV)/dev ## Make git run `make check` before each commit, `make test` before each push
	@$(BIN)/python -m pre_commit install --hook-type pre-commit --hook-type pre-push

lock: $(VENV)/dev ## Resolve the newest allowed dependencies, with hashes, into all requirements*.txt
	$(LOCK) setup.cfg --output-file requirements.txt
	$(LOCK) setup.cfg --extra postgresql --constraints requirements.txt --output-file requirements-postgresql.txt
	$(LOCK) setup.cfg --extra dev --extra postgresql --constraints requirements-postgresql.txt --output-file requirements-dev.txt
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements-dev.txt > requirements-build.txt
	$(LOCK) setup.cfg --extra bench --constraints requirements-dev.txt --output-file requirements-bench.txt
	$(LOCK) tests/clients/requirements.in --output-file tests/clients/requirements.txt

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Stamps of the environment: with what the service needs, its tests, the build, and the benchmark.
$(VENV)/run: requirements.txt
$(VENV)/dev: requirements-dev.txt
$(VENV)/build: requirements-build.txt
$(VENV)/bench: requirements-bench.txt
STAMPS := $(VENV)/run $(VENV)/dev $(VENV)/build $(VENV)/bench

# An interpreter given on the command line replaces an environment of another version.
version = $(shell $(1) -c 'import sysconfig; print(sysconfig.get_python_version())' 2>/dev/null)
ifeq ($(origin PYTHON),command line)
ifneq ($(call version,$(PYTHON)),$(call version,$(BIN)/python))
.PHONY: $(VENV)/pyvenv.cfg
endif
endif

.DELETE_ON_ERROR:
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c '' 2>/dev/null \
		|| { echo "$(PYTHON) is missing: install it, or name another, as in make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is too old, Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) comes without venv here: sudo apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

$(STAMPS): $(VENV)/pyvenv.cfg
	@echo "Installing $(filter %.txt,$^) into $(VENV), a minute the first time ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $(filter %.txt,$^)
	@touch $@
