#!/usr/bin/env bash
# What the official image of PostgreSQL does with POSTGRES_USER and POSTGRES_PASSWORD, as far as compose.yaml needs it.
set -euo pipefail
data=/var/lib/postgresql/data
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
install -d -o postgres -g postgres /var/run/postgresql
mkdir -p "$data" && chown postgres:postgres "$data" && chmod 700 "$data"
if [ ! -s "$data/PG_VERSION" ]; then
  echo "$POSTGRES_PASSWORD" | as_postgres tee /var/run/postgresql/password >/dev/null
  as_postgres initdb --pgdata "$data" --username "$POSTGRES_USER" --auth trust --pwfile /var/run/postgresql/password --encoding UTF8 >/dev/null
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  as_postgres pg_ctl --pgdata "$data" --wait start >/dev/null
  createdb --host 127.0.0.1 --username "$POSTGRES_USER" "$POSTGRES_USER"
  as_postgres pg_ctl --pgdata "$data" --wait stop >/dev/null
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$data" -c listen_addresses='*'
