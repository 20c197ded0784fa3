#!/usr/bin/env bash
# Three Warren nodes on this machine, each a process of its own.
#
# usage: scripts/local-cluster.sh COMMAND
#   up         build if needed, start all three nodes, wait until they are ready (twice is fine)
#   down       end all nodes in good order, keep their data
#   status     which nodes run, and what the cluster says of itself
#   kill N     SIGKILL node N: no warning, no flush
#   stop N     end node N in good order: it hands over what it leads first
#   start N    start node N again and wait until it is ready
#   pause N    SIGSTOP node N: it stays connected and says nothing
#   resume N   SIGCONT node N
#   logs N     the end of node N's log, then what is added (Ctrl-C ends it)
#   wipe       down, then delete data, logs and secret
#
# Node N: clients over gRPC on 127.0.0.1:710N, node to node on 720N, AMQP on 5671 + N, health on 15671 + N, metrics on 15691 + N.
# WARREN_LOCAL_DIR holds everything (default: ~/.local/state/warren/local); node-N/pid is the process id.
# WARREN_LOCAL_DEADLINE: seconds to wait until ready (default 60). WARREN_BIN: a binary to use instead of building one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

LOCAL_DIR="${WARREN_LOCAL_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/warren/local}"
DEADLINE_S="${WARREN_LOCAL_DEADLINE:-60}"
NODES=(1 2 3)
MARKER="$LOCAL_DIR/.warren-local"

node_dir() { printf '%s/node-%s' "$LOCAL_DIR" "$1"; }
grpc_address() { printf '127.0.0.1:710%s' "$1"; }

# The pid of node N, if that process lives and really is ours: it was started with our configuration file.
node_pid() {
    local dir pid
    dir="$(node_dir "$1")"
    [[ -r "$dir/pid" ]] || return 1
    pid="$(<"$dir/pid")"
    [[ "$pid" =~ ^[0-9]+$ && -r "/proc/$pid/cmdline" ]] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" |
        grep --fixed-strings --line-regexp --quiet "$dir/config.toml" || return 1
    printf '%s' "$pid"
}

# "running", "paused" or "stopped".
node_state() {
    local pid
    if ! pid="$(node_pid "$1")"; then
        printf 'stopped'
    elif grep --quiet '^State:[[:space:]]*[Tt]' "/proc/$pid/status" 2>/dev/null; then
        printf 'paused'
    else
        printf 'running'
    fi
}

write_secret() {
    if [[ -s "$LOCAL_DIR/secret" ]]; then return 0; fi
    (
        umask 077
        od --address-radix=n --format=x1 --read-bytes=32 /dev/urandom | tr --delete ' \n' >"$LOCAL_DIR/secret"
    )
    chmod 0600 "$LOCAL_DIR/secret"
}

write_config() {
    local n="$1" dir cores
    dir="$(node_dir "$n")"
    cores="$(nproc)"
    mkdir --parents "$dir/data"
    cat >"$dir/config.toml" <<EOF
# Written by scripts/local-cluster.sh at every start: change that script, not this file.
[node]
id = $n
data_dir = "$dir/data"
zone = ""
threads = $((cores > 3 ? cores / 3 : 1)) # three nodes share this machine

[cluster]
name = "local"
secret_file = "$LOCAL_DIR/secret"
peers = [
    { id = 1, address = "127.0.0.1:7201" },
    { id = 2, address = "127.0.0.1:7202" },
    { id = 3, address = "127.0.0.1:7203" },
]

[listen]
grpc = "$(grpc_address "$n")"
node = "127.0.0.1:720$n"
amqp = "127.0.0.1:$((5671 + n))"
http = "127.0.0.1:$((15671 + n))"
metrics = "127.0.0.1:$((15691 + n))"

[advertise]
grpc = "$(grpc_address "$n")"

[auth]
loopback_guest = true

[log]
filter = "${WARREN_LOG:-info}"
format = "text"
EOF
}

port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

refuse_busy_ports() {
    local n="$1" port
    for port in "710$n" "720$n" "$((5671 + n))" "$((15671 + n))" "$((15691 + n))"; do
        if port_is_open "$port"; then
            fail "port $port is taken by another process, so node $n cannot listen there: end that process and try again"
        fi
    done
}

start_node() {
    local n="$1" dir pid
    dir="$(node_dir "$n")"
    case "$(node_state "$n")" in
        running) return 0 ;;
        paused) fail "node $n is paused: scripts/local-cluster.sh resume $n" ;;
    esac
    refuse_busy_ports "$n"
    write_config "$n"
    # A session of its own: Ctrl-C in this terminal is not meant for the node.
    setsid "$WARREN_BIN" server --config "$dir/config.toml" </dev/null >>"$dir/log" 2>&1 &
    pid=$!
    printf '%s\n' "$pid" >"$dir/pid"
    say "node $n: pid $pid, gRPC $(grpc_address "$n"), AMQP 127.0.0.1:$((5671 + n)), log $dir/log"
}

node_is_ready() {
    timeout --kill-after=1 5 "$WARREN_BIN" cluster status --server "$(grpc_address "$1")" --output json >/dev/null 2>&1
}

# Whether the process behind the pid file is there at all; just after its start its command line is still setsid's.
process_lives() {
    local pid
    pid="$(cat "$(node_dir "$1")/pid" 2>/dev/null)" && [[ -d "/proc/$pid" ]] &&
        ! grep --quiet '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

wait_ready() {
    local n="$1" end=$((SECONDS + DEADLINE_S)) dir
    dir="$(node_dir "$n")"
    until node_is_ready "$n"; do
        if ! process_lives "$n"; then
            show_log_end "$n"
            fail "node $n ended by itself: its log is above and in $dir/log"
        fi
        if [[ "$SECONDS" -ge "$end" ]]; then
            show_log_end "$n"
            fail "node $n was not ready after $DEADLINE_S s: its log is above and in $dir/log"
        fi
        sleep 0.1
    done
}

show_log_end() {
    tail --lines=25 "$(node_dir "$1")/log" >&2 || true
}

# Ends node N with a signal and waits until the process is gone.
end_node() {
    local n="$1" signal="$2" pid end=$((SECONDS + 30))
    pid="$(node_pid "$n")" || return 0
    kill -s "$signal" "$pid"
    # A stopped process does not see SIGTERM before it goes on.
    kill -s CONT "$pid" 2>/dev/null || true
    # Its command line goes first, its ports last.
    while node_pid "$n" >/dev/null || process_lives "$n"; do
        if [[ "$SECONDS" -ge "$end" ]]; then
            warn "node $n did not end within 30 s of $signal: SIGKILL"
            kill -s KILL "$pid" 2>/dev/null || true
        fi
        sleep 0.05
    done
    rm --force "$(node_dir "$n")/pid"
}

command_up() {
    local n
    ensure_packages
    if [[ ! -x "$WARREN_BIN" ]]; then
        ensure_tools
        build_release
    fi
    [[ -x "$WARREN_BIN" ]] || fail "there is no $WARREN_BIN"
    mkdir --parents "$LOCAL_DIR"
    touch "$MARKER"
    write_secret
    for n in "${NODES[@]}"; do start_node "$n"; done
    for n in "${NODES[@]}"; do wait_ready "$n"; done
    say "three nodes are ready; data in $LOCAL_DIR"
}

command_down() {
    local n
    for n in "${NODES[@]}"; do end_node "$n" TERM; done
    say "all nodes are stopped; their data stays in $LOCAL_DIR"
}

command_status() {
    local n running=""
    for n in "${NODES[@]}"; do
        printf 'node %s  %-8s pid %-8s gRPC %s  AMQP 127.0.0.1:%s\n' "$n" "$(node_state "$n")" \
            "$(node_pid "$n" || printf -- '-')" "$(grpc_address "$n")" "$((5671 + n))"
        if [[ "$(node_state "$n")" == running ]]; then running="$n"; fi
    done
    if [[ -n "$running" && -x "$WARREN_BIN" ]]; then
        timeout --kill-after=1 10 "$WARREN_BIN" cluster status --server "$(grpc_address "$running")"
    else
        say "no node runs: scripts/local-cluster.sh up"
    fi
}

command_wipe() {
    command_down
    if [[ ! -e "$LOCAL_DIR" ]]; then return 0; fi
    [[ -e "$MARKER" ]] || fail "$LOCAL_DIR was not made by this script (no $MARKER): not deleting it"
    local n
    for n in "${NODES[@]}"; do rm --recursive --force "$(node_dir "$n")"; done
    rm --force "$LOCAL_DIR/secret" "$MARKER"
    say "data, logs and secret are deleted"
}

send_signal() {
    local n="$1" signal="$2" pid
    pid="$(node_pid "$n")" || fail "node $n does not run"
    kill -s "$signal" "$pid"
}

one_node() {
    [[ "${1:-}" =~ ^[123]$ ]] || fail "say which node: 1, 2 or 3"
    printf '%s' "$1"
}

main() {
    local command="${1:-}" n
    case "$command" in
        up) command_up ;;
        down) command_down ;;
        status) command_status ;;
        wipe) command_wipe ;;
        kill)
            n="$(one_node "${2:-}")"
            [[ "$(node_state "$n")" != stopped ]] || fail "node $n does not run"
            end_node "$n" KILL
            say "node $n is killed"
            ;;
        stop)
            n="$(one_node "${2:-}")"
            [[ "$(node_state "$n")" != stopped ]] || fail "node $n does not run"
            end_node "$n" TERM
            say "node $n is stopped"
            ;;
        start)
            n="$(one_node "${2:-}")"
            [[ -x "$WARREN_BIN" && -e "$MARKER" ]] || fail "no cluster here yet: scripts/local-cluster.sh up"
            start_node "$n"
            wait_ready "$n"
            say "node $n is ready"
            ;;
        pause)
            n="$(one_node "${2:-}")"
            send_signal "$n" STOP
            say "node $n is paused: scripts/local-cluster.sh resume $n"
            ;;
        resume)
            n="$(one_node "${2:-}")"
            send_signal "$n" CONT
            say "node $n goes on"
            ;;
        logs)
            n="$(one_node "${2:-}")"
            tail --lines=100 --follow=name "$(node_dir "$n")/log"
            ;;
        --help | help) show_help "${BASH_SOURCE[0]}" ;;
        *)
            show_help "${BASH_SOURCE[0]}" >&2
            exit 2
            ;;
    esac
}

main "$@"
