# Everything runs in .venv, built from the locks (hashes checked) by tools/set_up.py; python3 >= 3.11 and make are all that is needed.
PYTHON ?= python3
BIN := .venv/bin
RUN_LOCKS := requirements-run.lock requirements-uv.lock pyproject.toml
STAMP := .venv/.dev
# Bytecode is kept: each of the tests' processes would compile all sources again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: .venv demo dev test test-fast property lint validation bench bench-planner bench-cohort fuzz reliability odd-inputs mutants coverage peers registration audit docs lock clean

# What planning needs, a plan of the liver phantom, and the seconds and MB of both.
demo:
	@$(PYTHON) tools/set_up.py demo

# All that developers need: the targets below build it by themselves.
dev: $(STAMP)
.venv: $(STAMP)

$(STAMP): requirements.lock $(RUN_LOCKS)
	@$(PYTHON) tools/set_up.py dev
	@touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The kernels are compiled first, in two processes, where they are not in the cache already: it goes by their sources.
test: lint
	$(BIN)/brachy warmup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
	NUMBA_DISABLE_JIT=1 $(BIN)/pytest -q -m kernel tests

# All but what is marked slow, with the kernels that are in the cache already.
test-fast: $(STAMP)
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# The property tests of plan and replan on 100 new random cases each, of needles at angles on 300. About three quarters of an hour.
property: $(STAMP)
	PROPERTY_EXAMPLES=100 $(BIN)/pytest -q -s tests/property tests/end_to_end/test_phantom_plans.py --ignore tests/property/test_individual_needles.py
	PROPERTY_EXAMPLES=300 $(BIN)/pytest -q -s tests/property/test_individual_needles.py

# docs/validation.md from the commissioning report; DATA holds the public clinical data sets.
DATA ?= ../shared/data
validation: $(STAMP)
	$(BIN)/brachy check --commission -o build/commissioning --data $(DATA) --force
	cp build/commissioning/validation.md docs/validation.md

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py

# Mutated inputs for every reader, 2 GB and 10 s each; COUNT for fewer. About an hour.
COUNT ?= 20000
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run --count $(COUNT)

# docs/reliability.md: mutated inputs, 50 runs killed, 50 interrupted, full disks. About half an hour.
reliability: $(STAMP)
	mkdir -p build
	$(BIN)/python -m tests.fuzz.run --count $(COUNT) --out build/fuzz.json
	$(BIN)/python -m tests.reliability --fuzz build/fuzz.json --runs 25

# The table of odd inputs in docs/reliability.md: names, dates, units, frames and paddings. About ten minutes.
odd-inputs: $(STAMP)
	$(BIN)/python -m tests.odd_inputs.run --data $(DATA)

# Ten core formulas, each broken in one place: does a test notice? About ten minutes.
mutants: $(STAMP)
	$(BIN)/python -m tests.mutants

# Lines of brachy/ that the tests pass: the usual run and the kernels without compilation, together. About half an hour.
coverage: $(STAMP)
	mkdir -p build/coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest -q -m kernel tests
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover --fail-under=95

# The table of docs/verify.md: synthetic implants registered by their seeds, 200 of each kind. About eight minutes.
registration: $(STAMP)
	$(BIN)/python -m tests.postimplant.implants

# Exported files read by other programs, in environments of their own under build/peers.
peers: $(STAMP)
	$(BIN)/python -m tests.peers.run build/peers

# Known vulnerabilities of what is locked; the tool is in an environment of its own.
audit:
	test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit; }
	build/audit/bin/pip-audit --require-hashes --disable-pip -r requirements.lock

# The documentation as pages to open from build/site, without a network; a broken link ends it.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench-cohort: $(STAMP)
	$(BIN)/python benchmarks/cohort.py

# The planner's own numbers, printed: cases, other planners, certificate, replanning. About ten minutes.
bench-planner: $(STAMP)
	$(BIN)/python benchmarks/planner_numbers.py
	$(BIN)/python benchmarks/planners.py
	$(BIN)/python benchmarks/certificate.py
	$(BIN)/python benchmarks/replan.py

# The three locks, by the uv of .venv: it resolves for every supported Python at once.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -q
lock: $(STAMP)
	$(COMPILE) pyproject.toml --extra dev -o requirements.lock
	$(COMPILE) pyproject.toml --extra editable -c requirements.lock -o requirements-run.lock
	echo uv | $(COMPILE) - -o requirements-uv.lock

clean:
	rm -rf .venv demo-plan build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
