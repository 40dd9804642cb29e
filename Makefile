# make help lists the commands.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PROFILE ?= quick
JOBS ?= all
DEVICE ?= auto
EXECUTOR ?= local
WORKERS ?= 2
BACKBONE ?= mini
TESTS ?= notebooks tests

ENV := .venv
STAMP := $(ENV)/.installed
UV := $(shell sed -n 's/^\(uv==[^ ;]*\).*/\1/p' requirements.lock)

# The environment's programs come first; a Jupyter kernel installed for the user does not stand in for this one.
export PATH := $(CURDIR)/$(ENV)/bin:$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1
export PYTHONNOUSERSITE := 1
# What is imported is compiled once: without, a container's usual setting doubles the time of every import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help book test lint notebooks check evidence pretrain photographs matrix bench release archive pdf env lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 18
	@echo "PROFILE: a file of profiles/ (quick); JOBS=n runs n notebooks at once (default: one a core)"
	@echo "make evidence PROFILE=real ROOT=FOLDER: with a real CLIP, on the data sets in FOLDER"
	@echo "make evidence EXECUTOR=slurm CLUSTER=FOLDER: as jobs of a cluster; DEVICE=cuda:0,cuda:1: a job on each"

# Some machines answer to the name of a Python that is not there (pyenv's shims), so each candidate must prove itself.
$(STAMP): requirements.lock pyproject.toml
	@python=; for name in python3.13 python3.12 python3.11 python3 python; do \
	  if $$name -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "make needs Python 3.11 or newer (with venv), and found none on PATH." >&2; exit 1; fi; \
	[ -x $(ENV)/bin/python ] || $$python -m venv $(ENV)
	@echo "installing $$(grep -c == requirements.lock) locked packages into $(ENV) (about a minute on a fast line)"
	@$(ENV)/bin/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	@$(ENV)/bin/uv pip install --quiet --python $(ENV)/bin/python -r requirements.lock
	@$(ENV)/bin/uv pip install --quiet --python $(ENV)/bin/python --no-deps --no-build-isolation -e .
	@touch $@

env: $(STAMP) ## make the environment in .venv from requirements.lock

# Times and not contents of files decide: Snakemake would take the contents as they are when a page ends for those that
# it was made from, and a file edited meanwhile would never count. What is shared is all but Snakemake's cache of
# sources, which would be in a home that may be read-only or missing.
book: $(STAMP) ## run the notebooks of PROFILE and build the book into _build/html
	@snakemake --cores $(JOBS) --config profile=$(PROFILE) --rerun-incomplete --nolock --keep-going \
	  --scheduler greedy --max-checksum-file-size 0 --quiet all \
	  --shared-fs-usage input-output persistence software-deployment sources storage-local-copies
	@echo "The book: open _build/html/index.html"

# Notebooks are executed in forks of one process that has imported everything, for as long as this shell lives, and
# draw no pictures, which nbval could not compare; the book draws them.
test: $(STAMP) ## run all tests, and every notebook against its stored outputs
	@JUPYTER_PATH="$(CURDIR)/tests/jupyter" TEST_RUN=$$$$ OMP_NUM_THREADS=1 python -m pytest $(TESTS) -n $(WORKERS) \
	  --no-loadscope-reorder --nbval --nbval-kernel-name book --nbval-sanitize-with tests/nbval.cfg \
	  --nbval-kernel-startup-timeout 600 --nbval-cell-timeout 1200

lint: $(STAMP) ## the code: style, formatting, types
	@ruff check . && ruff format --check . && mypy

notebooks: $(STAMP) ## execute notebooks/ (or PAGES="a b") in place with their defaults, and README's pictures
	@python -m paper.tools.pages refresh $(PAGES)
	@python -m paper.tools.pages export fair_trial plane.png book/static/answer.png
	@python -m paper.tools.pages export hardware_trial beyond.png book/static/hardware.png
	@python -m paper.tools.pages export foresight plane.png book/static/foresight.png

check: $(STAMP) ## say what is wrong with the committed notebooks, the profiles, the evidence and the exercises
	@wrong=0; for tool in pages evidence exercises; do python -m paper.tools.$$tool check || wrong=1; done; exit $$wrong

evidence: PROFILE := evidence
evidence: $(STAMP) ## compute what is missing or stale of what the book shows: PAGES, DEVICE, JOBS, EXECUTOR, DRY=1, VERIFY=1
	@OMP_NUM_THREADS=1 python -m paper.tools.evidence run $(PAGES) --device $(DEVICE) --jobs $(JOBS) \
	  --executor $(EXECUTOR) $(if $(CLUSTER),--cluster "$(CLUSTER)") --profile $(PROFILE) $(if $(ROOT)$(filter real,$(PROFILE)),-p root "$(ROOT)") $(if $(DRY),--dry-run) $(if $(VERIFY),--verify)

pretrain: $(STAMP) ## train MiniCLIP (BACKBONE=mini) or PhotoCLIP (photo, ARCHIVE=...) from nothing; zero-shot table
	@case '$(BACKBONE)' in \
	  mini) python -m paper.tools.pretrain;; \
	  photo) python -m paper.tools.pretrain_photo $(if $(ARCHIVE),--archive "$(ARCHIVE)");; \
	  *) echo "BACKBONE must be mini or photo, but '$(BACKBONE)' was given." >&2; exit 2;; \
	esac

photographs: ROOT ?= data
photographs: $(STAMP) ## check ARCHIVE=.../tiny-imagenet-32.tar.xz and put it into ROOT (data), where tasks look for it
	@python -m paper.tools.photographs place "$(ARCHIVE)" --root "$(ROOT)"

matrix: $(STAMP) ## a few tests in a fresh environment for each Python at hand and torch, oldest, locked and newest (gigabytes)
	@python tests/matrix.py $(if $(PYTHONS),--pythons $(PYTHONS))

bench: $(STAMP) ## the benchmarks, each a ratio against a peer or a limit measured in the same run
	@python -m benchmarks

release: $(STAMP) ## source, lock, evidence and built book with checksums into dist/ (PDF=1: the book as a PDF, too)
	@python -m paper.tools.release make $(if $(PDF),--pdf)

archive: $(STAMP) ## the built book as one zip that opens without a network, into dist/
	@python -m paper.tools.release archive

pdf: $(STAMP) ## the built book as one PDF, printed by Chromium, into dist/
	@python -m paper.tools.release pdf

lock: $(STAMP) ## resolve requirements.in anew into requirements.lock
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links requirements.in -o requirements.lock

clean: ## remove the environment, the built book, the executed notebooks and the stored results
	rm -rf $(ENV) _build dist book/runs results/store results/jobs .snakemake .pytest_cache .ruff_cache *.egg-info
