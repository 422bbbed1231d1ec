# Every step that a person or a CI job takes is a target here. `make help` lists them.

PYTHON ?= python3
VENV := .venv
TORCH := torch==2.13.0
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro metrics exp-start exp-classes exp-mnist exp-mnist-start check test bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## create .venv and install the pinned requirements

repro: $(VENV)/.ready ## run the pipeline with the committed params.yaml
	@python -m beatline.validate
	@dvc repro
	@echo
	@echo "report:  reports/report.html (open in a browser) and reports/report.md"
	@echo "metrics: make metrics, dvc metrics show, or the files in reports/metrics/"

metrics: $(VENV)/.ready ## print the metrics, one row per model
	@dvc metrics show

# The textbook networks and training that the project started from, on ptbxl.
START = -S 'train.$(1).ptbxl.architecture={$(2)}' -S train.$(1).ptbxl.windows.length=0 \
  -S 'train.$(1).ptbxl.optimizer={name: adam, learning_rate: 0.001, weight_decay: 0.0}' \
  -S train.$(1).ptbxl.schedule.name=constant -S train.$(1).ptbxl.batch_size=32
CNN := dimensions: 1, blocks: plain, stem_kernel: 0, filters: [32, 64], kernels: [5, 5], strides: [1, 1], \
  pool: 2, pooling: max, dense: 0, dropout: 0.5
LSTM := hidden: 128, layers: 1, bidirectional: false, frame: 1, pooling: last, dense: 0, \
  dropout: 0.5
CNN_LSTM := filters: [64, 128], kernels: [7, 5], pool: 2, hidden: 128, pooling: last, dense: 64, \
  dropout: 0.5

exp-start: $(VENV)/.ready ## experiment: the textbook networks on ptbxl, to see what ours are worth
	dvc exp run --name starting-point $(call START,cnn,$(CNN)) $(call START,lstm,$(LSTM)) \
	  $(call START,cnn_lstm,$(CNN_LSTM))

# ECG5000 in its five classes, 500 records to learn from and 4,500 to test on: a recipe for so few.
CLASSES := {architecture: {dimensions: 1, blocks: residual, stem_kernel: 15, filters: [64, 64, 128], \
  kernels: [9, 5], strides: [1, 2, 2], pool: 1, pooling: average_max, dense: 0, dropout: 0.3}, \
  windows: {length: 0, stride: 140, aggregate: mean}, augment: {noise: 0.2, scale: 0.2, shift: 4, \
  rotate: 0.0, zoom: 0.0, shear: 0.0, move: 0.0}, \
  optimizer: {name: adamw, learning_rate: 0.01, weight_decay: 0.01}, \
  schedule: {name: one_cycle, patience: 3}, epochs: 40, batch_size: 32, monitor: epoch, \
  early_stopping: 0, gradient_clip: 1.0, class_weights: none, label_smoothing: 0.1, \
  threshold_percentile: 95, precision: auto, seed: 1}

exp-classes: $(VENV)/.ready ## experiment: ECG5000 in five classes, official split
	dvc exp run --name ecg5000-classes \
	  -S datasets.ecg5000.aggregate_labels.target=classes -S datasets.ecg5000.split.method=official \
	  -S datasets.ecg5000.split.train=0.8 -S datasets.ecg5000.split.validation=0.1 \
	  -S datasets.ecg5000.split.test=0.1 -S 'train.cnn.ecg5000=$(CLASSES)'

# All 70,000 digits, the publishers' split, five epochs. MNIST=folder takes files that you have already.
MNIST := official
DIGITS = -S datasets.mnist.download.source=$(MNIST) -S datasets.mnist.split.method=official \
  -S datasets.mnist.split.train=0.9 -S datasets.mnist.split.validation=0.05 \
  -S datasets.mnist.split.test=0.05 -S train.cnn.mnist.epochs=5 -S train.lstm.mnist.epochs=5
MNIST_START = -S 'train.$(1).mnist.architecture={$(2)}' -S train.$(1).mnist.batch_size=64 \
  -S 'train.$(1).mnist.optimizer={name: adam, learning_rate: 0.001, weight_decay: 0.0}' \
  -S train.$(1).mnist.schedule.name=constant -S train.$(1).mnist.label_smoothing=0.0 \
  -S 'train.$(1).mnist.augment={noise: 0.0, scale: 0.0, shift: 0, rotate: 0.0, zoom: 0.0, shear: 0.0, move: 0.0}'
MNIST_CNN := dimensions: 2, blocks: plain, stem_kernel: 0, filters: [32, 64], kernels: [3, 3], \
  strides: [1, 1], pool: 2, pooling: none, dense: 128, dropout: 0.5

exp-mnist: $(VENV)/.ready ## experiment: all 70,000 digits, official split, five epochs
	dvc exp run --name mnist $(DIGITS)

exp-mnist-start: $(VENV)/.ready ## experiment: the same with the textbook networks
	dvc exp run --name mnist-starting-point $(DIGITS) $(call MNIST_START,cnn,$(MNIST_CNN)) \
	  $(call MNIST_START,lstm,$(LSTM))

check: $(VENV)/.ready-dev ## check parameters, style and types
	python -m beatline.validate
	ruff check .
	ruff format --check .
	basedpyright --level error

# Processes of one thread each: several with several threads would wait for each other.
test: $(VENV)/.ready-dev ## run the tests (under 10 minutes on two cores)
	OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

bench: $(VENV)/.ready-dev ## run the benchmarks, each against its baseline in the same run
	python -m benchmarks.read_records
	python -m benchmarks.train
	python -m benchmarks.bootstrap
	python -m benchmarks.sound_features
	python -m benchmarks.ecg_features
	python -m benchmarks.mnist
	python -m benchmarks.detectors

lock: ## pin requirements*.txt anew from requirements*.in (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-package torch -q requirements.in -o requirements.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate -q requirements-dev.in -o requirements-dev.txt

clean: ## remove the environment and all that is machine-made, but not the DVC cache
	rm -rf $(VENV) data

# torch first and alone: pip then picks the build that fits the machine, and the hashed
# requirements, which leave torch out, cannot replace it.
$(VENV)/.ready: requirements.txt Makefile
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"error: Python {sys.version.split()[0]} is too old: install 3.11 or newer, or name one by make PYTHON=python3.12")'
	@echo "Installing the pinned requirements into $(VENV) (one to three minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@pip install --quiet --disable-pip-version-check $(TORCH)
	@pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready requirements-dev.txt
	@pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@
