//! libFuzzer around [`registry_client::fuzz::challenges`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| registry_client::fuzz::challenges(data));
