//! libFuzzer around [`node_agent::fuzz::shim_frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| node_agent::fuzz::shim_frames(data));
