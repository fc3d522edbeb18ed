# The trainer: docker build -f images/trainer.Dockerfile --target finetune .     (or: --target pretrain, without PEFT)
# Head and workers of a Ray cluster. Runs with a read-only root; it writes to /tmp, which HOME names too.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS code
COPY crds/pretune_api /code/pretune_api
COPY trainer/pretune_trainer /code/pretune_trainer
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /code

FROM ${BASE} AS pretrain-packages
LABEL org.opencontainers.image.title="Pretune trainer" \
      org.opencontainers.image.description="Pre-trains and fine-tunes models with Ray Train" \
      org.opencontainers.image.licenses="Apache-2.0"
# torch.compile calls a compiler; without ibverbs NCCL leaves InfiniBand and RoCE for sockets, and does not say so.
RUN apt-get update -qq \
 && apt-get install -qq --yes --no-install-recommends g++ ibverbs-providers >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
# torch and Ray ask for the user's name.
RUN echo "pretune:x:65532:65532::/tmp:/usr/sbin/nologin" >>/etc/passwd
# Packages that the base brings already, CUDA's libraries for example: "nvidia-cublas nvidia-nccl-cu13".
ARG WITHOUT=""
COPY images/install.sh requirements/bootstrap.txt requirements/trainer.txt /opt/pretune/install/
RUN --mount=type=cache,id=pretune-packages,target=/packages /opt/pretune/install/install.sh trainer.txt
# What a tracker needs, in a layer of its own: it may change and torch stay.
COPY requirements/mlflow.txt /opt/pretune/install/
RUN --mount=type=cache,id=pretune-packages,target=/packages /opt/pretune/install/install.sh mlflow.txt
ENV HOME=/tmp PATH=/opt/pretune/bin:${PATH} PYTHONPATH=/opt/pretune/code PYTHONUNBUFFERED=1
# Where GKE's device plugin mounts the driver's libraries, of which it tells nobody; NVIDIA's images look there, too.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}}
# A login shell sets PATH anew, and KubeRay starts Ray in one where its ENABLE_LOGIN_SHELL is true.
RUN echo 'PATH=/opt/pretune/bin:${PATH}' >/etc/profile.d/pretune.sh
USER 65532:65532
CMD ["python", "-m", "pretune_trainer.main", "--help"]

FROM pretrain-packages AS finetune-packages
USER root
COPY requirements/finetune.txt /opt/pretune/install/
RUN --mount=type=cache,id=pretune-packages,target=/packages /opt/pretune/install/install.sh finetune.txt
USER 65532:65532

FROM pretrain-packages AS pretrain
COPY --from=code /code /opt/pretune/code

FROM finetune-packages AS finetune
COPY --from=code /code /opt/pretune/code
