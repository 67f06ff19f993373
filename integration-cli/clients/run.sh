#!/bin/sh
# Runs the clients' suites against a daemon in namespaces of its own: `cargo xtask test clients` calls this under
# `unshare --net --mount`. Arguments: shoald, a directory of our own, the docker client, python, node_modules.
set -eu
shoald=$1 state=$2 docker=$3 python=$4 modules=$5
here=$(dirname "$0")
ip link set lo up
mount -t tmpfs clients /run
# What a run left that was cut off is nobody's concern.
rm -rf "$state/data"
export DOCKER_HOST=unix:///run/shoal.sock TESTCONTAINERS_RYUK_DISABLED=true NODE_PATH="$modules"
"$shoald" --config-file /dev/null --host "$DOCKER_HOST" --data-root "$state/data" --exec-root /run/shoal \
    --pidfile /run/shoal.pid 2>"$state/daemon.log" &
daemon=$!
finish() {
    "$docker" ps -aq | xargs -r "$docker" rm -fv >/dev/null 2>&1 || true
    kill "$daemon" && wait "$daemon" || true
}
trap finish EXIT
tries=0
until "$docker" version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo "the daemon does not answer; see $state/daemon.log" >&2; exit 1; }
    sleep 0.1
done
rm -rf "$state/box"
mkdir -p "$state/box/bin" "$state/box/etc" "$state/box/tmp" "$state/box/root"
cp "$(command -v busybox)" "$state/box/bin/busybox"
# Some list themselves among what they can do.
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -sf busybox "$state/box/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$state/box/etc/passwd"
printf 'root:x:0:\n' >"$state/box/etc/group"
chmod 1777 "$state/box/tmp"
tar -C "$state/box" -c . | "$docker" import \
    --change 'CMD ["sh"]' --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' - busybox:latest >/dev/null
# Made from Debian's packages beforehand; without them the cases that want them are skipped.
if [ -s "$state/databases.tar" ]; then
    "$docker" import --change 'ENTRYPOINT ["postgres.sh"]' --change 'EXPOSE 5432' "$state/databases.tar" postgres:15 >/dev/null
    "$docker" import --change 'ENTRYPOINT ["redis.sh"]' --change 'CMD ["redis-server"]' --change 'EXPOSE 6379' \
        "$state/databases.tar" redis:7 >/dev/null
    export SHOAL_DATABASES=1
else
    echo "SKIPPED: modules with databases, for there are no images of them" >&2
fi
failed=0
for suite in "$here"/python/test_*.py; do "$python" -W ignore "$suite" || failed=1; done
(cd "$here/node" && node --test) || failed=1
# Built beforehand: there is no network here.
cargo test --quiet --offline --locked --manifest-path "$here/rust/Cargo.toml" --target-dir "$state/rust" || failed=1
exit "$failed"
