# Each target makes .venv from requirements.txt when it is missing or older, then runs.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2
ARGS ?=

.PHONY: help audit dpo reward report test tickets page parity candidate calibrate speed mitigations

help:  ## these lines
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

audit: $(READY)  ## audit the embedded fine-tune against the embedded base
	$(BIN)/python -m pytest -m forgetting -n $(WORKERS) --base embedded:base --candidate embedded:chemistry $(ARGS)

dpo: $(READY)  ## train a writer on the embedded pairs and judge it; SIMULATED editors vote
	$(BIN)/python -m pytest -m dpo $(ARGS)

reward: $(READY)  ## train three reward models on the embedded support pairs and judge them
	$(BIN)/python -m pytest -m reward $(ARGS)

report: $(READY)  ## the Allure report of the last audit as one HTML file, out/allure.html (needs Node.js)
	$(BIN)/python -m harness.report.allure_page $(ARGS)

tickets: $(READY)  ## grade the reference submission to the support-ticket challenge (half an hour on two cores)
	$(BIN)/python -m pytest -m tickets --submission recipes/tickets $(ARGS)

test: $(READY)  ## lint, format and the project's own tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

page: $(READY)  ## open that report and a ballot in a browser and check them (needs Node.js and Chromium)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m page $(ARGS)

parity: $(READY)  ## our scores against lm-eval's own backend and command on the embedded model (half an hour)
	$(BIN)/python -m pytest -m parity $(ARGS)

candidate: $(READY)  ## train the embedded candidate again, into out/chemistry
	OMP_NUM_THREADS=2 $(BIN)/python -m recipes.sft --base embedded:base \
		--data "$$($(BIN)/python -m fixtures.embedded)/train.jsonl" --out out/chemistry --lr 0.002 $(ARGS)

calibrate: $(READY)  ## measure the gate's own error rates again, into docs/calibration.md (some minutes, no model)
	OMP_NUM_THREADS=2 $(BIN)/python -m bench.calibration

speed: $(READY)  ## our engine beside lm-eval's backend, into docs/speed.md (two hours on two cores)
	OMP_NUM_THREADS=2 $(BIN)/python -m bench.speed $(ARGS)

mitigations: $(READY)  ## replay shares and merge scales over three training seeds, into docs/mitigations.md (many hours)
	OMP_NUM_THREADS=2 $(BIN)/python -m bench.mitigations $(ARGS)

$(READY): requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	touch $@
