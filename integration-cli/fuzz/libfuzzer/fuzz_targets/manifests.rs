//! libFuzzer around [`registry_client::fuzz::manifests`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| registry_client::fuzz::manifests(data));
