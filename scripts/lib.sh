# Shared by the scripts. Sourced, not run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

# need COMMAND PACKAGE ...: remembers the Debian packages of missing commands.
missing=()
need() {
    while (($#)); do
        command -v "$1" >/dev/null 2>&1 || missing+=("$2")
        shift 2
    done
}

# Installs exactly the packages that `need` found missing, without starting services; if it may not, it names the
# missing packages and ends.
install_missing() {
    ((${#missing[@]})) || return 0
    if [[ $(id -u) != 0 ]] && ! sudo -n true 2>/dev/null || ! command -v apt-get >/dev/null; then
        echo "missing: ${missing[*]}" >&2
        echo "install these packages, or run this script where it may (root on Debian or Ubuntu)" >&2
        exit 1
    fi
    say "installing ${missing[*]}"
    local as_root=()
    [[ $(id -u) == 0 ]] || as_root=(sudo -n)
    # A service of an installed package must not start: policy-rc.d is consulted before each start.
    local policy=/usr/sbin/policy-rc.d made=
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod +x "$policy"
        made=1
    fi
    local status=0
    "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || status=$?
    [[ -z $made ]] || "${as_root[@]}" rm -f "$policy"
    ((status == 0)) || exit $status
    missing=()
}

need_rust() {
    command -v cargo >/dev/null 2>&1 || {
        echo "missing: a Rust toolchain, $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later (rustup.rs, or your distribution's)" >&2
        exit 1
    }
}

# A Python environment of the project, with the named packages, under target/.
python_env() {
    local env=$root/target/python
    [[ -x $env/bin/python ]] || python3 -m venv "$env" >&2
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
    echo "$env/bin/python"
}
