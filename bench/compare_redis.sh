#!/usr/bin/env bash
# Compares a three-node kvserver cluster with one redis-server that syncs every write, on this machine, in one run:
# the two take turns, the same generator (kv_bench) drives both, and of all rounds median, lowest and highest are printed.
#
#   bench/compare_redis.sh [ROUNDS] [SECONDS]          5 rounds of 3 seconds
#
# Needs redis-server in the path. Everything runs on loopback, in a temporary directory that is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-3}
command -v redis-server >/dev/null || { echo "redis-server is not installed" >&2; exit 2; }
cargo build --quiet --release -p kvserver -p moon-bench

dir=$(mktemp -d)
bin=${CARGO_TARGET_DIR:-$PWD/target}/release
children=()
cleanup() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    wait || true
    rm -rf "$dir"
}
trap cleanup EXIT

for node in 0 1 2; do
    printf 'node%dip=127.0.0.1\nnode%dport=%d\nnode%dresp=%d\nnode%dhttp=%d\n' \
        $node $node $((24920 + node)) $node $((24930 + node)) $node $((24940 + node))
done > "$dir/cluster.conf"
"$bin/kvserver" cluster -n 3 -f "$dir/cluster.conf" --data "$dir/data" > "$dir/kvserver.log" 2>&1 &
children+=($!)
redis-server --port 24950 --appendonly yes --appendfsync always --save '' --dir "$dir" > "$dir/redis.log" 2>&1 &
children+=($!)

# Clients go to the leader, as a client that follows the cluster's own hints would.
leader=
for _ in $(seq 100); do
    leader=$(curl -s --max-time 1 http://127.0.0.1:24940/status | sed -n 's/.*"leader_id":\([0-9]*\).*/\1/p')
    [ -n "$leader" ] && break
    sleep 0.1
done
[ -n "$leader" ] || { echo "the cluster elected no leader:" >&2; tail -5 "$dir/kvserver.log" >&2; exit 1; }
http=127.0.0.1:24940,127.0.0.1:24941,127.0.0.1:24942

measure() { # server address operation clients connections
    "$bin/kv_bench" --address "$2" --operation "$3" --clients "$4" --connections "$5" --seconds "$seconds" \
        ${6:+--http "$6"} > "$dir/out"
    sed -n 's/^throughput *\([0-9]*\) .*/\1/p' "$dir/out" >> "$dir/$1.$3.$4"
}

"$bin/kv_bench" --address 127.0.0.1:24950 --seconds 0.1 --warmup 0 > "$dir/out"
head -n 1 "$dir/out"
echo "256 byte values, 1000 keys, $rounds rounds of $seconds s, in turns; every write synced: by a majority of three, by the one"
for load in "1 1" "100 50" "1000 50"; do
    read -r clients connections <<< "$load"
    for operation in put get; do
        for _ in $(seq "$rounds"); do
            measure kvserver "127.0.0.1:2493$leader" $operation "$clients" "$connections" "$http"
            measure redis 127.0.0.1:24950 $operation "$clients" "$connections"
        done
        for server in kvserver redis; do
            sort -n "$dir/$server.$operation.$clients" | awk -v name="$server $operation, $clients clients" '
                { rate[NR] = $1 } END { printf "%-28s %8d ops/s  (%d to %d)\n", name, rate[int((NR + 1) / 2)], rate[1], rate[NR] }'
        done
    done
done
