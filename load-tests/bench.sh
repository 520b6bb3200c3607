#!/usr/bin/env bash
# Runs the whole table of README.md, one row after the other, and writes JSON and HTML for each into DIR.
# A row that is refused or fails is told and does not stop the others; the exit says whether all were well.
#
#   load-tests/bench.sh [DIR]      after `make release`; SESSIONS, PAIRS and REPORT_ANYWAY=1 may be set
set -uo pipefail
cd "$(dirname "$0")/.."

BIN=${TIDEGATE_BIN_DIR:-target/release}
OUT=${1:-target/bench}
SESSIONS=${SESSIONS:-18000}
RELAYED=${RELAYED:-8000}
PAIRS=${PAIRS:-5}
HUB=$BIN/tidegate
ANYWAY=()
if [ "${REPORT_ANYWAY:-0}" = 1 ]; then ANYWAY=(--report-anyway); fi
mkdir -p "$OUT"
failed=()

run() {
    local name=$1 scenario=$2
    shift 2
    echo "=== $name: tidegate-load $scenario $*" >&2
    # Options of a compared scenario stand last, after --.
    local before=() after=() seen=0
    for arg in "$@"; do
        if [ "$arg" = -- ]; then seen=1; fi
        if [ $seen = 1 ]; then after+=("$arg"); else before+=("$arg"); fi
    done
    "$BIN/tidegate-load" "$scenario" "${before[@]}" --start "$HUB" "${ANYWAY[@]}" \
        --json "$OUT/$name.json" --html "$OUT/$name.html" "${after[@]}" >"$OUT/$name.txt" || failed+=("$name")
    tail -n 1 "$OUT/$name.txt"
}

run idle idle --from 1000 --to "$SESSIONS" --steps 6 --after broadcast,burst,waves --idle-for 60s
run connect connect --count "$SESSIONS"
run broadcast broadcast --clients "$SESSIONS" --payload 80
run publish publish --from 1000 --to "$SESSIONS"
run relay relay --echo-app --sessions 64 --payload 64
run relay-open relay --echo-app --sessions 64 --payload 64 --rate 10000
run relayed-idle idle --echo-app --from 1000 --to "$RELAYED" --steps 5
run storm storm --count "$SESSIONS"
run churn churn --sessions 5000 --rate 1000 --time 30s
run slow slow --clients 5000 --stalled 50
run drain-unpaced drain --clients "$SESSIONS" --notice 2s --window 0s --rate 0.2 --push-rate 0.05
run drain-unpaced-heavy drain --clients "$SESSIONS" --notice 2s --window 0s
run drain-1000 drain --clients 1000 --notice 2s --window 0s
run drain-30s drain --clients "$SESSIONS" --notice 2s --window 30s --rate 0.2 --push-rate 0
run drain-30s-fan-out drain --clients "$SESSIONS" --notice 2s --window 30s --rate 0.2 --push-rate 0.05
# Beside peers that have one thread each (ws, uWebSockets, nchan, HAProxy, nginx as started here), the hub and the axum hub have one too.
export TOKIO_WORKER_THREADS=1
for peer in baseline ws uws nchan; do
    run "compare-idle-$peer" compare idle --peer "$peer" --pairs 3 -- --from 1000 --to 9000 --steps 4
    run "compare-connect-$peer" compare connect --peer "$peer" --pairs "$PAIRS" -- --count 9000
    run "compare-broadcast-$peer" compare broadcast --peer "$peer" --pairs "$PAIRS" -- --clients 9000
done
for peer in haproxy nginx; do
    run "compare-idle-$peer" compare idle --peer "$peer" --pairs 3 -- --from 1000 --to "$RELAYED" --steps 4
    run "compare-relay-$peer" compare relay --peer "$peer" --pairs "$PAIRS" -- --sessions 64 --payload 64 --time 5s
done

if [ ${#failed[@]} -gt 0 ]; then
    echo "not well: ${failed[*]} (see $OUT/NAME.txt)" >&2
    exit 1
fi
