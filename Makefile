# Everything runs in one virtual environment, .venv, that the first target sets up (a few minutes, once).
# `make` alone prints what there is.
.DEFAULT_GOAL := help
SHELL := /bin/sh
.SHELLFLAGS := -ec

# The first Python on the path that is new enough; set PYTHON=... to choose another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
RUN := .venv/bin/python
READY := .venv/.ready

# One thread a process: two processes with two threads each on two cores run ten times slower. PICTURES: a picture's
# arithmetic fits no small allocation, and giving memory back to the system after each costs most of the time.
ONE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PICTURES := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
PYTEST := $(ONE) $(PICTURES) $(OFFLINE) $(RUN) -m pytest --durations=10 --durations-min=0.5
# The sums of an older processor, whose last digits differ from those of one with AVX-512.
OTHER_ARITHMETIC := ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2
# `make test` proves the CPU's bits, also on a machine with a GPU, whose sums differ in the last.
NO_GPU := CUDA_VISIBLE_DEVICES=
WORKERS ?= auto
NBVAL := --nbval-current-env --nbval-cell-timeout=900

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(READY)  ## set up .venv (every other target does it where it is missing)

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 on the path; install one, or: make PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "Python cannot make virtual environments here; on Debian and Ubuntu: apt install python3-venv"; exit 2; }

$(READY): .venv/bin/python pyproject.toml constraints.txt
	@echo "Setting up .venv (about 2 GB, some minutes; once)"
	@$(RUN) -m tools.install_torch
	@$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

lab: $(READY)  ## open the lessons in JupyterLab
	$(RUN) -m jupyter lab --notebook-dir=notebooks

book: $(READY)  ## execute the lessons into book/_build and build the site there; the tree stays as it is
	$(ONE) $(PICTURES) $(OFFLINE) $(RUN) -m tools.site

notebooks: $(READY)  ## execute every lesson and write its .ipynb anew (NAMES="38_1a 38_1b" for some)
	$(ONE) $(PICTURES) $(OFFLINE) $(RUN) -m tools.notebooks $(NAMES)

test: lint unit test-wheel test-colab test-notebooks test-book  ## everything that needs no GPU (`make -k test` goes on after a failure)

lint: $(READY)  ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m mypy

unit: $(READY)  ## the unit tests alone
	$(NO_GPU) $(PYTEST) -n $(WORKERS) --dist loadfile -m "not browser and not gpu and not comfyui" \
	  --ignore tests/wheel --ignore tests/colab

test-notebooks: $(READY)  ## run every lesson from clean (nbval) and compare with its committed outputs
	$(NO_GPU) $(PYTEST) -n $(WORKERS) --dist loadfile $(NBVAL) --nbval --nbval-sanitize-with tests/notebooks/sanitize.cfg notebooks

test-book: $(READY) browser  ## build the site and walk it in a real browser
	$(NO_GPU) $(PYTEST) -m browser tests/book

browser:
	@$(RUN) -m tools.browser

wheel: $(READY)  ## build the package as one file into dist/, to install or to upload to Colab
	$(RUN) -m build --wheel --no-isolation --outdir dist

picture: $(READY)  ## draw the README's picture anew
	$(ONE) $(PICTURES) $(OFFLINE) $(RUN) -m tools.hero

test-wheel: $(READY)  ## build the wheel and try it in empty environments, with and without torch
	$(NO_GPU) $(PYTEST) tests/wheel

test-colab: $(READY)  ## the starred lessons with the versions that Colab ships (needs Python 3.13)
	$(NO_GPU) $(PYTEST) tests/colab

test-gpu: $(READY)  ## the lessons with profile cuda (MODEL=sd15: with a real model), and all tests marked gpu
	@$(RUN) -c 'import sys, torch; torch.cuda.is_available() or sys.exit("torch sees no NVIDIA GPU here: nothing to test")'
	CHAPTER38_PROFILE=cuda $(PYTEST) -m gpu tests
	$(if $(MODEL),CHAPTER38_MODEL=$(MODEL) CHAPTER38_PROFILE=real,CHAPTER38_PROFILE=cuda $(OFFLINE)) \
	  $(RUN) -m pytest --durations=10 $(NBVAL) --nbval-lax notebooks

test-comfyui: $(READY)  ## all tests marked comfyui, against a real ComfyUI: COMFYUI=path or address; writes book/comfyui-proof.json
	@test -n "$(COMFYUI)" || { echo "Say where ComfyUI is: make test-comfyui COMFYUI=/path/to/ComfyUI, or COMFYUI=http://127.0.0.1:8188 (after: chapter38 comfyui install --into its folder)"; exit 2; }
	CHAPTER38_COMFYUI="$(COMFYUI)" $(PYTEST) -m comfyui tests

bench-gpu: $(READY)  ## what a picture costs on this GPU, real models in full size with random weights; writes book/bench-gpu.json
	$(OFFLINE) $(RUN) -m tests.bench.gpu

bench: $(READY)  ## measure what the lessons quote, and write book/bench.json
	$(PICTURES) $(OFFLINE) $(RUN) -m tests.bench.bench

weights: $(READY)  ## retrain the whole postcards world from nothing (hours on a CPU)
	$(PICTURES) $(RUN) -m chapter38.train all

weights-%: $(READY)  ## retrain one part: tokenizer, vae, unet, judge, lora, controlnet
	$(PICTURES) $(RUN) -m chapter38.train $*

nightly: $(READY)  ## the slow proofs: many more examples, coverage, lessons byte-identical, mutants (tests/mutants.json)
	CHAPTER38_FUZZ_SECONDS=600 HYPOTHESIS_PROFILE=nightly $(PYTEST) -n $(WORKERS) --dist loadfile -m "not browser and not gpu and not comfyui" \
	  --ignore tests/wheel --ignore tests/colab --cov=chapter38 --cov-report=term:skip-covered --cov-fail-under=90
	$(ONE) $(PICTURES) $(OFFLINE) $(RUN) -m tools.notebooks --into build/first
	$(ONE) $(PICTURES) $(OFFLINE) $(RUN) -m tools.notebooks --into build/second
	diff -r build/first build/second
	$(OTHER_ARITHMETIC) $(MAKE) test-notebooks
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[nightly]'
	$(ONE) $(OFFLINE) $(RUN) -m tests.mutants

links: $(READY)  ## write README's and the site's links from pyproject's [tool.chapter38] repository
	$(RUN) -m tools.links

constraints: $(READY)  ## write constraints.txt from what .venv holds
	$(RUN) -m tools.freeze

clean:  ## remove what was built (not .venv)
	rm -rf build dist book/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -type d -prune -exec rm -rf {} +

# Stages of `make test` run one after the other: each already uses every core.
.NOTPARALLEL:
.PHONY: help setup lab book notebooks test lint unit test-notebooks test-book browser wheel picture test-wheel test-colab test-gpu test-comfyui \
  bench bench-gpu weights nightly links constraints clean
