PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart test clean

setup: .venv/installed

.venv/installed: setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

test: setup
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf data/streetscenes outputs/quickstart
