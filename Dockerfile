# scanwise on the CPU, or on NVIDIA GPUs with `docker run --gpus all`. Build: docker build -t scanwise .
# For SageMaker, which owns the folders of its containers: docker build --target sagemaker -t scanwise-sagemaker .
# Scans and runs stay outside the image: mount them.
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" scanwise fit backbone --data /data/scans --out /data/runs/a
FROM python:3.11-slim AS installed

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
# Caches where any user may write, whatever --user says.
ENV HOME=/home/scanwise XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /opt/scanwise
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
# With the packages of everything that a recipe may name: trackers, and encoders of titles.
RUN pip install -c constraints.txt '.[s3,text,tensorboard,wandb,mlflow]' \
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
