#!/usr/bin/env bash
# Measures the local cluster and prints the figures, one JSON object per measurement.
#
# usage: scripts/bench.sh [throughput|neighbour|features|failover|idle|routing|import|churn|stuck] [--seconds N] [--size BYTES] [--rounds N] [--signal S] [--out FILE] [--help]
#   throughput    `warren perf` in three modes (the default)
#   neighbour     one message in flight on a queue of its own: alone, and beside publishers that do not wait for their confirms
#   features      what each behaviour of a queue costs: throughput and CPU as a share of those of the plain runs before and
#                 after it, the middle of --rounds (3 rounds or more tell something), --seconds each
#   failover      a queue's leader ends or stands still under 1,000 messages per second, clients on the other nodes: the longest
#                 time without a confirm and without a delivery, per round and as percentiles
#   idle          CPU and memory of each node while nothing is asked of the cluster
#   routing       the routing tables alone, on one core: keys per second, bytes of 100,000 bindings, hostile patterns
#   import        10,000 queues, each bound to a topic exchange, imported into an empty local cluster
#   churn         200 cycles per second of declare, bind, publish, consume and delete while nodes restart, on a cluster of its
#                 own for --seconds (tests/cluster, topology_churn): no error, nothing left behind, memory of each node
#   stuck         5,000,000 messages pass one that is never settled, on a cluster of its own (tests/cluster, stuck): disk and memory
#                 of the node that has most, while they pass and during --seconds of rest after them
#   --seconds N   length of each mode, or of the idle time (default 15)
#   --size BYTES  body size (default 1024)
#   --rounds N    leaders that end, or rounds of features (default 20)
#   --signal S    what a leader gets: KILL (the default), TERM (it stops in good order) or STOP (it is frozen for some seconds)
#   --out FILE    add the JSON lines to this file too
#
# BENCH_FLOOR: a program that measures the bare floor (write, fdatasync on two of three) as `PROGRAM --size B
# --inflight N --seconds S`; when set it runs beside each mode, in the same minute, and its line is printed too.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

what=throughput
seconds=15
size=1024
rounds=20
signal=KILL
out=""
while [[ $# -gt 0 ]]; do
    case "$1" in
        --help)
            show_help "${BASH_SOURCE[0]}"
            exit 0
            ;;
        throughput | neighbour | features | failover | idle | routing | import | churn | stuck) what="$1" ;;
        --seconds | --size | --rounds | --signal | --out)
            [[ $# -ge 2 ]] || fail "$1 needs a value"
            case "$1" in
                --seconds) seconds="$2" ;;
                --size) size="$2" ;;
                --rounds) rounds="$2" ;;
                --signal)
                    [[ "$2" =~ ^(KILL|TERM|STOP)$ ]] || fail "--signal is KILL, TERM or STOP, not '$2'"
                    signal="$2"
                    ;;
                --out) out="$2" ;;
            esac
            shift
            ;;
        *) fail "unknown option '$1': see scripts/bench.sh --help" ;;
    esac
    shift
done

servers="127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"
local_dir="${WARREN_LOCAL_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/warren/local}"

# Process ids of the nodes, comma separated, for the CPU figures.
node_pids() { cat "$local_dir"/node-*/pid | paste --serial --delimiters=,; }

keep() {
    if [[ -n "$out" ]]; then tee --append "$out"; else cat; fi
}

mode() {
    local what="$1" inflight="$2"
    shift 2
    say "$what"
    "$WARREN_BIN" perf --server "$servers" --seconds "$seconds" --size "$size" --window "$inflight" \
        --pids "$(node_pids)" "$@" | tail --lines=1 | keep
    if [[ -n "${BENCH_FLOOR:-}" ]]; then
        "$BENCH_FLOOR" --size "$size" --inflight "$inflight" --seconds 5 | tail --lines=1 | keep
    fi
}

throughput() {
    mode "one queue, publish and consume, window 1000, prefetch 200" 1000 --publishers 1 --consumers 1 --queues 1 --prefetch 200 --verify
    mode "ten queues, publish and consume, window 1000 together" 1000 --publishers 10 --consumers 10 --queues 10 --prefetch 200 --verify
    mode "one queue, one message in flight" 1 --publishers 1 --consumers 1 --queues 1 --prefetch 1
}

probe() {
    "$WARREN_BIN" perf --server "$servers" --output json --queue-prefix probe --window 1 --prefetch 10 --ack-every 1 \
        --size "$size" --seconds "$seconds" --label "$1" | tail --lines=1 | keep
}

# The flood begins before the probe and ends after it.
neighbour() {
    say "one message in flight, alone"
    probe "alone"
    local queues flood
    for queues in 1 3; do
        say "the same beside four publishers without a limit, $queues queues"
        "$WARREN_BIN" perf --server "$servers" --output json --queue-prefix flood --queues "$queues" --publishers 4 \
            --consumers "$queues" --window 400000 --prefetch 1000 --size "$size" --place spread --warmup 1 \
            --seconds "$((seconds + 5))" --label "flood, $queues queues" >"$local_dir/flood" 2>/dev/null &
        flood=$!
        sleep 3
        probe "beside a flood, $queues queues"
        wait "$flood" || fail "the flood ended with an error"
        tail --lines=1 "$local_dir/flood" | keep
    done
    rm --force "$local_dir/flood"
}

# One line per feature: `NAME ARGUMENTS of warren perf`. The keys and priorities differ from message to message.
queue_features() {
    cat <<'END'
priorities --argument x-max-priority=10 --priorities 4
message-ttl --ttl 60
max-length --argument x-max-length=1000000
delivery-limit --argument x-delivery-limit=5
single-active-consumer --argument x-single-active-consumer=true
groups-strict --argument x-message-groups=strict --keys 100
groups-step-aside --argument x-message-groups=step-aside --keys 100
keys-alone --keys 100
dedup --argument x-dedup-window=60000
dead-letter-exchange --argument x-dead-letter-exchange=amq.direct
retry-back-off --argument x-delayed-retry-type=all --argument x-delayed-retry-min=100
END
}

features() {
    work="$(mktemp --directory)"
    local round name arguments
    measure() {
        local label="$1"
        shift
        "$WARREN_BIN" perf --server "$servers" --output json --size "$size" --window 1000 --prefetch 1000 --seconds "$seconds" \
            --pids "$(node_pids)" --label "$label" "$@" 2>/dev/null | tail --lines=1 >>"$work/runs"
    }
    for ((round = 1; round <= rounds; round++)); do
        say "round $round of $rounds"
        measure plain
        while read -r name arguments; do
            # shellcheck disable=SC2086 # arguments are words
            measure "$name" $arguments </dev/null
            measure plain </dev/null
        done < <(queue_features)
    done
    python3 -c '
import json, statistics, sys
runs = [json.loads(line) for line in open(sys.argv[1])]
shares = {}
for before, run, after in zip(runs, runs[1:], runs[2:]):
    if run["label"] == "plain" or before["label"] != "plain" or after["label"] != "plain":
        continue
    of = lambda key: run[key] / ((before[key] + after[key]) / 2)
    shares.setdefault(run["label"], []).append([of("confirmed_per_s"), of("consumed_per_s"), of("broker_cpu_s_per_million")])
for label, them in shares.items():
    middle = [round(statistics.median(column), 3) for column in zip(*them)]
    print(json.dumps({"what": "features", "feature": label, "rounds": len(them), "confirmed": middle[0], "consumed": middle[1], "cpu": middle[2]}))' \
        "$work/runs" | keep
    rm --recursive --force "$work"
}

# The node that leads queue failover-0; waits until there is one.
leader_of_queue() {
    local leader="" end=$((SECONDS + 30))
    while [[ ! "$leader" =~ ^[123]$ ]]; do
        [[ "$SECONDS" -lt "$end" ]] || fail "no leader for queue failover-0 within 30 s"
        leader="$("$WARREN_BIN" queue show failover-0 --server "$servers" --output json | json_field leader_node || true)"
        [[ "$leader" =~ ^[123]$ ]] || sleep 0.2
    done
    printf '%s' "$leader"
}

# One round: load on the two other nodes, the leader gets its signal in the middle, and serves again when the load has ended.
failover_round() {
    local round="$1" leader n others=""
    leader="$(leader_of_queue)"
    for n in 1 2 3; do [[ "$n" == "$leader" ]] || others+="${others:+,}127.0.0.1:710$n"; done
    "$WARREN_BIN" perf --server "$others" --place spread --queue-prefix failover --keep --publishers 2 --consumers 2 \
        --queues 1 --rate 1000 --window 2000 --prefetch 200 --size "$size" --seconds 5 --verify \
        --label "failover round $round" >"$work/round" 2>"$work/log" &
    local load=$!
    sleep 2
    "$REPO_DIR/scripts/local-cluster.sh" "$down" "$leader" 2>/dev/null
    wait "$load" || { cat "$work/log" "$work/round" >&2; fail "round $round: the load ended with an error"; }
    "$REPO_DIR/scripts/local-cluster.sh" "$back" "$leader" 2>/dev/null
    tail --lines=1 "$work/round" | tee --append "$work/rounds" | python3 -c '
import json, sys
it = json.loads(sys.stdin.read())
print("  round %s: no confirm for %s ms, no delivery for %s ms, verify %s" % (sys.argv[1], it["max_confirm_gap_ms"], it["max_delivery_gap_ms"], json.dumps(it["verify"])))' "$round" >&2
}

failover() {
    work="$(mktemp --directory)"
    "$WARREN_BIN" queue declare failover-0 --server "$servers" >/dev/null
    say "SIG$signal to the leader, $rounds rounds"
    local round down=kill back=start
    case "$signal" in
        TERM) down=stop ;;
        STOP) down=pause back=resume ;;
    esac
    for ((round = 1; round <= rounds; round++)); do failover_round "$round"; done
    python3 -c '
import json, sys
rounds = [json.loads(line) for line in open(sys.argv[1])]
def figures(key):
    values = sorted(it[key] for it in rounds)
    at = lambda share: values[min(len(values) - 1, int(len(values) * share))]
    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": values[-1]}
print(json.dumps({"what": "failover", "signal": sys.argv[2], "rounds": len(rounds), "confirm_gap_ms": figures("max_confirm_gap_ms"),
    "delivery_gap_ms": figures("max_delivery_gap_ms"),
    "lost": sum(it["verify"]["lost"] for it in rounds), "duplicates": sum(it["verify"]["duplicates"] for it in rounds)}))' "$work/rounds" "$signal" | keep
    "$WARREN_BIN" queue delete failover-0 --server "$servers" >/dev/null
    rm --recursive --force "$work"
}

idle() {
    say "idle for $seconds s"
    sleep 5
    python3 -c '
import json, os, sys, time
pids, seconds = sys.argv[1].split(","), float(sys.argv[2])
tick = os.sysconf("SC_CLK_TCK")
def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / tick
def rss(pid):
    return next(int(line.split()[1]) / 1024 for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
before = [cpu(pid) for pid in pids]
time.sleep(seconds)
print(json.dumps({"what": "idle", "seconds": seconds,
    "core_percent": [round(100 * (cpu(pid) - was) / seconds, 2) for pid, was in zip(pids, before)],
    "rss_mib": [round(rss(pid), 1) for pid in pids]}))' "$(node_pids)" "$seconds" | keep
}

routing() {
    cargo run --quiet --locked --release --package warren-topology --example routing_figures | keep
}

# The names are new in each run, so that all of it is to be made.
import() {
    work="$(mktemp --directory)"
    local run="import-$$"
    python3 -c '
import json, sys
run = sys.argv[1]
names = [f"{run}-{n}" for n in range(10_000)]
json.dump({
    "exchanges": [{"name": run, "vhost": "/", "type": "topic", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}],
    "queues": [{"name": name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}} for name in names],
    "bindings": [{"source": run, "vhost": "/", "destination": name, "destination_type": "queue", "routing_key": f"k.{n}.#", "arguments": {}}
                 for n, name in enumerate(names)],
}, open(sys.argv[2], "w"))' "$run" "$work/definitions.json"
    say "10,000 queues and bindings"
    local begin
    begin="$(now_ms)"
    "$WARREN_BIN" definitions import "$work/definitions.json" --server "$servers" >&2
    printf '{"what": "import", "queues": 10000, "bindings": 10000, "ms": %s}\n' "$(($(now_ms) - begin))" | keep
    rm --recursive --force "$work"
}

churn() {
    say "200 cycles per second for $seconds s"
    WARREN_CHURN_SECONDS="$seconds" cargo test --quiet --locked --package warren-cluster --test topology_churn -- \
        --nocapture churn_of_the_topology | keep
}

stuck() {
    say "5,000,000 messages past one that is never settled, then $seconds s of rest"
    WARREN_STUCK_MESSAGES=5000000 WARREN_STUCK_REST="$seconds" cargo test --quiet --locked --package warren-cluster --test stuck -- \
        --nocapture | keep
}

ensure_tools
if [[ "$what" == routing ]]; then
    cd "$REPO_DIR"
    routing
    exit 0
fi
build_release
if [[ "$what" == churn || "$what" == stuck ]]; then
    cd "$REPO_DIR"
    "$what"
    exit 0
fi
"$REPO_DIR/scripts/local-cluster.sh" up
"$what"
