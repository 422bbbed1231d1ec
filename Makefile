# Every step that a person or a CI job takes is a target here. `make help` lists them.

PYTHON ?= python3
VENV := .venv
# Services with requirements of their own, which those of the pipeline exclude.
MLFLOW := .venv-mlflow
FEAST := .venv-feast
TORCH := torch==2.13.0
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup cluster repro repro-small committed same metrics experiments plots plots-page compare gate leaderboard exp-grid exp-models \
  exp-start exp-leak exp-rates exp-seeds exp-s4 exp-real exp-classes exp-mnist exp-mnist-start track register promote drift retrain watch mlflow serve features feature-server \
  check browser prometheus test test-quick bench lock \
  clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## create .venv and install the pinned requirements

cluster: $(VENV)/.ready-cluster ## install what a Dask cluster needs, in each of its machines

ONLY :=

repro: $(VENV)/.ready ## run the pipeline with the committed params.yaml; ONLY=D: of data set D alone, without the report
	@beatline repro $(if $(ONLY),--glob '*@$(ONLY)')
	@echo
	@echo "report:  reports/report.html (open in a browser) and reports/report.md$(if $(ONLY),; make repro adds $(ONLY))"
	@echo "metrics: make metrics, dvc metrics show, or the files in reports/metrics/"

committed: $(VENV)/.ready ## does dvc.lock match code, parameters and reports? (needs no data)
	@beatline committed

repro-small: $(VENV)/.ready ## run the pipeline on few records, beside the checkout, to review/small
	@beatline small-run

metrics: $(VENV)/.ready ## print the metrics, one row per model
	@dvc metrics show

# What a change did. BASE and REVISION are commits, branches, tags or experiments.
BASE := main
REVISION := workspace
PICTURES :=

ANSWERS :=

compare: $(VENV)/.ready $(if $(ANSWERS),$(VENV)/.ready-serve) ## compare REVISION with BASE: every metric, its interval, a verdict; ANSWERS=D/M: champion and challenger in production
	@$(if $(ANSWERS),beatline compare --answers '$(ANSWERS)',beatline compare '$(BASE)' '$(REVISION)' --folder review \
	  $(if $(PICTURES),--pictures '$(PICTURES)'))

gate: $(VENV)/.ready ## judge REVISION by BASE: passed, failed (exit status 1) or cannot tell
	@beatline gate '$(BASE)' '$(REVISION)'

COMMIT :=
KEEP :=

same: $(VENV)/.ready ## does a small run give what BASE's gives? COMMIT=1 records it: nothing is retrained
	@beatline same '$(BASE)' $(if $(COMMIT),--commit) $(if $(KEEP),--keep '$(KEEP)')

plots: $(VENV)/.ready ## show the plots that differ between BASE and REVISION in one page, review/plots.html
	@beatline plots '$(BASE)' '$(REVISION)'

plots-page: $(VENV)/.ready ## pack what draws charts in a browser anew from pinned packages (needs npm)
	@python .dvc/plots/make_page.py

leaderboard: $(VENV)/.ready ## every revision and experiment in one page, review/leaderboard.html
	@beatline leaderboard

SINCE :=
# Tracking is on where MLFLOW_TRACKING_URI is set. A server that is away fails nothing else.
TRACK := $(if $(MLFLOW_TRACKING_URI),beatline track --experiments;)

experiments: $(VENV)/.ready ## list experiments and what they changed; SINCE=v1.0: also those of older commits
	@beatline experiments $(if $(SINCE),--since '$(SINCE)')
	@$(TRACK) true

# Experiments. Each sweep is queued, so that it leaves the workspace as it is, and then run, WORKERS at a
# time, or by the workers of the Dask cluster CLUSTER=tcp://host:8786; a failed experiment says where its log is.
WORKERS := 1
CLUSTER :=
MODEL := cnn
DATASET := ptbxl
QUEUE := > /dev/null dvc exp run --queue
RUN = beatline run-queue --workers $(WORKERS) $(if $(CLUSTER),--cluster '$(CLUSTER)'); status=$$?; $(TRACK) exit $$status

RATES := 0.003,0.01,0.03
SIZES := 32,64,128

exp-grid: $(VENV)/.ready ## sweep: learning rate × batch size of MODEL on DATASET
	$(QUEUE) --name grid-$(MODEL)-$(DATASET) -S train.$(MODEL).$(DATASET).optimizer.learning_rate=$(RATES) \
	  -S train.$(MODEL).$(DATASET).batch_size=$(SIZES) evaluate_$(MODEL)@$(DATASET)
	$(RUN)

MODELS := cnn lstm cnn_lstm autoencoder
EPOCHS := 10

exp-models: $(VENV)/.ready ## sweep: all MODELS on DATASET, for as many EPOCHS each
	for model in $(MODELS); do $(QUEUE) --name models-$(DATASET)-$$model \
	  -S train.$$model.$(DATASET).epochs=$(EPOCHS) evaluate_$$model@$(DATASET) || exit 1; done
	$(RUN)

# The textbook networks and training that the project started from, on ptbxl. DVC merges a mapping into
# the one that stands there: what is not wanted of that is turned off.
START = -S '++train.$(1).ptbxl.architecture={$(2)}' -S ++train.$(1).ptbxl.windows.length=0 \
  -S 'train.$(1).ptbxl.optimizer={name: adam, learning_rate: 0.001, weight_decay: 0.0}' \
  -S ++train.$(1).ptbxl.schedule.name=constant -S train.$(1).ptbxl.batch_size=32
CNN := dimensions: 1, blocks: plain, stem_kernel: 0, filters: [32, 64], kernels: [5, 5], strides: [1, 1], \
  pool: 2, pooling: max, dropout: 0.5
LSTM := hidden: 128, layers: 1, frame: 1, pooling: last, dense: 0, dropout: 0.5
CNN_LSTM := filters: [64, 128], kernels: [7, 5], pool: 2, hidden: 128, pooling: last, dense: 64, \
  dropout: 0.5

exp-start: $(VENV)/.ready ## sweep: the textbook networks on ptbxl, to see what ours are worth
	$(QUEUE) --name start-cnn $(call START,cnn,$(CNN)) evaluate_cnn@ptbxl
	$(QUEUE) --name start-lstm $(call START,lstm,$(LSTM)) evaluate_lstm@ptbxl
	$(QUEUE) --name start-cnn-lstm $(call START,cnn_lstm,$(CNN_LSTM)) evaluate_cnn_lstm@ptbxl
	$(RUN)
	for model in cnn lstm cnn-lstm; do beatline compare start-$$model HEAD || exit 1; done

# Splits 1 to SPLITS, each by patient and by record: the same records, divided in two ways.
SPLITS := 5

exp-leak: $(VENV)/.ready ## sweep: what a split by record seems to gain, over SPLITS splits
	for split in $$(seq $(SPLITS)); do for by in patient record; do $(QUEUE) --name leak-$$by-$$split \
	  -S datasets.ptbxl.split.by=$$by -S datasets.ptbxl.split.seed=$$split \
	  evaluate_$(MODEL)@ptbxl || exit 1; done; done
	$(RUN)
	beatline compare $$(seq -f leak-patient-%g -s , $(SPLITS)) $$(seq -f leak-record-%g -s , $(SPLITS))

# The same ECGs at 500 Hz: windows of as many seconds, and convolutions that see as much of them.
exp-rates: $(VENV)/.ready ## sweep: ptbxl at 100 Hz against 500 Hz, the cnn
	$(QUEUE) --name rate-500 -S datasets.ptbxl.download.sampling_rate=500 \
	  -S train.cnn.ptbxl.windows.length=1250 \
	  -S 'train.cnn.ptbxl.architecture.strides=[5,4,2]' evaluate_cnn@ptbxl
	$(RUN)
	beatline compare HEAD rate-500

SEEDS := 5

# ={} changes nothing where there is such a training, and is refused where there is none.
exp-seeds: $(VENV)/.ready ## sweep: SEEDS networks of MODEL on DATASET, to see what luck is worth
	$(QUEUE) --name seeds-$(MODEL)-$(DATASET) -S 'train.$(MODEL).$(DATASET)={}' -S ++train.$(MODEL).$(DATASET).seeds=$(SEEDS) \
	  evaluate_$(MODEL)@$(DATASET)
	$(RUN)

# The published recipe, sized for a GPU: an epoch of PTB-XL takes five minutes on one core. PTBXL=folder
# takes files that you have already.
PTBXL := beatline/datasets/ptbxl/physionet.yaml
S4 := {architecture: {width: 256, state: 8, layers: 4, dropout: 0.2}, windows: {length: 250}, \
  optimizer: {name: adamw, learning_rate: 0.001, weight_decay: 0.001}, schedule: {name: constant}, \
  epochs: 50, batch_size: 32, monitor: auc}

exp-s4: $(VENV)/.ready ## experiment: a state space model and the cnn on PTB-XL, official split, for a GPU
	dvc exp run --name s4 -S datasets.ptbxl.download.source=$(PTBXL) \
	  -S datasets.ptbxl.split.method=official -S '++train.s4.ptbxl=$(S4)' \
	  evaluate_cnn@ptbxl evaluate_s4@ptbxl

# Few real ECGs, in the layout of PTB-XL: the mean of five networks that start from the committed one of
# simulated ECGs, of which a copy is taken, since that of the data set is trained anew. How it was chosen:
# docs/experiments.md, "What helps on real ECGs".
PARENT := review/parent
REAL := {initial_rate: 0.3, augment: {drop_channels: 0.1, noise: 0.2, scale: 0.2}, monitor: epoch, seeds: 5, \
  predict_with: mean}

exp-real: $(VENV)/.ready ## experiment: few real ECGs, PTBXL=FOLDER, learned from the cnn of simulated ones
	rm -rf $(PARENT) && dvc get --quiet . data/models/ptbxl/cnn --rev HEAD --out $(PARENT)
	dvc exp run --name real -S datasets.ptbxl.download.source=$(PTBXL) \
	  -S datasets.ptbxl.split.method=official -S '++train.cnn.ptbxl=$(REAL)' \
	  -S "++train.cnn.ptbxl.initial=$(PARENT)@$$(sed -n 's/.*"weights_sha256": "\(.\{12\}\).*/\1/p' $(PARENT)/model.json)" \
	  evaluate_cnn@ptbxl

# ECG5000 in its five classes, 500 records to learn from and 4,500 to test on: recipes for so few.
CLASSES := {architecture: {dimensions: 1, blocks: residual, stem_kernel: 15, filters: [64, 64, 128], \
  kernels: [9, 5], strides: [1, 2, 2], pooling: average_max, dropout: 0.3}, \
  augment: {noise: 0.2, scale: 0.2, shift: 4}, \
  optimizer: {name: adamw, learning_rate: 0.01, weight_decay: 0.01}, \
  epochs: 40, batch_size: 32, monitor: epoch, label_smoothing: 0.1, seeds: 1}
CLASSES_ROCKET := {architecture: {features: 9996}, seeds: 5}

exp-classes: $(VENV)/.ready ## experiment: ECG5000 in five classes, official split
	dvc exp run --name ecg5000-classes \
	  -S datasets.ecg5000.aggregate_labels.target=classes -S datasets.ecg5000.split.method=official \
	  -S datasets.ecg5000.split.train=0.8 -S datasets.ecg5000.split.validation=0.1 \
	  -S datasets.ecg5000.split.test=0.1 -S '++train.cnn.ecg5000=$(CLASSES)' \
	  -S '++train.rocket.ecg5000=$(CLASSES_ROCKET)'

# All 70,000 digits, the publishers' split, five epochs. MNIST=folder takes files that you have already. The
# cnn is the mean of three, each twice as wide as that of 5,000 digits; benchmarks/mnist.py trains one of them.
MNIST := beatline/datasets/mnist/official.yaml
DIGITS = -S datasets.mnist.download.source=$(MNIST) -S datasets.mnist.split.method=official \
  -S datasets.mnist.split.train=0.9 -S datasets.mnist.split.validation=0.05 \
  -S datasets.mnist.split.test=0.05 -S train.cnn.mnist.epochs=5 -S train.lstm.mnist.epochs=5
MNIST_START = -S '++train.$(1).mnist.architecture={$(2)}' -S train.$(1).mnist.batch_size=64 \
  -S 'train.$(1).mnist.optimizer={name: adam, learning_rate: 0.001, weight_decay: 0.0}' \
  -S ++train.$(1).mnist.schedule.name=constant -S ++train.$(1).mnist.label_smoothing=0.0 \
  -S '~train.$(1).mnist.augment'
MNIST_CNN := dimensions: 2, blocks: plain, filters: [32, 64], kernels: [3, 3], \
  strides: [1, 1], pool: 2, pooling: none, dense: 128, dropout: 0.5

exp-mnist: $(VENV)/.ready ## experiment: all 70,000 digits, official split, five epochs
	dvc exp run --name mnist $(DIGITS) -S 'train.cnn.mnist.architecture.filters=[64,128,128,256]' \
	  -S ++train.cnn.mnist.seeds=3 -S ++train.cnn.mnist.predict_with=mean

exp-mnist-start: $(VENV)/.ready ## experiment: the same with the textbook networks
	dvc exp run --name mnist-starting-point $(DIGITS) $(call MNIST_START,cnn,$(MNIST_CNN)) \
	  $(call MNIST_START,lstm,$(LSTM))

REVISIONS :=
EXPERIMENTS :=

track: $(VENV)/.ready-tracking ## mirror models, metrics and bundles into MLflow; REVISIONS='v1.0 main' EXPERIMENTS=1: those too
	@beatline track $(if $(REVISIONS),--revisions $(REVISIONS)) $(if $(EXPERIMENTS),--experiments)

retrain: $(VENV)/.ready-serve $(VENV)/.ready-tracking ## make a challenger of DATASET/MODEL from recordings that experts have labelled
	@beatline retrain '$(DATASET)/$(MODEL)'

WATCHED = $(DATASET)/$(MODEL)
# A fresh clone has no trained models: they come from a remote, or from DVC's cache, where CI keeps main's.
FETCH = if [ -n "$$(dvc remote list)" ]; then dvc pull --quiet --allow-missing; \
  else dvc checkout --quiet "train_$$name@$$data" "evaluate_$$name@$$data"; fi

watch: $(VENV)/.ready-serve $(VENV)/.ready-tracking ## look for drift in the log of WATCHED models, and make challengers where there is any
	@for model in $(WATCHED); do \
	  data="$${model%%/*}" name="$${model#*/}"; \
	  if [ ! -d "data/models/$$model" ]; then $(FETCH) || true; fi; \
	  if [ ! -d "data/models/$$model" ]; then \
	    echo "error: $$model: neither DVC's cache nor a remote has this model: make repro, or dvc remote add" >&2; exit 3; fi; \
	  beatline drift "$$model" --since '$(WINDOW)'; status=$$?; \
	  if [ $$status -eq 1 ]; then beatline retrain "$$model"; status=$$?; fi; \
	  case $$status in 0|2) ;; *) exit $$status;; esac; done
	@if [ -n "$$(dvc remote list)" ]; then dvc push --quiet --all-branches; fi

VERSION :=
ROLLBACK :=

register: $(VENV)/.ready-tracking ## make a version of DATASET/MODEL in MLflow's registry, and judge it by the champion
	@beatline register '$(DATASET)/$(MODEL)'

promote: $(VENV)/.ready-tracking ## make the challenger of DATASET/MODEL the champion, or VERSION=N; ROLLBACK=1: go back
	@beatline promote '$(DATASET)/$(MODEL)' $(if $(VERSION),--version '$(VERSION)') $(if $(ROLLBACK),--rollback)

# MLflow's pages, for this machine alone: nobody logs in there. The address may hold a password, so it goes
# by the environment and not by the command line, which every user of the machine can read.
MLFLOW_PORT := 5001
mlflow: export MLFLOW_BACKEND_STORE_URI := $(patsubst postgresql://%,postgresql+psycopg://%,$(or \
  $(MLFLOW_TRACKING_URI),sqlite:///$(CURDIR)/data/mlflow/mlflow.db))
mlflow: export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
mlflow: export MLFLOW_DISABLE_TELEMETRY := true
mlflow: $(MLFLOW)/.ready ## show what is tracked: MLflow's pages at 127.0.0.1:MLFLOW_PORT
	@case "$$MLFLOW_BACKEND_STORE_URI" in http*) \
	  echo 'error: MLFLOW_TRACKING_URI names a server: open its own pages in a browser' >&2; exit 1;; esac
	@mkdir -p data/mlflow/artifacts
	@env -u MLFLOW_TRACKING_URI $(MLFLOW)/bin/mlflow server --host 127.0.0.1 --port $(MLFLOW_PORT) --workers 1 \
	  --default-artifact-root '$(CURDIR)/data/mlflow/artifacts'

# Who may reach it: HOST=0.0.0.0 is everybody in the network.
HOST := 127.0.0.1
PORT := 5000

serve: $(VENV)/.ready-serve $(if $(filter registry,$(MODELS)),$(VENV)/.ready-tracking) ## an API and a page at HOST:PORT; MODELS=registry: the champions
	@exec beatline serve --host '$(HOST)' --port '$(PORT)' $(if $(filter registry,$(MODELS)),--models registry)

features: $(VENV)/.ready $(FEAST)/.ready ## fill the feature store from the tables of features (after make repro)
	@beatline features

WINDOW := 7d
drift: $(VENV)/.ready-serve ## has what models are asked drifted? WINDOW=7d, of the log of answers
	@beatline drift --since '$(WINDOW)'

feature-server: $(VENV)/.ready $(FEAST)/.ready ## run the server of the feature store, which make serve asks
	@exec beatline feature-server

check: $(VENV)/.ready-dev ## check parameters, style and types
	beatline validate
	ruff check .
	ruff format --check .
	basedpyright --level error

browser: ## install Chromium, in which the page is tested, if there is none (Debian and Ubuntu, as root)
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium; } || \
	  echo "no Chromium could be installed: the tests of the page will be skipped"

prometheus: ## install Prometheus and Alertmanager, with which dashboards and alarms are tested (Debian and Ubuntu, as root)
	@{ command -v prometheus && command -v promtool && command -v prometheus-alertmanager && command -v amtool; } || \
	  { apt-get update -qq && apt-get install -qq --yes --no-install-recommends prometheus prometheus-alertmanager; } || \
	  echo "no Prometheus could be installed: tests of dashboards and alarms will be skipped"

# Processes of one thread each: several with several threads would wait for each other.
test: $(VENV)/.ready-dev $(MLFLOW)/.ready $(FEAST)/.ready ## run the tests (25 minutes on two cores)
	OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test-quick: $(VENV)/.ready-dev ## run the short tests (two minutes on two cores): after every edit
	OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 4 --dist worksteal -m 'not slow'

bench: $(VENV)/.ready-dev ## run the benchmarks, each against its baseline in the same run
	python -m benchmarks.read_records
	python -m benchmarks.recordings
	python -m benchmarks.train
	python -m benchmarks.precision
	python -m benchmarks.bootstrap
	python -m benchmarks.preparation
	python -m benchmarks.sound_features
	python -m benchmarks.ecg_features
	python -m benchmarks.mnist
	python -m benchmarks.detectors
	python -m benchmarks.familiarity
	python -m benchmarks.drift
	python -m benchmarks.compare
	python -m benchmarks.no_op_repro
	python -m benchmarks.startup
	python -m benchmarks.lock_file
	python -m benchmarks.sums
	python -m benchmarks.source_folder
	python -m benchmarks.serving
	python -m benchmarks.hostile_clients
	python -m benchmarks.crowd
	python -m benchmarks.feature_store
	python -m benchmarks.logging

LOCKED := requirements requirements-serve requirements-tracking requirements-cluster requirements-mlflow \
  requirements-feast requirements-dev

lock: ## pin requirements*.txt anew from requirements*.in (needs uv)
	for each in $(LOCKED); do uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate -q $$each.in -o $$each.txt || exit 1; done

# What nobody can make again: what production has sent, registered models, the store that services fill.
KEPT := $(addprefix data/,README.md incoming monitoring mlflow registry feature_store)

clean: ## remove the environment and all that can be made again, but not the DVC cache
	rm -rf $(VENV) $(MLFLOW) $(FEAST) review $(filter-out $(KEPT),$(wildcard data/*))

# torch last and alone, so that pip picks the build that fits the machine. It has other bytes in each index,
# so it cannot be hashed; what every build needs is there by then, hashed, and the constraints keep pip
# from moving it. TORCH_INDEX_URL names an index for torch, such as PyTorch's of builds for the CPU: it is
# asked for nothing else, and no other one for torch.
# In the end, DVC's state: it holds pickles, and would be in a folder of the machine's that all may write.
# DVC takes an absolute path alone, so it cannot stand in .dvc/config.
$(VENV)/.ready: requirements.txt Makefile
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"error: Python {sys.version.split()[0]} is too old: install 3.11 or newer, or name one by make PYTHON=python3.12")'
	@echo "Installing the pinned requirements into $(VENV) (one to three minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@sed -n '/^[a-z]/s/ *\\$$//p' requirements.txt > $(VENV)/constraints.txt
	@pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX_URL),--index-url '$(TORCH_INDEX_URL)') \
	  -c $(VENV)/constraints.txt $(TORCH)
	@pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p .dvc/site-cache && chmod 700 .dvc/site-cache && dvc config --local core.site_cache_dir '$(CURDIR)/.dvc/site-cache'
	@touch $@

$(VENV)/.ready-serve: $(VENV)/.ready requirements-serve.txt
	@pip install --quiet --disable-pip-version-check --require-hashes -r requirements-serve.txt
	@touch $@

$(VENV)/.ready-tracking: $(VENV)/.ready requirements-tracking.txt
	@pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tracking.txt
	@touch $@

$(VENV)/.ready-cluster: $(VENV)/.ready requirements-cluster.txt
	@pip install --quiet --disable-pip-version-check --require-hashes -r requirements-cluster.txt
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-serve $(VENV)/.ready-tracking $(VENV)/.ready-cluster requirements-dev.txt
	@pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

$(MLFLOW)/.ready $(FEAST)/.ready: .venv-%/.ready: requirements-%.txt
	@echo "Installing the pinned requirements of $* into .venv-$* (one to two minutes, once)"
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-$*.txt
	@touch $@
