# make demo   set up, and run the main job on a made corpus (or CORPUS=folder)
# make test   set up, and run the fast tests (minutes); make test-long runs the others, make test-all both
# make check  style, types, and the examples in the docstrings
# make bench  measure, and write BENCHMARKS.md; bench-gpu the part that needs a GPU
# make reliability  attack it for hours, and write RELIABILITY.md (PARTS="kills faults" for some, SCALE=0.1 for less)
.PHONY: demo test test-long test-all check bench bench-gpu reliability format clean

PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin

demo: $(READY)
	@$(RUN)/python -m embedx.cli.demo $(if $(CORPUS),"$(CORPUS)")

test: $(READY)
	$(RUN)/python -m pytest -n 2 --dist loadfile

test-long: $(READY)
	$(RUN)/python -m pytest -n 2 --dist loadfile -m long

test-all: test test-long

check: $(READY)
	$(RUN)/ruff format --check
	$(RUN)/ruff check
	$(RUN)/mypy
	$(RUN)/python -m pytest --doctest-modules embedx

bench: $(READY)
	$(RUN)/python benchmarks/extractors.py
	$(RUN)/python benchmarks/search.py
	$(RUN)/python benchmarks/probe.py
	$(RUN)/python benchmarks/extraction.py
	$(RUN)/python benchmarks/growth.py
	$(RUN)/python benchmarks/pipeline.py
	$(RUN)/python benchmarks/startup.py

bench-gpu: $(READY)
	$(RUN)/python benchmarks/gpu.py

reliability: $(READY)
	$(RUN)/python benchmarks/reliability.py $(PARTS) $(if $(SCALE),--scale $(SCALE))

format: $(READY)
	$(RUN)/ruff format
	$(RUN)/ruff check --fix

clean:
	rm -rf $(VENV) build indexes/demo*

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "embedx needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV): torch and its libraries are 5 GB, a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)
