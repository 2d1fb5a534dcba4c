# make demo and make test are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs clean

help:  ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# One virtual environment, two stamps: what the demo needs is small, what the tests need (torch) is not.
$(VENV)/demo.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet --editable '.[demo,text,mqtt,sign,train]' --group dev
	@touch $@

demo: $(VENV)/demo.stamp  ## label a synthetic camera for ten seconds
	$(BIN)/edge-label --camera demo --seconds 10
	$(BIN)/edge-label bench --seconds 3

test: $(VENV)/test.stamp  ## run every test that this machine can run
	$(BIN)/python -m pytest

lint: $(VENV)/test.stamp  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/test.stamp  ## write the generated documents again
	$(BIN)/python -m edge_runtime.records > docs/record.schema.json

clean:  ## remove what make made
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
