//! `ws_frames` under libFuzzer; the target itself stands in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::targets::run("ws_frames", data));
