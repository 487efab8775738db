# Two commands for readers: `make book` and `make test`. The others are for those who write.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MUTANTS = PYTHONPATH=tools MPLBACKEND=agg DIFFUTILS_STATIC=1 $(BIN)/python -m mutants
INSTALLED := $(VENV)/.installed
# One thread a process: chapters and tests run side by side, and two that share their threads slow each other down.
export OMP_NUM_THREADS ?= 1
export TQDM_DISABLE ?= 1
JOBS ?= auto

.PHONY: book test test-gpu colab notebooks seeds coverage mutants mutants-chapters mutants-operators bench clean help

help:
	@echo "make book       build the book into _build/html"
	@echo "make test       run every test: the package, the pairs, every chapter"
	@echo "make test-gpu   run every chapter with a CUDA device required, then see that all was on it"
	@echo "make colab      run every chapter where nothing of the book is installed, without a network"
	@echo "make notebooks  execute the chapters and write their .ipynb pairs"
	@echo "make seeds      run every chapter with ten other seeds"
	@echo "make coverage   run the unit tests and show which lines of the packages they miss"
	@echo "make mutants    plant small bugs in the packages, one by one: the unit tests must fail each time"
	@echo "make mutants-chapters  the same, to see which of them the chapters notice"
	@echo "make mutants-operators  the same with edits made by rule, in the core"
	@echo "make bench      measure diffutils beside other libraries, in an environment of its own"
	@echo "make clean      remove what the build made (keeps $(VENV))"

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, $(PYTHON) is {v.major}.{v.minor}; name another with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

book: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter-book build . -W --keep-going -n
	@echo "The book is at $(abspath _build/html/index.html)"

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout 1800

test-gpu: $(INSTALLED)
	DIFFUTILS_REQUIRE_CUDA=1 $(BIN)/python -m pytest --run-unchanged --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout 1800 chapters tests/test_gpu.py

colab: $(INSTALLED)
	$(BIN)/python tools/colab.py

notebooks: $(INSTALLED)
	$(BIN)/python tools/notebooks.py

seeds: $(INSTALLED)
	$(BIN)/python tools/seeds.py

# Tests of pages and of chapters' texts run no line of the packages that matters here.
coverage: $(INSTALLED)
	mkdir -p _build
	$(BIN)/python -m pytest tests -n $(JOBS) --dist loadfile $(patsubst %,--ignore tests/test_%.py,accessibility book browser links) --cov --cov-report term-missing --cov-fail-under 97

mutants: $(INSTALLED)
	$(MUTANTS)

mutants-chapters: $(INSTALLED)
	nice -n 15 env $(MUTANTS) chapters

mutants-operators: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target _build/operators -r tools/mutants/requirements.txt
	$(MUTANTS:tools=tools:_build/operators) operators

# Python is found in .venv first; the benchmarks' own libraries lie beside it, so that nothing of it is touched.
bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target _build/bench -r benchmarks/requirements.txt
	PYTHONPATH=_build/bench $(BIN)/python benchmarks/points.py $(POINTS)
	PYTHONPATH=_build/bench $(BIN)/python benchmarks/digits.py $(DIGITS)
	PYTHONPATH=_build/bench $(BIN)/python benchmarks/limits.py $(LIMITS)
	PYTHONPATH=_build/bench $(BIN)/python benchmarks/likelihood.py $(LIKELIHOOD)
	$(BIN)/python benchmarks/loops.py $(LOOPS)
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/options.py
	$(BIN)/python benchmarks/flows.py $(FLOWS)

clean:
	rm -rf _build
