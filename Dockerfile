# syntax=docker/dockerfile:1
# glibc 2.38 or later, which uWebSockets.js's binary for Node 22 needs: Debian 13.
FROM node:22-trixie-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json build.mjs bundle.mjs ./
COPY proto proto
COPY src src
RUN node build.mjs \
 && npm prune --omit=dev --ignore-scripts \
 # The package holds binaries for every platform and Node, 250 MB; one of them is used here.
 && keep="uws_linux_$(node -p 'process.arch + "_" + process.versions.modules').node" \
 && test -f "node_modules/uWebSockets.js/$keep" \
 && find node_modules/uWebSockets.js -name 'uws_*.node' ! -name "$keep" -delete

FROM node:22-trixie-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/proto proto
USER node
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.FLUX_PORT ?? 8080}/health`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "dist/cli/main.js"]
CMD ["start"]
