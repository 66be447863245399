# What this project can do on a machine with Python 3.11, make and a compiler.
#
#   make demo    install, then make sound for a real video: out/demo.mp4, out/demo_t2a.wav, out/demo.png
#   make check   lint, types, fast tests (import order is one of them)
#   make docs    the documentation as a site, in out/site
#   make test    everything that CI runs
#   make fuzz    ten minutes of odd files through every reader, led by coverage (Linux)
#   make bench   speed, robustness and quality, printed with their baselines
#   make lock, sbom, audit  dependencies with hashes; a list of them; their known weaknesses
#   make test-matrix  fast tests with Python 3.11 to 3.13 x lowest and highest allowed dependencies
#   make page    the pages from web/ into the package; needs Node 20 or newer
#   make parity  our parts beside the originals, on random weights: one table
#
# PYTHON=python3.12 chooses the interpreter. `demo` installs no torch, all others do: on Linux without
# an NVIDIA GPU its CPU build; TORCH_BUILD= (empty) takes the index's default build, which brings
# gigabytes of CUDA.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --prefer-binary --disable-pip-version-check -qq -c constraints.txt

# Tests run on all cores, each with one thread: two of torch's on one core would only wait. A core
# that has none left takes some of another's. Compiled files are kept, also where the environment
# says otherwise: many tests start a process.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --maxprocesses 8 --dist worksteal

# Types are checked beside the tests, as mypy keeps one core busy. Both are heard to their end.
with_types = $(BIN)/mypy & types=$$!; $(1); tests=$$?; wait $$types && exit $$tests

TORCH_BUILD ?= $(if $(findstring Linux,$(shell uname -s)),$(if $(shell command -v nvidia-smi),,+cpu))
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)

# The recordings and pictures that the benchmark's scenes are made of; fetched once.
CORPUS ?= .cache/stage

# Packages that only `make parity` compares with; a second environment would need torch again.
PARITY := .cache/parity

# One environment for each Python and each end of the dependencies' ranges, made anew on each run.
# MATRIX_ONLY="--python 3.12 --deps highest" takes one of them.
MATRIX := .cache/matrix
MATRIX_ONLY ?=
MATRIX_TESTS ?= tests/media tests/generate tests/cli tests/test_timebase.py

# Tools that look at dependencies, apart from what is looked at.
SUPPLY := .cache/supply

.PHONY: help venv demo check docs test test-matrix fuzz bench lock sbom audit page parity clean

help:
	@sed -n '3,15s/^# \{0,1\}//p' Makefile

venv: $(VENV)/.installed

# A stamp newer than what it depends on means: installed, nothing to do.
$(VENV)/.made:
	$(if $(PYTHON),,$(error no Python 3.11 or newer found; install one or set PYTHON=))
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: constraints.txt | $(VENV)/.made
ifneq ($(TORCH_BUILD),)
	@# May fail (that index is not reachable from everywhere): the next step then takes the default build.
	-$(PIP) --no-deps --retries 0 --timeout 15 --extra-index-url $(TORCH_INDEX) torch==$(TORCH_VERSION)$(TORCH_BUILD)
endif
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "installing into $(VENV), a minute or two"
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.torch
	@echo "installing into $(VENV), a minute or two"
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

# The bundled networks, and the default model's export; `setup` skips what is there and then needs no
# network. Once torch is installed, the networks themselves are needed, too.
$(VENV)/.setup: src/omni2sound/bundled/bundled.txt | $(VENV)/.installed
	$(BIN)/omni2sound setup
	@touch $@

$(VENV)/.bundled: src/omni2sound/bundled/bundled.txt | $(VENV)/.dev
	$(BIN)/omni2sound setup
	@touch $@ $(VENV)/.setup

demo: $(VENV)/.installed $(VENV)/.setup
	$(BIN)/omni2sound demo --out out

check: $(VENV)/.dev $(VENV)/.bundled
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(call with_types,$(PYTEST) -m "not slow")

# Strict: a broken link or an unknown name ends it. No request leaves the machine.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# All tests in one run: a second would import and collect everything again.
test: $(VENV)/.dev $(VENV)/.bundled
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(call with_types,$(PYTEST))

$(MATRIX)/uv/.installed:
	$(PYTHON) -m venv $(MATRIX)/uv
	$(MATRIX)/uv/bin/python -m pip install --disable-pip-version-check -qq uv==0.13.9
	@touch $@

test-matrix: $(MATRIX)/uv/.installed
	$(MATRIX)/uv/bin/python benchmarks/matrix.py --out $(MATRIX) \
		$(if $(TORCH_BUILD),--torch-backend cpu) $(MATRIX_ONLY) $(MATRIX_TESTS)

# MINUTES= chooses how long. What reached new code is kept, for the next time.
MINUTES ?= 10
FUZZ := .cache/fuzz
$(FUZZ)/.installed: | $(VENV)/.dev
	$(BIN)/python -m pip install --disable-pip-version-check -qq --no-deps --target $(FUZZ)/lib atheris==3.0.0
	@touch $@

fuzz: $(FUZZ)/.installed $(VENV)/.bundled
	PYTHONPATH=$(FUZZ)/lib OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.robustness.fuzz \
		--minutes $(MINUTES) --corpus $(FUZZ)/corpus

bench: $(VENV)/.dev $(VENV)/.bundled
	$(BIN)/python benchmarks/speed/generate.py
	$(BIN)/python benchmarks/robustness/damaged_media.py
	$(BIN)/python benchmarks/speed/frechet.py
	$(BIN)/python benchmarks/robustness/feature_store.py
	$(BIN)/python benchmarks/speed/bench_memory.py --clips 500 3000
	$(BIN)/python -m benchmarks.speed.llm_rate
	$(BIN)/python -m benchmarks.robustness.llm_kills
	$(BIN)/python -m benchmarks.speed.annotate_rate
	$(BIN)/python -m benchmarks.robustness.annotate_kills
	$(BIN)/omni2sound scenes fetch --corpus $(CORPUS)
	$(BIN)/python benchmarks/checks/near_duplicates.py --corpus $(CORPUS)
	$(BIN)/python benchmarks/speed/scene_speed.py --corpus $(CORPUS)
	$(BIN)/python benchmarks/checks/scene_hashes.py --corpus $(CORPUS)
	$(BIN)/python benchmarks/checks/moved_stems.py --corpus $(CORPUS)
	$(BIN)/python benchmarks/checks/distances.py --corpus $(CORPUS) --tagger yamnet
	$(BIN)/python benchmarks/checks/distances.py --corpus $(CORPUS) --tagger tagger
	$(BIN)/python -m benchmarks.quality.annotate_scenes --corpus $(CORPUS) --out out/annotate
	$(BIN)/omni2sound bench quick --corpus $(CORPUS)

$(SUPPLY)/.installed:
	$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --disable-pip-version-check -qq uv==0.13.9 cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@touch $@

# For every platform and Python of the release, in the versions of constraints.txt.
lock: $(SUPPLY)/.installed
	sed -n '/^#/p' locked.txt > $(SUPPLY)/head
	$(SUPPLY)/bin/uv pip compile -q pyproject.toml --extra torch -c constraints.txt --universal --generate-hashes \
		--no-header --no-annotate --no-emit-index-url -o $(SUPPLY)/locked.txt
	cat $(SUPPLY)/head $(SUPPLY)/locked.txt > locked.txt

sbom: $(SUPPLY)/.installed
	mkdir -p out
	$(SUPPLY)/bin/cyclonedx-py requirements locked.txt --pyproject pyproject.toml \
		--output-reproducible -o out/sbom.json

# Asks a server for what is known of each version; fails if it does not know one of them.
audit: $(SUPPLY)/.installed
	$(SUPPLY)/bin/pip-audit --strict -r locked.txt --require-hashes --disable-pip

$(PARITY)/.installed: benchmarks/parity/requirements.txt | $(VENV)/.dev
	rm -rf $(PARITY)
	$(BIN)/python -m pip install --disable-pip-version-check -qq --no-deps --target $(PARITY) -r $<
	@touch $@

parity: $(PARITY)/.installed
	OMNI2SOUND_PARITY=$(PARITY) $(BIN)/python -m benchmarks.parity

# Versions of package-lock.json; no package's own scripts run.
page:
	cd web/studio && npm ci --ignore-scripts --no-fund --no-audit && npm run build
	cd web/try && npm ci --ignore-scripts --no-fund --no-audit && npm run build

clean:
	rm -rf out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
