#!/usr/bin/env bash
# Helpers of the scripts beside it: messages, what must be installed, where builds go. Sourced, not run.

REPO_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
: "${HOME:="$(getent passwd "$(id --user)" | cut --delimiter=: --fields=6)"}"
export HOME
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/warren/target}"
WARREN_BIN="${WARREN_BIN:-$CARGO_TARGET_DIR/release/warren}"
export WARREN_BIN

# Crates that do not link RocksDB: built and tested in the dev profile, assertions on.
# shellcheck disable=SC2034
PURE_CRATES=(types topology queue amqp proto codec client testkit)
# Crates that link RocksDB: release only, so that its C++ is compiled once. They are always selected together: cargo
# unifies the features of what is selected, and another selection would give RocksDB's build script other ones and
# compile it again.
ENGINE_CRATES=(storage raft shard gateway management server cli)

say() { printf '== %s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the comment block at the top of a script: that is its help.
show_help() {
    awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$1"
}

as_root() {
    if [[ "$(id --user)" -eq 0 ]]; then
        "$@"
    elif have sudo; then
        sudo --non-interactive "$@" || fail "needs root: run '$*' yourself, then try again"
    else
        fail "needs root: run '$*' as root, then try again"
    fi
}

# The library alone is not enough for bindgen: it also needs the compiler's own headers.
have_libclang() {
    [[ -n "${LIBCLANG_PATH:-}" ]] && return 0
    compgen -G '/usr/lib*/llvm-*/lib/clang/*/include/stddef.h' >/dev/null ||
        compgen -G '/usr/lib*/clang/*/include/stddef.h' >/dev/null || return 1
    compgen -G '/usr/lib*/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib*/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang*.so*' >/dev/null
}

# Compilers for RocksDB, libclang for its bindings, curl for rustup, python3 for the scripts' reading of JSON.
ensure_packages() {
    local missing=()
    if ! have cc || ! have c++ || ! have make; then missing+=(build-essential); fi
    if ! have_libclang; then missing+=(clang libclang-dev); fi
    if ! have curl && ! have cargo; then missing+=(curl ca-certificates); fi
    if ! have python3; then missing+=(python3); fi
    # The tests with pika make a virtual environment, which Debian keeps in a package of its own.
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi
    # The tests with amqplib.
    if ! have node || ! have npm; then missing+=(nodejs npm); fi
    # The tests that cut the network between nodes. Their directory is not in everybody's PATH.
    if ! PATH="$PATH:/usr/sbin:/sbin" have nft; then missing+=(nftables); fi
    if ! PATH="$PATH:/usr/sbin:/sbin" have ip; then missing+=(iproute2); fi
    if ! have setsid || ! have ps; then missing+=(util-linux procps); fi
    if [[ "${#missing[@]}" -eq 0 ]]; then return 0; fi
    have apt-get || fail "please install: ${missing[*]} (no apt-get here to do it)"
    say "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet --quiet --yes \
        --no-install-recommends install "${missing[@]}" >/dev/null
}

# The toolchain that rust-toolchain.toml names, with rustfmt and clippy.
ensure_rust() {
    if ! have cargo && [[ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]]; then
        # shellcheck disable=SC1091
        source "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    if ! have cargo; then
        say "installing rustup"
        curl --proto '=https' --tlsv1.2 --silent --show-error --fail --location \
            --retry 5 --retry-delay 2 https://sh.rustup.rs |
            sh -s -- -y --no-modify-path --profile minimal --default-toolchain none
        # shellcheck disable=SC1091
        source "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    have rustup || return 0
    local channel
    channel="$(sed --quiet 's/^channel *= *"\(.*\)"/\1/p' "$REPO_DIR/rust-toolchain.toml")"
    if ! rustup run "$channel" cargo clippy --version >/dev/null 2>&1 ||
        ! rustup run "$channel" cargo fmt --version >/dev/null 2>&1; then
        say "installing Rust $channel"
        rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy
    fi
}

ensure_tools() {
    ensure_packages
    ensure_rust
}

# `--package warren-X` for each X, into the array SELECTED. Crates that are not there are left out.
select_packages() {
    SELECTED=()
    local crate
    for crate in "$@"; do
        if [[ -f "$REPO_DIR/crates/$crate/Cargo.toml" ]]; then
            SELECTED+=(--package "warren-$crate")
        fi
    done
}

# Directories under tests/ that start the built binary: everything but tidy.
cluster_packages() {
    local manifest
    for manifest in "$REPO_DIR"/tests/*/Cargo.toml; do
        [[ "$manifest" == */tests/tidy/Cargo.toml ]] || basename "$(dirname "$manifest")"
    done
}

# Builds the release binary. RocksDB takes 15 to 20 minutes on two cores the first time, then never again.
build_release() {
    if [[ ! -x "$CARGO_TARGET_DIR/release/warren" ]]; then
        say "building the release binary into $CARGO_TARGET_DIR (the first time compiles RocksDB: many minutes)"
    fi
    (
        cd "$REPO_DIR"
        select_packages "${ENGINE_CRATES[@]}"
        cargo build --locked --release "${SELECTED[@]}"
    ) || fail "the build failed: the messages above say where"
}

# Builds the binary that plays the next version in tests of upgrades (feature next-version): release/warren-next. RocksDB, what others
# wrote and our crates below `topology` and `queue` are not compiled again, the rest with little optimisation: it is for one test.
# `release/warren` is this version again after build_release.
build_next() {
    (
        cd "$REPO_DIR"
        select_packages "${ENGINE_CRATES[@]}"
        local crate quick=()
        for crate in topology queue codec raft shard gateway management server cli; do
            quick+=(--config "profile.release.package.warren-$crate.opt-level=1")
        done
        cargo build --locked --release "${SELECTED[@]}" --features warren-cli/next-version "${quick[@]}"
    ) || fail "the build of the next version failed: the messages above say where"
    cp --force "$CARGO_TARGET_DIR/release/warren" "$CARGO_TARGET_DIR/release/warren-next"
}

# Reads one value of a JSON object on stdin by its dotted path; empty when it is not there.
json_field() {
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value.get(key) if isinstance(value, dict) else None
print("" if value is None else value)' "$1"
}

now_ms() { date +%s%3N; }
