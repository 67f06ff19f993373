//! libFuzzer around [`node_agent::fuzz::options`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| node_agent::fuzz::options(data));
