#!/usr/bin/env bash
# Compiles the uWebSockets peer into FILE: the sources that its crate carries (Cargo.toml beside this), and server.cpp.
set -euo pipefail
cd "$(dirname "$0")"

out=$(realpath -m "${1:-../../../target/release/tidegate-load-peer-uws}")
cxx=${CXX:-g++} cc=${CC:-cc}
if ! command -v "$cxx" >/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "uws: $cxx, a compiler for C++20, is missing: apt-get install g++ (as root)" >&2
        exit 1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >&2
fi

# cargo only fetches; nothing of it is compiled by cargo.
carrier=$(cargo metadata --locked --format-version 1 --manifest-path Cargo.toml | node -p \
    'JSON.parse(require("fs").readFileSync(0)).packages.find((one) => one.name === "libuwebsockets-sys").manifest_path')
sources=$(dirname "$carrier")/uWebSockets

objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
flags=(-O3 -DLIBUS_NO_SSL -I "$sources/uSockets/src")
(cd "$objects" && "$cc" "${flags[@]}" -c "$sources"/uSockets/src/{*,eventing/*,crypto/*}.c)
mkdir -p "$(dirname "$out")"
"$cxx" -std=c++20 "${flags[@]}" -DUWS_NO_ZLIB -I "$sources/src" server.cpp "$objects"/*.o -o "$out"
echo "uws: ${out##*/} is built" >&2
