# Everything runs in .venv, made on demand with the pinned requirements.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test test-newest performance lint format

quickstart: .venv
	$(BIN)/python -m robust_features.main --config=configs/quickstart.py

# Three workers for two cores: tests of clusters and signals mostly wait.
test: .venv
	$(BIN)/python -m pytest -n 3 --dist=loadscope --no-loadscope-reorder \
	  --durations=25

# The newest packages, on a newer Python; docs/versions.md.
NEWEST_PYTHON ?= python3.13

test-newest: .venv-newest
	.venv-newest/bin/python -m pytest -n 3 --dist=loadscope --no-loadscope-reorder \
	  --durations=25

.venv-newest: requirements-newest.lock
	test -x .venv-newest/bin/python || $(NEWEST_PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade pip
	.venv-newest/bin/python -m pip install --quiet -r requirements-newest.lock
	touch .venv-newest

# Parsers of clusters, for tests/launch/clusters_test.py, which skips without.
# Each in an environment of its own: together they cannot be resolved, and by uv,
# which does it in seconds.
.venv-xpk: PACKAGE = xpk==1.16.0
.venv-sky: PACKAGE = skypilot==0.14.1
.venv-xpk .venv-sky:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet uv
	$@/bin/uv pip install --quiet --python $@/bin/python $(PACKAGE)

# Tables of docs/performance.md, beside the peers; torchattacks' own pins are old.
performance: .venv-bench
	JAX_PLATFORMS=cpu .venv-bench/bin/python -m benchmarks.performance \
	  $(PERFORMANCE_FLAGS)

.venv-bench: requirements-bench.txt requirements.lock
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet uv
	$@/bin/uv pip install --quiet --compile-bytecode --python $@/bin/python \
	  -r requirements-bench.txt
	$@/bin/uv pip install --quiet --python $@/bin/python --no-deps \
	  torchattacks==3.5.1 -e .
	touch $@

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv: requirements.lock setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch .venv
