# MedQ's commands. `make` alone lists them. Every one that needs Python makes .venv first, once.

PY := .venv/bin/python
READY := .venv/.installed
CARD_FOLDER = $(if $(OUT),--out "$(OUT)")

.DEFAULT_GOAL := help
.PHONY: help demo test test-faults check run train evaluate report eval-answers bench soak fuzz audit clean
.SUFFIXES:

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## start the system, ask it about a picture, print the answer, stop; [IMAGE=file] [QUESTION="..."]
	@$(PY) -m deploy.demo $${IMAGE:+--image "$$IMAGE"} $${QUESTION:+--question "$$QUESTION"}

test: $(READY) ## run every test; [ARGS="tests/api -k cancel"]
	@$(PY) -m pytest $(ARGS)

test-faults: $(READY) ## kill, freeze, fill and confuse every part, 200 jobs a fault; up to an hour; [ARGS="-k redis"]
	@$(PY) -m pytest tests/faults --long $(ARGS)

check: $(READY) ## formatting, lint, types and the rules between rooms
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/test_architecture.py

run: $(READY) ## start everything on http://127.0.0.1:8000 and stay; Ctrl-C stops it
	@$(PY) -m deploy.run

# glibc would hand every activation back to the kernel at each step, and fetch it again: a fifth of the time.
train: export MALLOC_MMAP_THRESHOLD_ = 4294967296
train: export MALLOC_TRIM_THRESHOLD_ = 8589934592
train: $(READY) ## train a pipeline's network; PIPELINE=skin DATA=folder [CONFIG=file] [OUT=folder] [RUN=folder]
	@$(call need,PIPELINE)$(call need,DATA)
	@$(PY) -m training.train --pipeline "$(PIPELINE)" --data "$(DATA)" $(if $(CONFIG),--config "$(CONFIG)") $(CARD_FOLDER) $(if $(RUN),--run-folder "$(RUN)")

evaluate: $(READY) ## measure the shipped network again; PIPELINE=skin DATA=folder [SPLIT=test]
	@$(call need,PIPELINE)$(call need,DATA)
	@$(PY) -m training.evaluate --pipeline "$(PIPELINE)" --data "$(DATA)" --split "$(or $(SPLIT),test)"

report: $(READY) ## a page about a run: curves, confusion, worst cases; RUN=runs/skin DATA=folder [WITH="runs/a runs/b"] [MODEL=folder]
	@$(call need,RUN)$(call need,DATA)
	@$(PY) -m training.report --run "$(RUN)" --data "$(DATA)" $(if $(WITH),--with $(WITH)) $(if $(MODEL),--model "$(MODEL)")

eval-answers: $(READY) ## score the answers to 154 questions; [ARGS="--providers smollm2 --out FILE --questions 1-60 --resume"]
	@$(PY) -m tests.answers_eval $(ARGS)

bench: $(READY) ## measure speed against raw loops; takes minutes
	@$(PY) -m tests.bench

soak: $(READY) ## twice the load it can bear, 500 pollers and 200 long-polls, for MINUTES=10; is memory flat?
	@$(PY) -m tests.bench.soak --minutes $(or $(MINUTES),10)

fuzz: $(READY) ## send what the OpenAPI document allows and forbids, and hold every answer against it; [CASES=12000]
	@$(PY) -m tests.fuzzing $(or $(CASES),12000)

audit: $(READY) ## are the packages those that are pinned, unchanged, and without known weaknesses? Takes a minute
	@$(PY) -m deploy.audit

clean: ## remove caches; .venv and var/ with its jobs stay
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis medq.egg-info build

# The first Python that is 3.11 or 3.12 and has venv; else one of them without, which is told what it lacks.
$(READY): requirements.txt deploy/without_dependencies.txt pyproject.toml
	@for lacks in "ensurepip, venv" "sys"; do \
	  for python in $(PYTHON) python3.11 python3.12 python3 python; do \
	    if "$$python" -c "import sys, $$lacks; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))" 2>/dev/null; then \
	      exec "$$python" -m deploy.install; \
	    fi; \
	  done; \
	done; \
	echo "MedQ needs Python 3.11 or 3.12. On Debian 12: sudo apt install python3 python3-venv." >&2; \
	echo "If it is installed elsewhere: make PYTHON=/path/to/python3.11 ..." >&2; \
	exit 1

need = $(if $($(1)),,$(error $(1) is missing, as in: make $@ $(if $(filter report,$@),RUN=runs/skin,PIPELINE=skin) DATA=../shared/data/skin))
