# syntax=docker/dockerfile:1
# glibc 2.38 or later, which uWebSockets.js's binary for Node 24 needs: Debian 13.
FROM node:24-trixie-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json build.mjs bundle.mjs bundledashboard.mjs bundletypes.mjs fields.mjs ./
COPY tools/binary tools/binary
COPY proto proto
COPY src src
# Only what a node needs to run: the packages are inside the bundles, but for three, and of 50 uWebSockets.js binaries one is used here.
RUN node build.mjs && node tools/binary/folder.mjs image

FROM node:24-trixie-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/image ./
# For --data-dir /data: a volume that is mounted here belongs to the user that the node runs as.
RUN mkdir /data && chown 1000:1000 /data
# The base image's user node, by number: Kubernetes' runAsNonRoot refuses names.
USER 1000:1000
EXPOSE 8080
# It drains, for drainMs: give docker stop more time than that (docker stop -t 45, stop_grace_period).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["bash", "dist/cli/health.sh"]
# V8 is told how to use the container's memory; the shell gives way to node.
ENTRYPOINT ["/bin/sh", "-c", "exec node $(node dist/cli/main.js node-flags 2>/dev/null) dist/cli/main.js \"$@\"", "flux-gateway"]
CMD ["start"]
