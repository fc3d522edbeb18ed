# Every target sets up what it needs: a machine with make and Python >= 3.11 is enough.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DEMO_DATA := examples/demo/data/labels/validation.parquet
CLUSTER := PYTHONPATH=tests $(BIN)/python -m e2e.cluster
PACKAGES := tests/e2e/packages.txt
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
          --no-emit-index-url --no-header --quiet

# One thread a process: the processes share the cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Many short processes import the same large packages: each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test e2e e2e-full gates lint bench images cluster cluster-down lock clean

help: ## What can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) $(DEMO_DATA) ## Pretrain, adapt and fine-tune a small model on real text
	$(BIN)/pretune run examples/demo/chain.yaml --workers 2
	$(BIN)/python examples/demo/compare.py

test: $(READY) ## All tests that need no cluster
	$(BIN)/pytest -n 2 --dist loadfile --ignore tests/e2e --ignore tests/gates

gates: $(READY) ## What each objective and task must learn: minutes each
	$(BIN)/pytest -n 2 --dist loadfile tests/gates --junitxml .bench/gates.xml

lint: $(READY) ## Style, types, import rules, stale CRDs, what must not be committed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pretune_api.schema --check
	.ci/check-tree

bench: $(READY) $(DEMO_DATA) ## One table of ratios against what others would use, and .bench/results.json
	$(BIN)/python tests/bench/run.py

e2e: E2E = -m 'not long'
e2e: e2e-full ## Tests that need a cluster, the shortest of each kind: 20 minutes, and half an hour to build it once

e2e-full: $(READY) $(DEMO_DATA) .venv/cluster ## All tests that need a cluster
	$(BIN)/pytest -m cluster tests/operator/api
	$(BIN)/pytest tests/e2e/test_cluster.py
	$(BIN)/pytest tests/e2e --ignore tests/e2e/test_cluster.py $(E2E)

images: $(READY) .venv/cluster ## The operator's and the trainer's images, with Docker or buildah
	PYTHONPATH=tests $(BIN)/python -m e2e.images

cluster: $(READY) .venv/cluster ## A real Kubernetes on this machine, with KubeRay
	$(CLUSTER) up

cluster-down: $(READY) ## The end of it, without a trace
	$(CLUSTER) down

lock: .venv/uv ## Resolve the requirement files anew
	$(COMPILE) --group bootstrap -o requirements/bootstrap.txt
	$(COMPILE) --group cluster -o requirements/cluster.txt
	$(COMPILE) pyproject.toml --extra operator -o requirements/operator.txt
	$(COMPILE) pyproject.toml --extra finetune --extra pods -o requirements/finetune.txt
	$(COMPILE) pyproject.toml --extra trainer --extra pods --constraint requirements/finetune.txt -o requirements/trainer.txt
	$(COMPILE) pyproject.toml --extra mlflow --constraint requirements/finetune.txt -o requirements/mlflow.txt
	$(COMPILE) pyproject.toml --extra dev -o requirements/dev.txt

clean: ## Remove everything that was made here
	rm -rf .venv .bench .cache .pretune examples/demo/data .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(DEMO_DATA): examples/demo/prepare.py | $(READY)
	$(BIN)/python examples/demo/prepare.py

.venv/uv: requirements/bootstrap.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Pretune needs Python 3.11 or newer: make PYTHON=…")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	touch $@

$(READY): .venv/uv requirements/dev.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# What builds the test cluster, where this machine has it not: Go, and what Debian and its kin have packages for.
.venv/cluster: $(READY) requirements/cluster.txt $(PACKAGES)
	command -v go || $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/cluster.txt
	docker info >/dev/null 2>&1 || dpkg --status $$(cat $(PACKAGES)) >/dev/null || \
	    { apt-get --quiet update && apt-get --quiet install --yes --no-install-recommends $$(cat $(PACKAGES)); }
	touch $@
