#!/usr/bin/env bash
# Makes sure that the programs the tests run, beyond what npm brings, are on this machine.
# Root on Debian: what is missing is installed. Anyone else is told what to install.
set -euo pipefail

# Debian keeps nginx where only root's PATH leads, and PostgreSQL's servers in a folder for each version.
paths() { PATH="$PATH:/usr/sbin:$(printf '%s:' /usr/lib/postgresql/*/bin)"; }
paths

# command:debian-package
needed=(
  chromium-headless-shell:chromium-headless-shell
  curl:curl
  haproxy:haproxy
  nats-server:nats-server
  nginx:nginx-light
  openssl:openssl
  php:php-cli
  initdb:postgresql
  python3:python3
  redis-server:redis-server
  ss:iproute2
)

missing=()
for entry in "${needed[@]}"; do
  command -v "${entry%%:*}" >/dev/null 2>&1 || missing+=("${entry#*:}")
done
# A module of nginx, so no command.
[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || ! command -v apt-get >/dev/null 2>&1 || missing+=(libnginx-mod-nchan)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  {
    echo "The tests need programs which are not installed. On Debian or Ubuntu, install them with"
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}"
    echo "and run the tests again. Elsewhere, put these commands on the PATH:"
    for entry in "${needed[@]}"; do
      command -v "${entry%%:*}" >/dev/null 2>&1 || echo "  ${entry%%:*}"
    done
  } >&2
  exit 1
fi

log="$(mktemp "${TMPDIR:-/tmp}/flux-test-services.XXXXXX")"
echo "Installing for the tests: ${missing[*]} (log: $log)"
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log" >&2
  echo "Installing ${missing[*]} failed; the whole log is in $log" >&2
  exit 1
fi

paths
for entry in "${needed[@]}"; do
  command -v "${entry%%:*}" >/dev/null 2>&1 || { echo "${entry#*:} is installed, but gives no command ${entry%%:*}" >&2; exit 1; }
done
rm -f "$log"
