# One target for each service of hopwire, one for the holder of their network namespace (router), and one for the hosts
# of the lab in docker-compose.yml:
#
#     docker build --target ingress --tag hopwire/ingress .
#
# Each image has what its service needs and nothing else; pip is in none of them. Another base (a mirror, a digest, a
# later Python) is given with --build-arg BASE=…
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS python
RUN cp -r "$(python3 -c 'import pathlib, pip; print(pathlib.Path(pip.__file__).parent)')" /pip

# An interpreter without pip, and without those parts of the standard library that no service uses.
FROM ${BASE} AS stripped
RUN cd /usr/local/lib/python3.* \
    && rm -rf site-packages/pip site-packages/pip-* ensurepip idlelib lib2to3 pydoc_data tkinter turtledemo turtle.py \
    && rm -f /usr/local/bin/pip* /usr/local/bin/2to3* /usr/local/bin/idle* /usr/local/bin/pydoc*

FROM scratch AS base
COPY --from=stripped / /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONPATH=/opt/hopwire \
    PYTHONUNBUFFERED=1
WORKDIR /opt/hopwire
# Each check costs the engine more than the service: at four a second in every container the cores would do little else.
HEALTHCHECK --interval=5s --timeout=5s --retries=3 --start-period=60s --start-interval=1s \
    CMD ["python3", "-S", "-m", "services.container.health"]

# The packages that every service needs; then those of services with compiled kernels, and those of control.
FROM base AS service-packages
RUN --mount=type=bind,from=python,source=/pip,target=/mnt/pip \
    --mount=type=bind,source=requirements,target=/mnt/requirements \
    python3 /mnt/pip install --no-cache-dir --root-user-action=ignore --disable-pip-version-check \
    --require-hashes --requirement /mnt/requirements/service.txt

FROM service-packages AS kernel-packages
RUN --mount=type=bind,from=python,source=/pip,target=/mnt/pip \
    --mount=type=bind,source=requirements,target=/mnt/requirements \
    python3 /mnt/pip install --no-cache-dir --root-user-action=ignore --disable-pip-version-check \
    --require-hashes --requirement /mnt/requirements/kernels.txt
# Machine code for the family of processors, not for the one that builds: an image may be carried elsewhere.
# --build-arg NUMBA_CPU_NAME=host makes it for this one.
ARG NUMBA_CPU_NAME=generic
ENV NUMBA_CPU_NAME=${NUMBA_CPU_NAME}

FROM kernel-packages AS control-packages
RUN --mount=type=bind,from=python,source=/pip,target=/mnt/pip \
    --mount=type=bind,source=requirements,target=/mnt/requirements \
    python3 /mnt/pip install --no-cache-dir --root-user-action=ignore --disable-pip-version-check \
    --require-hashes --requirement /mnt/requirements/control.txt

# The container whose network namespace the services share: no package at all.
FROM base AS router
# All others wait for it.
HEALTHCHECK --interval=5s --timeout=5s --retries=3 --start-period=60s --start-interval=250ms \
    CMD ["python3", "-S", "-m", "services.container.health"]
COPY services/__init__.py services/
COPY services/common services/common
COPY services/container services/container
RUN python3 -m compileall -q services
ENTRYPOINT ["python3", "-m", "services.container.hold"]

FROM service-packages AS arp
COPY services/__init__.py services/
COPY services/common services/common
COPY services/container services/container
COPY services/arp services/arp
RUN python3 -m compileall -q services
ENTRYPOINT ["python3", "-m", "services.container.keep", "arp"]

FROM control-packages AS control
COPY --chmod=755 deploy/docker/control-cli /usr/local/bin/control-cli
COPY services/__init__.py services/
COPY services/common services/common
COPY services/container services/container
COPY services/control services/control
RUN python3 -m compileall -q services && python3 -m services.common.kernels
ENTRYPOINT ["python3", "-m", "services.container.keep", "control"]

FROM kernel-packages AS ingress
COPY services/__init__.py services/
COPY services/common services/common
COPY services/container services/container
COPY services/ingress services/ingress
RUN python3 -m compileall -q services && python3 -m services.common.kernels
ENTRYPOINT ["python3", "-m", "services.container.keep", "ingress"]

FROM kernel-packages AS forwarder
COPY services/__init__.py services/
COPY services/common services/common
COPY services/container services/container
COPY services/forwarder services/forwarder
RUN python3 -m compileall -q services && python3 -m services.common.kernels
ENTRYPOINT ["python3", "-m", "services.container.keep", "forwarder"]

# A host of the lab: a route through the router, and an iperf3 server.
FROM base AS host
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    curl iperf3 iproute2 iputils-ping tcpdump traceroute \
    && rm -rf /var/lib/apt/lists/*
COPY --chmod=755 deploy/docker/lab-host /usr/local/bin/lab-host
HEALTHCHECK NONE
ENTRYPOINT ["lab-host"]
