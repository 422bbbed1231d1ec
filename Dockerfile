# Images: `pipeline` trains (dvc repro, into volumes), `api` answers; `mlflow` is the server of runs and
# registered models, and `champions` answers with these; `feature-server` fills the
# feature store and answers with it; `retraining` makes challengers of what the service has logged. compose.yaml runs them.
# tests/project/test_containers.py runs what stands here without a container engine.
#
# The tag names a patch release and a distribution. To hold the very bytes, add the digest that
# `docker buildx imagetools inspect <the tag>` prints: FROM python:<tag>@sha256:<digest>
FROM python:3.11.14-slim-bookworm AS base
LABEL org.opencontainers.image.title="Beatline" \
      org.opencontainers.image.description="Recordings of hearts and machines, to trained and served models"
# The root file system may be read-only: bytecode is compiled below, and what needs a home finds /tmp.
ENV HOME=/tmp \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Another index, and one for torch alone, such as PyTorch's of builds for the CPU. Only the build sees them.
ARG PIP_INDEX_URL
ARG TORCH_INDEX_URL
WORKDIR /beatline
# A fixed number, so that the owner of a volume is the same in every version of both images.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin beatline


FROM base AS pipeline
# As the Makefile does: what is hashed, and then torch alone, which may move nothing of that.
COPY requirements.txt ./
RUN pip install --require-hashes -r requirements.txt && \
    sed -n '/^[a-z]/s/ *\\$//p' requirements.txt > constraints.txt && \
    pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -c constraints.txt torch==2.13.0
COPY .dvc/config .dvc/
# No Git repository in here. The cache is in the volume of the data, where files can be hard links.
RUN dvc config --local core.no_scm true && dvc config --local cache.dir data/.cache
ENV DVC_SITE_CACHE_DIR=/tmp/dvc \
    MPLCONFIGDIR=/tmp/matplotlib
COPY dvc.yaml params.yaml ./
COPY stages stages
COPY beatline beatline
RUN python -m compileall -q beatline stages
# Docker fills a new volume with what the image has in its place, owner and rights included. So the
# lock of what this machine has trained begins empty, and outlives the container.
RUN mkdir -p data/.cache reports && printf 'schema: "2.0"\n' > data/.cache/dvc.lock && \
    ln -s data/.cache/dvc.lock dvc.lock && chown -R 10001:10001 data reports
USER 10001:10001
# One at a time, also across containers: a second `docker compose run pipeline …` waits for the first.
ENTRYPOINT ["flock", "--no-fork", "data"]
CMD ["python", "-m", "beatline", "repro"]


# What retrains: the working folder is a clone of the project's repository.
FROM pipeline AS retraining
USER 0:0
# The release of Debian that the base image names has one version of it at a time.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends git && \
    rm -rf /var/lib/apt/lists/*
COPY requirements-serve.txt requirements-tracking.txt ./
RUN pip install --require-hashes -r requirements-serve.txt && \
    pip install --require-hashes -r requirements-tracking.txt
USER 10001:10001
# A volume's root may belong to another user, and Git asks whether it is trusted.
ENV GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*
WORKDIR /beatline/clone
ENTRYPOINT ["python", "-m", "beatline"]
CMD ["retrain", "--help"]


FROM base AS api
COPY requirements-serve.txt ./
RUN pip install --require-hashes -r requirements-serve.txt
COPY params.yaml ./
COPY beatline beatline
RUN python -m compileall -q beatline
RUN mkdir -p data reports && chown -R 10001:10001 data reports
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
CMD ["python", "-m", "beatline", "serve", "--host", "0.0.0.0", "--port", "5000"]


FROM api AS champions
USER 0:0
COPY requirements-tracking.txt ./
RUN pip install --require-hashes -r requirements-tracking.txt
USER 10001:10001
ENV BEATLINE_MODELS=registry


FROM api AS feature-server
USER 0:0
COPY requirements-feast.txt ./
RUN python -m venv .venv-feast && \
    .venv-feast/bin/python -m pip install --require-hashes -r requirements-feast.txt
USER 10001:10001
EXPOSE 6566
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:6566/health', timeout=4)"]
# Filled again at each start: a call that changes nothing takes ten seconds.
CMD ["sh", "-c", "python -m beatline features && exec python -m beatline feature-server --host 0.0.0.0 --port 6566"]


FROM base AS mlflow
COPY requirements-mlflow.txt ./
RUN pip install --require-hashes -r requirements-mlflow.txt
RUN mkdir -p data/mlflow && chown -R 10001:10001 data
USER 10001:10001
# Two processes instead of ten: the others would run jobs of language models.
ENV MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_DISABLE_TELEMETRY=true
EXPOSE 5001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5001/health', timeout=4)"]
CMD ["python", "-m", "mlflow", "server", "--host", "0.0.0.0", "--port", "5001", "--workers", "2", "--artifacts-destination", "data/mlflow"]
