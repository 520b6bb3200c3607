//! `peers_file` under libFuzzer; the target itself stands in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::targets::run("peers_file", data));
