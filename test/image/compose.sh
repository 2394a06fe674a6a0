#!/usr/bin/env bash
# npm run test:compose: brings up deploy/compose.yaml in a real engine, and lets happen to it what the cluster tests let happen to processes: pause, kill,
# cut network, restart, drain, with the history checker. The images of NATS, Redis, PostgreSQL and Prometheus are stand-ins, of Debian 13's packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
source test/image/engine.sh
start_engine
make_base 24
build_image

need iptables iptables
compose="$work/docker-compose"
if [ ! -x "$compose" ]; then
  # Debian 12 has version 1 only. It is one static binary.
  cp /etc/resolv.conf "$work/root/etc/resolv.conf"
  chroot "$work/root" sh -c 'apt-get update -qq && cd /tmp && rm -f docker-compose_*.deb && apt-get download -qq docker-compose' >"$work/apt.log" 2>&1 || { tail -n 5 "$work/apt.log" >&2; fail "docker-compose cannot be had"; }
  dpkg-deb --fsys-tarfile "$work/root"/tmp/docker-compose_*.deb | tar -xO ./usr/libexec/docker/cli-plugins/docker-compose >"$compose"
  chmod +x "$compose"
fi
# Each under the name that compose.yaml pulls.
tag() { docker build --network host --target "$1" -t "$2" -f test/image/services.Dockerfile test/image >"$work/services.log" 2>&1 || { tail -n 10 "$work/services.log" >&2; fail "the stand-in for $2"; }; }
image_of() { sed -n "s|^    image: \($1:.*\)|\1|p" deploy/compose.yaml; }
for target in nats redis postgres; do tag "$target" "$(image_of "$target")"; done
tag prometheus "$(image_of prom/prometheus)"
docker tag "$base" "$(image_of node)"

export FLUX_COMPOSE="$compose -f deploy/compose.yaml -f test/image/compose.override.yaml"
down() { $FLUX_COMPOSE down --volumes --timeout 1 >/dev/null 2>&1 || true; }
# Of a run before this one.
down
trap 'down; end_engine' EXIT
$FLUX_COMPOSE up --detach --no-build --pull never >"$work/compose.log" 2>&1 || { tail -n 10 "$work/compose.log" >&2; fail "compose up"; }
say "compose is up: $(docker ps -q | wc -l) containers"
node --import tsx test/image/compose.ts "$@" || { $FLUX_COMPOSE logs --no-color --tail 40 gateway-1 gateway-2 gateway-3 balancer >"$work/compose.log" 2>&1; fail "the logs are in $work/compose.log"; }
