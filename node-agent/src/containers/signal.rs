//! PURE. Names and numbers of signals, as users write them.
//!
//! Start reading at [`parse`]. The numbers are Linux's on x86-64 and arm64.

use crate::error::NodeError;

/// The signal that nothing survives.
pub(crate) const SIGKILL: i32 = 9;
/// The signal that stops a container which names no other.
pub(crate) const SIGTERM: i32 = 15;

/// The first real-time signal that programs may use, as libc counts them.
const SIGRTMIN: i32 = 34;
/// The last real-time signal.
const SIGRTMAX: i32 = 64;

/// Names without `SIG`, by number from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names for some of them.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// Reads a signal: a number, or a name with or without `SIG`, in any case.
pub(crate) fn parse(text: &str) -> Result<i32, NodeError> {
    let wrong = || NodeError::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=SIGRTMAX).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = (1..).zip(NAMES).find_map(|(number, known)| (known == name).then_some(number)) {
        return Ok(number);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    real_time(name).ok_or_else(wrong)
}

/// Reads `RTMIN`, `RTMIN+3`, `RTMAX-14`.
fn real_time(name: &str) -> Option<i32> {
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => SIGRTMIN,
        (_, Some("")) => SIGRTMAX,
        (Some(offset), _) => SIGRTMIN.checked_add(offset.strip_prefix('+')?.parse::<u8>().ok()?.into())?,
        (_, Some(offset)) => SIGRTMAX.checked_sub(offset.strip_prefix('-')?.parse::<u8>().ok()?.into())?,
        (None, None) => return None,
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_users_write_them() {
        let cases = [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("hup", 1),
            ("SYS", 31),
            ("SIGIOT", 6),
            ("CLD", 17),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-14", 50),
            ("RTMAX", 64),
            ("64", 64),
        ];
        for (text, number) in cases {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_dockers_words() {
        for text in ["", "0", "65", "-9", "NOPE", "SIGSIGKILL", "RTMIN+31", "RTMAX-31", "RTMIN+", "RTMIN-1"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("invalid signal: {text}"));
        }
    }
}
