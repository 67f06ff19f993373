//! libFuzzer around [`api_compat::fuzz::stdcopy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| api_compat::fuzz::stdcopy(data));
