# The operator: docker build -f images/operator.Dockerfile .
# Runs with a read-only root; where something must be written it is /tmp.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS code
COPY crds/pretune_api /code/pretune_api
COPY operator/pretune_operator /code/pretune_operator
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /code

FROM ${BASE}
LABEL org.opencontainers.image.title="Pretune operator" \
      org.opencontainers.image.description="Turns PretrainJobs and FinetuneJobs into Ray clusters" \
      org.opencontainers.image.licenses="Apache-2.0"
# kopf asks for the user's name.
RUN echo "pretune:x:65532:65532::/tmp:/usr/sbin/nologin" >>/etc/passwd
COPY images/install.sh requirements/bootstrap.txt requirements/operator.txt /opt/pretune/install/
RUN --mount=type=cache,id=pretune-packages,target=/packages /opt/pretune/install/install.sh operator.txt
ENV HOME=/tmp PATH=/opt/pretune/bin:${PATH} PYTHONPATH=/opt/pretune/code PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python", "-m", "pretune_operator"]
COPY --from=code /code /opt/pretune/code
