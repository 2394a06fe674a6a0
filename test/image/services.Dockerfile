# Stand-ins for the images that compose.yaml pulls, of Debian 13's packages: no registry can be reached where the test runs.
FROM node:24-trixie-slim AS base
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nats-server redis-server redis-tools postgresql-17 prometheus wget \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

FROM base AS nats
ENTRYPOINT ["nats-server"]

# As the official image does, without its protected mode: other containers come from other addresses.
FROM base AS redis
WORKDIR /data
ENTRYPOINT ["/bin/sh", "-c", "exec \"$@\" --protected-mode no", "redis"]

FROM base AS postgres
COPY postgres.sh /postgres.sh
ENTRYPOINT ["/bin/bash", "/postgres.sh"]

FROM base AS prometheus
ENTRYPOINT ["prometheus"]

# For `npm run test:suite`: what the tests run beside Node, and what `npm ci` installs.
FROM base AS suite
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends bsdextrautils bsdutils chromium-headless-shell curl haproxy iproute2 nginx-light openssl php-cli procps python3 util-linux \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /project
