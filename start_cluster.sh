#!/usr/bin/env bash
# Starts the three nodes of conf/test.conf on this machine: a thin wrapper around `kvserver cluster`.
# Usage: ./start_cluster.sh [data directory] [further arguments of `kvserver cluster`]
set -eu
cd "$(dirname "$0")"
data=${1:-data}
[ $# -gt 0 ] && shift
exec cargo run --release --quiet -p kvserver --bin kvserver -- cluster -n 3 -f conf/test.conf --data "$data" "$@"
