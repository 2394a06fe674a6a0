#!/usr/bin/env bash
# npm run test:image: builds the Dockerfile as it stands with a real engine, and runs the image as an operator would: read-only, as another user, without
# capabilities, with 96 to 512 MiB and 0.5 to 2 CPUs. Checks health, readiness, the main job, a drain on the stop signal, and that the kernel never has
# to kill it. npm run test:image -- 22 takes another Node.
set -euo pipefail
cd "$(dirname "$0")/../.."
source test/image/engine.sh
start_engine
make_base "${1:-24}"
build_image
[ "$added" -le 40 ] || fail "the image adds $added MB to its base, more than 40"

# Asked from outside: what runs inside counts as the container's memory.
address() { docker inspect -f '{{.NetworkSettings.IPAddress}}' "$1"; }
answers() { curl -sf "http://$(address "$1"):8080/$2"; }
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; }
# Not a pipe: grep ends with the first match, and what writes into the pipe would fail.
logged() { docker logs "$1" >"$work/logs" 2>&1; grep -q "$2" "$work/logs"; }
client() { node --import tsx test/image/client.ts "$(address "$1")" "$2"; }
start() {
  local name="$1"
  shift
  docker run -d --name "$name" --label "flux-test=$$" --read-only --cap-drop ALL --security-opt no-new-privileges --ulimit nofile=20000 -e FLUX_ALLOW_ANONYMOUS=true -e FLUX_DRAIN_MS=2s "$@" flux-gateway >/dev/null
  until_true answers "$name" ready || { docker logs "$name" 2>&1 | tail -n 5 >&2; fail "$name: not ready"; }
}

for limits in "96 0.5" "128 1" "256 1" "512 2"; do
  read -r memory cpus <<<"$limits"
  name="flux-$memory"
  start "$name" --user 4321:4321 --memory "${memory}m" --memory-swap "${memory}m" --cpus "$cpus"
  answers "$name" health >/dev/null || fail "$name: health"
  until_true logged "$name" "\"memory\":\"$memory MiB" || fail "$name: it does not know its limit"
  done_job=$(client "$name" job) || fail "$name: the main job: $(docker logs "$name" 2>&1 | tail -n 3)"
  until_true healthy "$name" || fail "$name: the engine's health check: $(docker inspect -f '{{json .State.Health}}' "$name")"
  used=$(docker stats --no-stream --format '{{.MemUsage}}' "$name")
  : >"$work/stay"
  client "$name" stay >"$work/stay" &
  stays=$!
  until_true grep -qx ready "$work/stay" || fail "$name: a client: $(cat "$work/stay"; docker inspect -f '{{json .State}}' "$name"; docker logs "$name" 2>&1 | tail -n 5)"
  docker stop -t 45 "$name" >/dev/null
  wait "$stays" || fail "$name: the client was not told of the drain: $(cat "$work/stay")"
  logged "$name" '"drained"' || fail "$name: no drain on the stop signal"
  state=$(docker inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' "$name")
  [ "$state" = "0 false" ] || fail "$name: it ended with $state"
  docker rm "$name" >/dev/null
  say "$memory MiB, $cpus CPUs, read-only, user 4321, no capabilities: health, $done_job, drain; used $used"
done

# A kill: what was acknowledged is on the volume.
docker volume create --label "flux-test=$$" flux-data >/dev/null
kept() { start flux-kept -v flux-data:/data -e FLUX_DATA_DIR=/data; }
kept
client flux-kept write >/dev/null || fail "with a volume: publishing"
docker kill flux-kept >/dev/null; docker rm flux-kept >/dev/null
kept
client flux-kept read >/dev/null || fail "after a kill: the history"
docker rm -f flux-kept >/dev/null; docker volume rm flux-data >/dev/null
say "a kill with a volume, and the history after it"
