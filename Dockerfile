# Tidecast's images. The daemon, which is the last target and so the default, and the trainer:
#
#     docker build -t tidecast:dev .
#     docker build -t tidecast-trainer:dev --target trainer .
#
# The daemon's adds 212 MB to its base: onnxruntime 78, numpy 56, zstandard 24, librdkafka 17, all else 37.
#
# With a GPU, onnxruntime-gpu in place of onnxruntime, on a base with CUDA, cuDNN and Python (docs/tuning.md makes one):
#
#     docker build -t tidecast:dev-gpu --build-arg BASE_IMAGE=… --build-arg ONNXRUNTIME=onnxruntime-gpu .
ARG BASE_IMAGE=python:3.12-slim

# Everything is installed here, into one folder without pip that the final images copy.
FROM ${BASE_IMAGE} AS build
ARG ONNXRUNTIME=onnxruntime
WORKDIR /source
# The compiler is for the small C library that writes forecasts; it stays behind in this stage.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /opt/tidecast
COPY constraints.txt pyproject.toml hatch_build.py LICENSE ./
# The dependencies alone, from a package without code: a change of the code does not install them again.
RUN --mount=type=cache,target=/root/.cache/pip \
    mkdir streamer training && touch README.md streamer/__init__.py training/__init__.py \
    && python3 -m pip --python /opt/tidecast/bin/python install --constraint constraints.txt '.[fast]' \
    && python3 -m pip --python /opt/tidecast/bin/python uninstall --yes tidecast \
    && if [ "${ONNXRUNTIME}" != onnxruntime ]; then \
         python3 -m pip --python /opt/tidecast/bin/python uninstall --yes onnxruntime \
         && python3 -m pip --python /opt/tidecast/bin/python install --constraint constraints.txt "${ONNXRUNTIME}"; \
       fi
COPY README.md ./
COPY streamer streamer
COPY training training
# --no-deps: onnxruntime-gpu serves as onnxruntime, under another name that pip does not take for it
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/tidecast/bin/python install --no-deps . \
    && test -e /opt/tidecast/lib/python3*/site-packages/streamer/adapters/libforecast_text.so \
    && rm /opt/tidecast/bin/training \
    && find /opt/tidecast -type d -name tests -prune -exec rm -rf {} + \
    && ln -s "$(/opt/tidecast/bin/python -I -c 'import os, streamer.demo as d; print(os.path.dirname(d.__file__))')" \
         /opt/tidecast/demo

FROM build AS build-trainer
# --build-arg PIP_EXTRA_INDEX_URL=… PyTorch's index of CPU wheels: makes the image without CUDA, some 5 GB smaller
ARG PIP_EXTRA_INDEX_URL=
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/tidecast/bin/python install --constraint constraints.txt '.[training,fast]'

FROM ${BASE_IMAGE} AS trainer
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tidecast-trainer" \
      org.opencontainers.image.description="Trains and exports recurrent forecasters for Tidecast" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build-trainer /opt/tidecast /opt/tidecast
# What torch and matplotlib would write to the home folder goes where a read-only root has a volume.
ENV PATH=/opt/tidecast/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
USER 10001:10001
ENTRYPOINT ["training"]

FROM ${BASE_IMAGE} AS streamer
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tidecast" \
      org.opencontainers.image.description="Streaming forecasts: recurrent models over Kafka event streams" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/tidecast /opt/tidecast
ENV PATH=/opt/tidecast/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /work
# A number: Kubernetes' runAsNonRoot cannot know what a name means.
USER 10001:10001
EXPOSE 9108
# The first minute may go into loading the model. A daemon whose port is set in its YAML file needs STREAMER_HTTP__PORT too.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('STREAMER_HTTP__PORT', '9108') + '/healthz', timeout=4)"]
# Exec form: the daemon is process 1 itself and gets the SIGTERM.
ENTRYPOINT ["streamer"]
CMD ["run"]
