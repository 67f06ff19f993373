//! libFuzzer around `config::fuzz::command_lines` of shoald, whose modules are compiled in: no program can be linked.
#![no_main]
#![expect(dead_code, unused_imports, reason = "the daemon uses what is not used here")]

#[path = "../../../../shoald/src/config/mod.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::fuzz::command_lines(data));
