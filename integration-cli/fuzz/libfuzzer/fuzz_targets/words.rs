//! libFuzzer around [`shoal_types::fuzz::words`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shoal_types::fuzz::words(data));
