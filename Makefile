# streammeta: `make demo` shows it, `make test` checks it. Needs only Python 3.11+ and make.
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
SHELL := /bin/bash
.DEFAULT_GOAL := help
# uv trusts who the system trusts, as pip does: also behind a company's proxy (two names: of newer and of older uv)
export UV_SYSTEM_CERTS ?= 1
export UV_NATIVE_TLS ?= 1
# processes that run tests
WORKERS ?= 2

.PHONY: help setup lock wheel sanitize demo test lint types imports unit coverage docs deploy-tools deploy-check sbom image-check broker browser bench bench-omniglot bench-sinusoids chaos members scaling slow-work fuzz clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "streammeta needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 setup" >&2; exit 1; }
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'

# A C++20 compiler: the machine's own, or where there is none zig's, which is a Python package.
ZIG := $(CURDIR)/.tools/zig
BUILD := $(shell command -v $(or $(CXX),c++) >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
  echo CC=$(ZIG)/cc CXX=$(ZIG)/c++ SKBUILD_CMAKE_DEFINE="CMAKE_AR=$(ZIG)/ar\;CMAKE_RANLIB=$(ZIG)/ranlib")
NATIVE := $(wildcard streammeta/native/*.cpp streammeta/native/*.hpp streammeta/native/*.c streammeta/native/CMakeLists.txt)

$(ZIG)/c++: $(UV)
	$(UV) pip install --quiet --python .tools 'ziglang>=0.14,<0.17'
	mkdir -p $(ZIG)
	for tool in cc c++ ar ranlib; do \
	  printf '#!/bin/sh\nexec "%s" -m ziglang %s "$$@"\n' "$(CURDIR)/.tools/bin/python" $$tool > $(ZIG)/$$tool; \
	  chmod +x $(ZIG)/$$tool; done

.venv/.ready: $(UV) pyproject.toml requirements.lock $(NATIVE) $(if $(BUILD),$(ZIG)/c++)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python .venv --require-hashes --compile-bytecode requirements.lock
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BUILD) $(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/.ready  ## a working .venv with streammeta and everything its checks need

COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
  --no-emit-find-links --python-version 3.11

lock: $(UV)  ## resolve the newest allowed versions into requirements.lock (with hashes, for every platform)
	$(COMPILE) --group dev -o requirements.lock --upgrade pyproject.toml
	$(COMPILE) --extra avro --extra protobuf --extra confluent -c requirements.lock -o deploy/image/train.txt pyproject.toml
	$(COMPILE) --extra avro --extra protobuf --extra confluent -c requirements.lock --override deploy/image/without-torch.txt -o deploy/image/serve.txt pyproject.toml
	$(COMPILE) --upgrade -o deploy/image/uv.txt deploy/image/uv.in
	$(COMPILE) --upgrade -o deploy/check/requirements.txt deploy/check/requirements.in
	$(COMPILE) --upgrade -o docs/requirements.txt docs/requirements.in

wheel: setup  ## dist/*.whl for this machine's Python and processor (for all of them: .github/workflows/release.yaml)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BUILD) $(UV) build --quiet --wheel --no-build-isolation --python .venv --out-dir dist .

sanitize: setup  ## the kernels' tests with every access and every undefined operation checked
	PATH="$(CURDIR)/$(BIN):$$PATH" SKBUILD_BUILD_DIR=build/sanitize SKBUILD_CMAKE_DEFINE="STREAMMETA_SANITIZE=ON" \
	  $(UV) build --quiet --wheel --no-build-isolation --python .venv --out-dir build/sanitize/wheel .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.native.sanitize build/sanitize/wheel

demo: setup  ## simulated streams through the service's own loop, live, with a report at the end (about a minute)
	$(BIN)/streammeta demo

test: lint types imports unit  ## every check, as CI runs them

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror streammeta/native/*.cpp streammeta/native/*.hpp streammeta/native/*.c

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

unit: setup  ## the tests, in so many processes as WORKERS says; what wants a Kafka is run by one of them
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup

coverage: setup  ## the tests with the lines they run counted; fails below the floor in pyproject.toml
	$(UV) pip install --quiet --python .venv 'coverage>=7.6'
	$(BIN)/coverage run -m pytest -p no:randomly
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.tools/docs/.ready: $(UV) docs/requirements.txt
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .tools/docs
	$(UV) pip sync --quiet --python .tools/docs --require-hashes docs/requirements.txt
	@touch $@

docs: .tools/docs/.ready  ## the documentation site, into out/site; warnings are errors
	@set -o pipefail; NO_MKDOCS_2_WARNING=1 .tools/docs/bin/mkdocs build 2>&1 | sed '/^INFO/d'  # with --quiet it sees no warning
	@echo "out/site/index.html"

.tools/deploy/.ready: $(UV) deploy/check/requirements.txt deploy/check/binaries.txt deploy/check/tools.sh
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .tools/deploy
	$(UV) pip sync --quiet --python .tools/deploy --require-hashes deploy/check/requirements.txt
	UV=$(UV) deploy/check/tools.sh .tools/deploy/bin
	@touch $@

deploy-tools: .tools/deploy/.ready  ## what deploy-check needs: helm, promtool, hadolint, actionlint, schemas

deploy-check: setup deploy-tools  ## image, chart, rules, dashboards, compose file, unit, workflows: by the tools that would use them
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 .tools/deploy/bin/pytest -q -c deploy/check/pytest.ini --rootdir . -p xdist.plugin -n $(WORKERS) --dist loadfile deploy/check

sbom: deploy-tools  ## what is in each image, as CycloneDX: out/sbom/serve.cdx.json and train.cdx.json
	mkdir -p out/sbom
	for image in serve train; do PYTHONWARNINGS=ignore .tools/deploy/bin/cyclonedx-py requirements --pyproject pyproject.toml \
	  --output-reproducible --validate -o out/sbom/$$image.cdx.json deploy/image/$$image.txt || exit 1; done

image-check: setup  ## build the image by buildah and run it as its user against a real Kafka (Debian, as root)
	deploy/check/image.sh .tools/image

broker: setup  ## a real Apache Kafka on localhost:9092 until Ctrl-C, for trying the service by hand
	$(BIN)/python -m deploy.broker --port 9092

browser:  ## a headless Chromium for the tests of the HTML report (Debian and its kin, as root)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

chaos: setup  ## exactly once, the long form (half an hour): 100,000 events, 30 SIGKILLs, both clients, both rebalances
	$(BIN)/python -m tests.faults.chaos --events 100000 --rate 200 --kills 30 --rebalance cooperative
	$(BIN)/python -m tests.faults.chaos --events 100000 --rate 200 --kills 30 --rebalance eager

members: setup  ## where reading begins, the long form (ten minutes): members come, go and fail, by both clients, both rebalances
	$(BIN)/python -m tests.faults.members --seconds 300 --broker-seconds 40 --rebalance cooperative
	$(BIN)/python -m tests.faults.members --seconds 300 --broker-seconds 40 --rebalance eager

scaling: setup deploy-tools  ## a day's load on members that are processes, as many as the chart's scaler would have (five minutes)
	$(BIN)/python -m tests.faults.daily

slow-work: setup  ## work longer than a member may be silent, the long form: a minute of meta-update, 100,000 tasks, 30 s of no broker
	STREAMMETA_SLOW_WORK=full $(BIN)/pytest -p no:randomly tests/faults/test_slow_work.py

fuzz: setup  ## a million mutated records on every decoder of what comes from a topic (about ten minutes)
	$(BIN)/python -m tests.faults.mutations --records 1000000

bench-sinusoids: setup  ## every meta-learning method on sinusoids (an hour or two on one core)
	$(BIN)/python -m benchmarks.sinusoids --json out/sinusoids.json

bench-omniglot: setup  ## Omniglot in 40 minutes of training on two cores: make bench-omniglot DATA=path/to/omniglot28.npz
	$(BIN)/python -m benchmarks.omniglot $(DATA) --minutes 40 --json out/omniglot.json

clean:  ## remove what setup and tests made
	rm -rf .venv .tools .broker .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
