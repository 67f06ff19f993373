# Runs in both guests of `cargo xtask test vm-pair`: NUMBER SHOALD. The first makes a cluster, the second joins; then traffic of a
# plain and an encrypted network, a virtual address and a published port goes between two kernels.
set -u
number=$1 shoald=$2
one=10.99.0.1 two=10.99.0.2
modprobe virtio_net && modprobe wireguard || exit 1
ip addr add "10.99.0.$number/24" dev eth0 && ip link set eth0 up && hostname "vm$number" || exit 1
export DOCKER_HOST=unix:///run/shoal.sock DOCKER_CLI_HINTS=false
"$shoald" -H "$DOCKER_HOST" --data-root /var/lib/shoal-test/data --exec-root /run/shoal >/tmp/shoald.log 2>&1 &
daemon=$!

fail() {
    echo "vm$number: $*"
    tail -n 20 /tmp/shoald.log
    exit 1
}

# Tries a command until it holds; emulated machines are slow.
await() {
    what=$1
    shift
    for _ in $(seq 600); do
        "$@" >/tmp/tried 2>&1 && return
        kill -0 $daemon 2>/dev/null || fail "the daemon has ended"
        sleep 0.5
    done
    cat /tmp/tried
    fail "in vain: $what"
}

await "the daemon answers" docker version
mkdir -p /tmp/box/bin && cp "$(command -v busybox)" /tmp/box/bin/busybox || exit 1
for applet in sh hostname httpd mkdir sleep nc sort tail timeout; do ln -s busybox "/tmp/box/bin/$applet"; done
tar -C /tmp/box -c . | docker import - box >/dev/null || fail "no image"

both_ready() { [ "$(docker node ls --format '{{.Status}}' | grep -c Ready)" = 2 ]; }
both_run() { [ "$(docker service ps web --filter desired-state=running --format '{{.CurrentState}}' | grep -c Running)" = 2 ]; }
# fetch ADDRESS PORT PATH: the body, if there is such a file. Not every client on every machine works without a name server.
fetch() {
    timeout 20 bash -c 'exec 3<>/dev/tcp/$0/$1; printf "GET %s HTTP/1.0\r\n\r\n" "$2" >&3; cat <&3' "$@" >/tmp/fetched
    head -n 1 /tmp/fetched | grep -q ' 200 ' && sed '1,/^\r$/d' /tmp/fetched
}
# What ten connections were answered by.
answers() {
    docker exec "$1" sh -c "for i in 1 2 3 4 5 6 7 8 9 10; do
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 20 nc -w 10 $2 80 | tail -n 1; done" | sort -u | tr '\n' ' '
}
both_answer() { [ "$(answers "$1" "$2")" = "task1 task2 " ]; }
outside_answers() { fetch "$1" 8080 / | grep task; }

check() {
    for network in plain secret; do
        docker run -d --name "from-$network" --network "$network" box sleep 100000 >/dev/null || fail "no container on $network"
        await "both tasks answer by the virtual address on $network" both_answer "from-$network" web
        echo "vm$number: both tasks answer on $network"
    done
    for node in $one $two; do
        await "the published port answers at $node" outside_answers $node
    done
    echo "vm$number: the published port answers at both nodes"
    pgrep -f 'netd wireguard' >/dev/null && fail "the kernel's own WireGuard is there and not used"
    nsenter --net=/run/shoal/wireguard/netns ip link show type wireguard | grep -q . || fail "nobody uses the kernel's WireGuard"
    docker rm -f from-plain from-secret >/dev/null || fail "containers cannot be removed"
}

if [ "$number" = 1 ]; then
    docker swarm init --advertise-addr $one >/dev/null || fail "no cluster"
    mkdir /tmp/www && docker swarm join-token -q worker >/tmp/www/token || fail "no token"
    busybox httpd -p $one:8000 -h /tmp/www
    await "both nodes are ready" both_ready
    docker network create -d overlay --attachable plain >/dev/null || fail "no network"
    docker network create -d overlay --attachable --opt encrypted secret >/dev/null || fail "no encrypted network"
    docker service create --detach --no-resolve-image --name web --mode global --network plain --network secret \
        --hostname '{{.Node.Hostname}}' --publish 8080:80 box \
        sh -c 'mkdir /www; hostname | busybox sed s/vm/task/ >/www/index.html; exec httpd -f -p 80 -h /www' >/dev/null || fail "no service"
    await "both tasks run" both_run
    # What goes over the wire on the encrypted network says nothing to who listens there.
    tcpdump -i eth0 -w /tmp/wire udp 2>/dev/null &
    capture=$!
    check
    kill $capture
    wait $capture
    echo "vm1: $(tcpdump -r /tmp/wire -n 'udp port 4789' 2>/dev/null | wc -l) datagrams of VXLAN," \
        "$(tcpdump -r /tmp/wire -n 'udp port 4793 or udp port 4794' 2>/dev/null | wc -l) of WireGuard"
    [ "$(tcpdump -r /tmp/wire -n 'udp port 4793 or udp port 4794' 2>/dev/null | wc -l)" -gt 20 ] || fail "nothing was encrypted"
    : >/tmp/www/checked
    await "the other has checked, too" fetch $two 8000 /checked
    docker service rm web >/dev/null
    await "networks can be removed" docker network rm plain secret
    : >/tmp/www/done
    await "the other has left" fetch $two 8000 /done
else
    await "there is a token" fetch $one 8000 /token
    docker swarm join --token "$(fetch $one 8000 /token)" $one:2377 >/dev/null || fail "cannot join"
    await "the first has checked" fetch $one 8000 /checked
    check
    mkdir /tmp/www && : >/tmp/www/checked && busybox httpd -p $two:8000 -h /tmp/www
    await "the first is done" fetch $one 8000 /done
    docker swarm leave >/dev/null || fail "cannot leave"
    : >/tmp/www/done
    # The first is still asking.
    sleep 5
fi
kill $daemon
wait $daemon || fail "the daemon ended with $?"
grep ' ERROR ' /tmp/shoald.log && fail "errors in the log"
echo "vm$number: ok"
