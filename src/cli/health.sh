#!/usr/bin/env bash
# The image's health check. Bash asks the node for /health itself: a second Node takes 18 MB of the container's memory at each check, bash 2 MB.
# It asks one running node that has recorded a plain HTTP port (listening.ts). Everything else is left to health.js: TLS, IPv6, several nodes, and
# where no record could be written.
shopt -s nullglob
LC_ALL=C
seconds=2.5

leave_to_node() { exec node "${BASH_SOURCE[0]%/*}/health.js"; }

# Field 22 of /proc/PID/stat, the start time, tells apart two processes with the same id.
began_at() {
  local stat fields
  began=
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} = [ZX] ]] || began=${fields[19]}
}

found=()
record='^\{"node":"([^"\\]*)","host":"([0-9.]+)","port":([0-9]+),"tls":false,"pid":([0-9]+),"began":"([0-9]+)"'
for file in /dev/shm/flux-gateway-* "${TMPDIR:-/tmp}"/flux-gateway-*; do
  # Everybody can write to these folders: only this user's own files count.
  [[ -f $file && ! -L $file && -O $file ]] || continue
  read -rN 4096 text <"$file"
  [[ $text =~ \"pid\":([0-9]+),\"began\":\"([0-9]+)\" ]] || continue
  began_at "${BASH_REMATCH[1]}"
  [[ -n $began && $began = "${BASH_REMATCH[2]}" ]] && found+=("$text")
done
[[ ${#found[@]} -eq 1 && ${found[0]} =~ $record ]] || leave_to_node
node=${BASH_REMATCH[1]} host=${BASH_REMATCH[2]} port=${BASH_REMATCH[3]} pid=${BASH_REMATCH[4]}
# Process 1 is the container's main process. Another one is meant only where the variables name no other node.
[[ $pid = 1 || (${FLUX_PORT:-$port} = "$port" && ${FLUX_NODE_ID:-$node} = "$node") ]] || leave_to_node
[[ $port != 0 ]] || leave_to_node
[[ $host != 0.0.0.0 ]] || host=127.0.0.1
url="http://$host:$port/health"
by="port $port, recorded by process $pid"

ask() {
  local status line body=
  printf 'GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$host" >&3
  if ! read -r -t "$seconds" _ status _ <&3; then
    echo "not healthy: $url did not answer within $seconds s: the node hangs or is overloaded; read its log ($by)"
    exit 1
  fi
  if [[ $status != 200 ]]; then
    while read -r -t 1 line <&3 && [[ $line != $'\r' ]]; do :; done
    read -r -t 1 -n 200 body <&3
    echo "not healthy: $url answered $status: $body ($by)"
    exit 1
  fi
  echo "healthy: ${node:-the node} on port $port"
  exit 0
}
ask 3<>"/dev/tcp/$host/$port"
echo "not healthy: nothing listens on $url: the node is starting, has exited, or listens on another port ($by)"
exit 1
