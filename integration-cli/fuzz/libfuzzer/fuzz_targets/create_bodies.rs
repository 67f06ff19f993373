//! libFuzzer around [`api_compat::fuzz::create_bodies`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| api_compat::fuzz::create_bodies(data));
