//! docs/daemon-options.md is made of the table of options, so that it never lags behind.
//!
//! Start reading at [`reference`]. The test compares; with `SHOAL_UPDATE_DOCS=1` in its environment it writes instead.

use std::fmt::Write as _;

use super::options::{Kind, OPTIONS, OptionSpec, Support};

const HEAD: &str = "\
# Options of the daemon

<!-- Made by `SHOAL_UPDATE_DOCS=1 cargo test -p shoald reference`; edit shoald/src/config/options.rs instead. -->

Every option can be given as a flag or as a key of the configuration file (`/etc/shoal/daemon.json`, or what
`--config-file` names), never in both places but for `runtimes`. Names and meanings are dockerd's. Options marked R
are taken over when the file is read again on SIGHUP: all of them, or none when the file is wrong.

| flag | key | value | R | what it does |
|---|---|---|---|---|
";

/// The text of docs/daemon-options.md.
fn reference() -> String {
    let mut text = HEAD.to_owned();
    for option in OPTIONS {
        let reloads = if option.reloads { "R" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {reloads} | {} |",
            flag(option),
            code(option.key),
            value(option.kind),
            meaning(option)
        );
    }
    text
}

fn flag(option: &OptionSpec) -> String {
    match option.short {
        _ if option.flag.is_empty() => String::new(),
        Some(short) => format!("`--{}`, `-{short}`", option.flag),
        None => format!("`--{}`", option.flag),
    }
}

fn code(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("`{name}`") }
}

fn value(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Text => "text",
        Kind::Int => "number",
        Kind::List => "list",
        Kind::Pairs => "pairs",
        Kind::Json => "structure",
    }
}

fn meaning(option: &OptionSpec) -> String {
    let standing = match option.support {
        Support::Yes => String::new(),
        Support::Inherent(why) => format!("Always so: {why}."),
        Support::Ignored(why) => format!("Has no effect, with a warning: {why}."),
        Support::Refused(why) => format!("Refused: {why}."),
    };
    let help = option.help.replace('|', "\\|");
    match (help.is_empty(), standing.is_empty()) {
        (_, true) => help,
        (true, false) => standing,
        (false, false) => format!("{help}. {standing}"),
    }
}

#[test]
fn the_reference_in_docs_is_that_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/daemon-options.md");
    if std::env::var_os("SHOAL_UPDATE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == reference(), "docs/daemon-options.md is old; its first lines say how to renew it");
}
