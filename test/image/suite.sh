#!/usr/bin/env bash
# npm run test:suite -- 24 [FILES]: runs the suite in a container, on the image's base, with the sources as they are committed. It takes as long as
# `npm test`, and both cores. Tests make containers, mounts and networks of their own, so this one has all rights; its network is its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
source test/image/engine.sh
version="${1:-24}"
shift || true
start_engine
make_base "$version"
sed "s/^FROM node:24-trixie-slim/FROM $base/" test/image/services.Dockerfile >"$work/services.Dockerfile"
docker build --network host --target suite -t "flux-suite:$version" -f "$work/services.Dockerfile" test/image >"$work/suite.log" 2>&1 || { tail -n 10 "$work/suite.log" >&2; fail "the image of the suite"; }
container="flux-suite-$version"
docker rm -f "$container" >/dev/null 2>&1 || true
# Installed with the network of this machine: a registry may be reachable from here only.
git archive HEAD | docker run -i --name "$container" --network host "flux-suite:$version" sh -c 'tar -x && npm ci --no-audit --no-fund && node build.mjs && node test/build.mjs' >"$work/suite.log" 2>&1 || { tail -n 10 "$work/suite.log" >&2; fail "npm ci, or the build"; }
docker commit "$container" "flux-suite-built:$version" >/dev/null
docker rm "$container" >/dev/null
say "running ${*:-the whole suite} with Node $(docker run --rm "$base" node --version)"
# What --privileged gives, without SYS_RESOURCE, which this machine may not have itself.
rights=(--cap-add ALL --cap-drop SYS_RESOURCE --security-opt seccomp=unconfined --security-opt apparmor=unconfined -v /sys/fs/cgroup:/sys/fs/cgroup --sysctl net.ipv6.conf.all.disable_ipv6=0)
docker run --rm --label "flux-test=$$" "${rights[@]}" --init --shm-size 1g --tmpfs /tmp:exec,mode=1777,size=6g --ulimit nofile=20000 "flux-suite-built:$version" nice -n 5 node test/run.mjs "$@"
