#!/usr/bin/env bash
# Runs fuzz targets under libFuzzer: scripts/fuzz.sh SECONDS [TARGET…]. All of them if none is named.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=$1
shift
CARGO_FUZZ_VERSION=0.13.2
# Not into our target directory: it is a tool of the machine, not a part of this tree.
command -v cargo-fuzz >/dev/null || env -u CARGO_TARGET_DIR cargo install --locked cargo-fuzz --version "$CARGO_FUZZ_VERSION"
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <(find fuzz/fuzz_targets -name '*.rs' -printf '%f\n' | sed 's/\.rs$//' | sort)
fi

# The seeds that stand in the code, as files, for libFuzzer reads nothing else.
cargo run --quiet -p tidegate-fuzz --bin seeds -- fuzz/found

failed=()
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    echo "── $target, $seconds s"
    # Without a sanitizer the flags are stable ones. Rust finds its own faults; what is unsafe is not ours.
    if ! cargo fuzz run --sanitizer none --dev --features libfuzzer "$target" "fuzz/found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=81920 -timeout=60 -rss_limit_mb=2048 -print_final_stats=1; then
        failed+=("$target")
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "broken: ${failed[*]} (the inputs are in fuzz/artifacts)"
    exit 1
fi
echo "fuzz: ${#targets[@]} targets, none broken"
