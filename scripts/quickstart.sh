#!/usr/bin/env bash
# Shows Warren on this machine: three nodes, a real text file through them, and a leader killed in the middle.
#
# usage: scripts/quickstart.sh [--file FILE] [--lines N] [--rate N] [--help]
#   --file FILE  the text to send, line by line (default: a licence text of this machine, else Cargo.lock)
#   --lines N    repeat the file until at least N lines are sent (default 20000)
#   --rate N     lines per second that are fed to the publisher (default 2500), so that the kill lands in the middle
#
# Installs what is missing, builds, starts three nodes (scripts/local-cluster.sh), publishes the file on one node while
# two consumers with prefetch 1 read it on the others, kills the leader's process with SIGKILL, starts it again, and
# compares what came out with what went in. The cluster keeps running afterwards. Exit code 0 only if nothing was lost.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

QUEUE="demo"
SOURCE_FILE=""
LINES_MIN=20000
LINES_PER_SECOND=2500
DRAIN_DEADLINE_S=180
LOCAL_CLUSTER="$REPO_DIR/scripts/local-cluster.sh"

parse_arguments() {
    while [[ $# -gt 0 ]]; do
        case "$1" in
            --help)
                show_help "${BASH_SOURCE[0]}"
                exit 0
                ;;
            --file | --lines | --rate)
                [[ $# -ge 2 ]] || fail "$1 needs a value"
                case "$1" in
                    --file) SOURCE_FILE="$2" ;;
                    --lines) LINES_MIN="$2" ;;
                    --rate) LINES_PER_SECOND="$2" ;;
                esac
                shift
                ;;
            *) fail "unknown option '$1': see scripts/quickstart.sh --help" ;;
        esac
        shift
    done
    [[ "$LINES_MIN" =~ ^[1-9][0-9]*$ ]] || fail "--lines needs a number above 0"
    [[ "$LINES_PER_SECOND" =~ ^[1-9][0-9]*$ ]] || fail "--rate needs a number above 0"
}

choose_file() {
    local candidate
    if [[ -z "$SOURCE_FILE" ]]; then
        for candidate in /usr/share/common-licenses/GPL-3 /usr/share/common-licenses/Apache-2.0 "$REPO_DIR/Cargo.lock"; do
            if [[ -r "$candidate" ]]; then
                SOURCE_FILE="$candidate"
                break
            fi
        done
    fi
    [[ -s "$SOURCE_FILE" ]] || fail "cannot read '$SOURCE_FILE', or it is empty"
}

# Every line gets its number, so that no two are alike and a missing one can be named.
write_input() {
    awk -v minimum="$LINES_MIN" '
        { line[NR] = $0 }
        END { do { for (i = 1; i <= NR; i++) printf "%07d %s\n", ++sent, line[i] } while (sent < minimum) }
    ' "$SOURCE_FILE" >"$WORK_DIR/sent"
}

# Feeds the publisher at a steady rate: a machine would take this file faster than one can kill a process.
paced() {
    python3 -c '
import sys, time
rate = int(sys.argv[1])
begin = time.monotonic()
with open(sys.argv[2], "rb") as lines:
    for number, line in enumerate(lines):
        ahead = number / rate - (time.monotonic() - begin)
        if ahead > 0.005:
            sys.stdout.buffer.flush()
            time.sleep(ahead)
        sys.stdout.buffer.write(line)
sys.stdout.buffer.flush()' "$LINES_PER_SECOND" "$WORK_DIR/sent"
}

# Writes "time in ms, number of lines so far" of what came out, ten times a second, until told to end.
watch_progress() {
    while [[ ! -e "$WORK_DIR/watched" ]]; do
        printf '%s %s\n' "$(now_ms)" "$(count_out)" >>"$WORK_DIR/progress"
        sleep 0.1
    done
}

count_out() { cat "$WORK_DIR"/out-* 2>/dev/null | wc --lines; }
count_distinct() { cat "$WORK_DIR"/out-* | sort --unique | wc --lines; }

grpc() { printf '127.0.0.1:710%s' "$1"; }

# The clients' list of nodes: their own first, the others to go on with when it dies.
servers_from() {
    local first="$1" n list
    list="$(grpc "$first")"
    for n in 1 2 3; do [[ "$n" == "$first" ]] || list+=",$(grpc "$n")"; done
    printf '%s' "$list"
}

show_queue() { "$WARREN_BIN" queue show "$QUEUE" --server "$(servers_from 1)" --output json; }

find_leader() {
    LEADER=""
    local end=$((SECONDS + 30))
    while [[ ! "$LEADER" =~ ^[123]$ ]]; do
        [[ "$SECONDS" -lt "$end" ]] || fail "no leader for queue '$QUEUE' within 30 s: scripts/local-cluster.sh status"
        LEADER="$(show_queue | json_field leader_node || true)"
        [[ "$LEADER" =~ ^[123]$ ]] || sleep 0.2
    done
}

# Publisher on a node that is not the leader; consumers on the two others, one of them the leader's.
choose_nodes() {
    local n
    PUBLISH_ON=""
    CONSUME_ON=()
    for n in 1 2 3; do
        if [[ -z "$PUBLISH_ON" && "$n" != "$LEADER" ]]; then PUBLISH_ON="$n"; else CONSUME_ON+=("$n"); fi
    done
}

CLIENT_PIDS=()
end_clients() {
    local pid
    if [[ -n "${WORK_DIR:-}" ]]; then touch "$WORK_DIR/watched"; fi
    for pid in "${CLIENT_PIDS[@]}"; do kill -s TERM "$pid" 2>/dev/null || true; done
    CLIENT_PIDS=()
}

start_clients() {
    local n
    for n in "${CONSUME_ON[@]}"; do
        "$WARREN_BIN" consume --queue "$QUEUE" --prefetch 1 --server "$(servers_from "$n")" \
            >"$WORK_DIR/out-$n" 2>"$WORK_DIR/consume-$n.log" </dev/null &
        CLIENT_PIDS+=("$!")
    done
    watch_progress &
    CLIENT_PIDS+=("$!")
    paced | "$WARREN_BIN" publish --queue "$QUEUE" --file - --server "$(servers_from "$PUBLISH_ON")" \
        >/dev/null 2>"$WORK_DIR/publish.log" &
    PUBLISH_PID=$!
    CLIENT_PIDS+=("$PUBLISH_PID")
}

# Waits until at least $1 lines came out.
wait_for_lines() {
    local wanted="$1" end=$((SECONDS + DRAIN_DEADLINE_S))
    while [[ "$(count_out)" -lt "$wanted" ]]; do
        if [[ "$SECONDS" -ge "$end" ]]; then
            show_client_logs
            fail "only $(count_out) lines came out within $DRAIN_DEADLINE_S s; nodes: scripts/local-cluster.sh status"
        fi
        sleep 0.05
    done
}

wait_for_all() {
    local end=$((SECONDS + DRAIN_DEADLINE_S))
    while [[ "$(count_distinct)" -lt "$SENT" && "$SECONDS" -lt "$end" ]]; do sleep 0.3; done
}

show_client_logs() {
    tail --lines=5 "$WORK_DIR"/publish.log "$WORK_DIR"/consume-*.log >&2 || true
}

# The longest time without a new line out, among the seconds after the kill.
longest_pause_ms() {
    awk -v from="$KILLED_AT" '
        $2 != count { if (NR > 1 && $1 >= from && $1 - since > longest) longest = $1 - since; since = $1; count = $2 }
        END { print longest + 0 }
    ' "$WORK_DIR/progress"
}

# A figure that a client printed: the number before or after a word in its last line, or the fallback.
figure() {
    local file="$1" word="$2" fallback="$3"
    python3 - "$file" "$word" "$fallback" <<'PYTHON'
import re, sys
path, word, fallback = sys.argv[1:]
lines = open(path, encoding="utf-8", errors="replace").read().strip().splitlines() or [""]
found = re.search(r"([0-9.]+)\s+" + word, lines[-1]) or re.search(word + r"[\"=: ]+([0-9.]+)", lines[-1])
print(found.group(1) if found else fallback)
PYTHON
}

account() {
    cat "$WORK_DIR"/out-* | sort --unique >"$WORK_DIR/came-out"
    comm -23 "$WORK_DIR/sent" "$WORK_DIR/came-out" >"$WORK_DIR/lost"
    comm -13 "$WORK_DIR/sent" "$WORK_DIR/came-out" >"$WORK_DIR/altered"
    LOST="$(wc --lines <"$WORK_DIR/lost")"
    ALTERED="$(wc --lines <"$WORK_DIR/altered")"
    local all n redelivered=0
    all="$(count_out)"
    for n in "${CONSUME_ON[@]}"; do
        redelivered=$((redelivered + $(figure "$WORK_DIR/consume-$n.log" redelivered 0)))
    done
    local pause
    pause="$(longest_pause_ms)"
    cat <<EOF

    file              $SOURCE_FILE
    published on      node $PUBLISH_ON
    consumed on       nodes ${CONSUME_ON[*]} (prefetch 1)
    killed            node $LEADER, the leader of queue '$QUEUE' (SIGKILL), then started again
    lines sent        $SENT
    confirmed         $CONFIRMED
    consumed          $((all - ALTERED)) ($(wc --lines <"$WORK_DIR/came-out") different lines)
    redelivered       $redelivered (flagged so by the broker; $((all - SENT + LOST)) lines came out twice)
    lost              $LOST
    altered           $ALTERED
    pause             $(figure "$WORK_DIR/publish.log" longest_gap_seconds '-') s without confirms, $((pause / 1000)).$(printf '%03d' $((pause % 1000))) s without deliveries, around the kill

EOF
}

next_steps() {
    cat <<EOF
The cluster is still running. Next:
    warren=$WARREN_BIN
    \$warren queue list
    echo hello | \$warren publish --queue $QUEUE --server $(grpc 2)
    \$warren consume --queue $QUEUE --count 1 --server $(grpc 3)
    scripts/local-cluster.sh status          # kill N, start N, pause N, resume N, logs N
    scripts/local-cluster.sh down            # stop; wipe deletes the data too
EOF
}

main() {
    parse_arguments "$@"
    ensure_tools
    build_release
    "$LOCAL_CLUSTER" up
    choose_file
    WORK_DIR="$(mktemp --directory)"
    trap end_clients EXIT
    LC_ALL=C
    export LC_ALL
    write_input
    SENT="$(wc --lines <"$WORK_DIR/sent")"

    "$WARREN_BIN" queue declare "$QUEUE" --server "$(servers_from 1)" >/dev/null
    "$WARREN_BIN" queue purge "$QUEUE" --server "$(servers_from 1)" >/dev/null
    find_leader
    choose_nodes
    say "sending $SENT numbered lines through node $PUBLISH_ON; consumers on nodes ${CONSUME_ON[*]}; leader is node $LEADER"
    start_clients
    wait_for_lines $((SENT * 2 / 5))
    say "killing the leader, node $LEADER, in the middle"
    KILLED_AT="$(now_ms)"
    "$LOCAL_CLUSTER" kill "$LEADER"
    sleep 2
    "$LOCAL_CLUSTER" start "$LEADER"

    local publish_status=0
    wait "$PUBLISH_PID" || publish_status=$?
    CONFIRMED="$(figure "$WORK_DIR/publish.log" confirmed unknown)"
    wait_for_all
    end_clients
    wait || true
    account
    if [[ "$publish_status" -ne 0 || "$LOST" -ne 0 || "$ALTERED" -ne 0 ]]; then
        show_client_logs
        fail "the demonstration failed (publisher's exit code $publish_status); what was sent and came out: $WORK_DIR"
    fi
    rm --recursive --force "$WORK_DIR"
    WORK_DIR=""
    next_steps
}

main "$@"
