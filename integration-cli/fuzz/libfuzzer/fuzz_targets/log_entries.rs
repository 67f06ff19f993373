//! libFuzzer around [`node_shim::logread::fuzz::log_entries`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| node_shim::logread::fuzz::log_entries(data));
