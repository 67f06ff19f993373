#!/bin/sh
# Makes a file system with PostgreSQL and Redis out of Debian's packages, for images that testcontainers' modules can use:
# `cargo xtask test clients` calls this before it goes where there is no network. Argument: the tar to write; one that is there stays.
set -eu
target=$1
[ ! -s "$target" ] || exit 0
here=$(dirname "$0")
root=$target.root
trap 'rm -rf "$root"' EXIT
rm -rf "$root"
debootstrap --variant=minbase --include=postgresql,redis-server bookworm "$root" >"$target.log" 2>&1
install -m 755 "$here/postgres.sh" "$here/redis.sh" "$root/usr/local/bin/"
tar -C "$root" --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' --exclude='./var/cache/apt/*' \
    --exclude='./var/lib/postgresql/*' --exclude='./usr/share/doc/*' -cf "$target.part" .
mv "$target.part" "$target"
