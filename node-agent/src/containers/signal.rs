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

/// Signals by which users ask programs to end. Others that end a program which does not know them, such as HUP and USR1,
/// mean something else to those that do.
const ASKING_TO_END: [i32; 5] = [2, 3, 6, SIGKILL, SIGTERM];

/// The signal that stops a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopSignal {
    /// The container names it.
    Named(i32),
    /// It names none: it is stopped by SIGTERM, and any signal that asks to end is meant so.
    Unnamed,
}

impl StopSignal {
    /// The signal.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Named(number) => number,
            Self::Unnamed => SIGTERM,
        }
    }

    /// Whether a user who sends `signal` wants the container to end, so that no policy starts it again. dockerd takes
    /// every signal for that when none is named, and forgets the policy of a server whose user has it reload its files.
    pub(crate) fn is_asked_by(self, signal: i32) -> bool {
        match self {
            Self::Named(number) => signal == number || signal == SIGKILL,
            Self::Unnamed => ASKING_TO_END.contains(&signal),
        }
    }
}

/// Reads a signal: a number, or a name with or without `SIG`, in any case.
pub(crate) fn parse(text: &str) -> Result<i32, NodeError> {
    let wrong = || NodeError::invalid(format!("invalid signal: {text}"));
    match text.parse::<i32>() {
        Ok(0) => return Err(wrong()),
        Ok(number @ (1..=31 | SIGRTMIN..=SIGRTMAX)) => return Ok(number),
        Ok(number) => {
            return Err(NodeError::invalid(format!("the linux daemon does not support signal {number}")));
        }
        Err(_) => {}
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
        for text in ["", "0", "NOPE", "SIGSIGKILL", "RTMIN+31", "RTMAX-31", "RTMIN+", "RTMIN-1"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("invalid signal: {text}"));
        }
        for number in [-9, 32, 33, 65, 999] {
            let message = format!("the linux daemon does not support signal {number}");
            assert_eq!(parse(&number.to_string()).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn only_signals_that_ask_to_end_are_a_wish_to_stop() {
        const HUP: i32 = 1;
        const INT: i32 = 2;
        for (stop, signal, expected) in [
            (StopSignal::Unnamed, SIGTERM, true),
            (StopSignal::Unnamed, SIGKILL, true),
            (StopSignal::Unnamed, INT, true),
            (StopSignal::Unnamed, HUP, false),
            (StopSignal::Named(HUP), HUP, true),
            (StopSignal::Named(HUP), SIGKILL, true),
            (StopSignal::Named(HUP), INT, false),
            (StopSignal::Named(HUP), SIGTERM, false),
        ] {
            assert_eq!(stop.is_asked_by(signal), expected, "{stop:?} {signal}");
        }
    }
}
