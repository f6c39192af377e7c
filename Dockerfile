# scanwise on the CPU, or on NVIDIA GPUs with `docker run --gpus all`. Scans and runs stay outside the image: mount them.
#   docker build -t scanwise --build-arg TORCH_INDEX=URL .   CPU only, about 2 GB; PyTorch's installation page names the URL of its CPU index
#   docker build -t scanwise .                               with the CUDA libraries that torch brings on Linux, about 7 GB
#   docker build --target sagemaker -t scanwise-sagemaker .  for SageMaker, which owns the folders of its containers
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" scanwise fit backbone --data /data/scans --out /data/runs/a
FROM python:3.11-slim AS installed

ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
# Caches where any user may write, whatever --user says.
ENV HOME=/home/scanwise XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /opt/scanwise
COPY constraints.txt constraints-image.txt pyproject.toml README.md LICENSE NOTICE ./
# torch first, from the index that was asked for; its version is pinned, its hash differs from build to build.
RUN pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
# Everything else by hash, with what a recipe may name: trackers, and encoders of titles.
RUN pip install --require-hashes --no-deps -r constraints-image.txt
COPY src ./src
RUN pip install --no-deps . \
    && useradd --create-home --uid 1000 scanwise \
    && install -d -o scanwise /data

# SageMaker runs `IMAGE train` as root, with its folders under /opt/ml.
FROM installed AS sagemaker
ENTRYPOINT ["scanwise"]

FROM installed
USER scanwise
WORKDIR /data
ENTRYPOINT ["scanwise"]
CMD ["--help"]
