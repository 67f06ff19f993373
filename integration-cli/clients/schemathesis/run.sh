#!/bin/sh
# Asks a daemon what its own description says can be asked, and more: `cargo xtask test schema` calls this under
# `unshare --net --mount`. Arguments: shoald, a directory of our own, schemathesis, the description, how many requests an operation
# gets. Left out are operations that answer for as long as the client listens, those that take archives, and those that go out to registries or
# other nodes.
set -eu
shoald=$1 state=$2 schemathesis=$3 description=$4 requests=$5
address=127.0.0.1:2375
ip link set lo up
mount -t tmpfs schema /run
rm -rf "$state"
mkdir -p "$state"
"$shoald" --config-file /dev/null --host "tcp://$address" --tls=false --data-root "$state/data" --exec-root /run/shoal \
    --pidfile /run/shoal.pid 2>"$state/daemon.log" &
daemon=$!
trap 'kill "$daemon" && wait "$daemon" || true' EXIT
tries=0
until busybox wget -q -O /dev/null "http://$address/_ping"; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { echo "the daemon does not answer; see $state/daemon.log" >&2; exit 1; }
    sleep 0.1
done
here=$(cd "$(dirname "$0")" && pwd)
cd "$state"
"$schemathesis" --config-file "$here/schemathesis.toml" run "$description" --url "http://$address/v1.56" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing --max-examples "$requests" --seed 1 --no-color \
    --request-timeout 20 --suppress-health-check all --warnings off \
    --exclude-operation-id-regex '^(SystemEvents|ContainerAttach.*|ContainerStats|ContainerWait|ContainerLogs|ExecStart|Session|Grpc|Debug.*|Swarm.*|SystemAuth|Image(Build|Create|Load|Push|Search)|PutContainerArchive|DistributionInspect|PluginPull|GetPluginPrivileges)$'
kill -0 "$daemon" || { echo "the daemon has died; see $state/daemon.log" >&2; exit 1; }
