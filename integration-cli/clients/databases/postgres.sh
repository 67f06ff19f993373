#!/bin/sh
# What clients expect of an image of PostgreSQL: user, password and database come from the environment, the data are made at the
# first start, and nobody is let in before they are complete.
set -eu
programs=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups -- "$@"; }
if [ ! -s "$data/PG_VERSION" ]; then
    install -d -o postgres -g postgres -m 700 "$data" /var/run/postgresql
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    chown postgres /tmp/password
    as_postgres "$programs/initdb" -D "$data" -U "$user" --pwfile /tmp/password --auth-local trust \
        --auth-host scram-sha-256
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    as_postgres "$programs/pg_ctl" -D "$data" -o "-c listen_addresses=''" -w start
    [ "$database" = postgres ] || as_postgres "$programs/createdb" -U "$user" "$database"
    as_postgres "$programs/pg_ctl" -D "$data" -m fast -w stop
fi
exec setpriv --reuid postgres --regid postgres --init-groups -- "$programs/postgres" -D "$data" -c 'listen_addresses=*'
