//! How much a case tries: little in every run, as much as an environment variable says in its long form.
//!
//! Start reading at [`numbers`].

use std::env;

/// What asks for the long form of a case.
pub const LONG_FORMS: [&str; 7] = [
    "SHOAL_CHURN",
    "SHOAL_CRASH_SWEEP",
    "SHOAL_FAULTS",
    "SHOAL_LATENCY",
    "SHOAL_LEAKS",
    "SHOAL_ROLLING",
    "SHOAL_STORM",
];

/// Whether a long form is asked for.
pub fn is_long() -> bool {
    LONG_FORMS.iter().any(|name| env::var_os(name).is_some())
}

/// The numbers of a plan, in the order of `usual`: those, but what the variable says instead (`SHOAL_CHURN="nodes=5"`).
///
/// Panics on a variable that is not among [`LONG_FORMS`], and on a plan that it does not understand.
pub fn numbers<const N: usize>(variable: &str, usual: [(&str, usize); N]) -> [usize; N] {
    assert!(LONG_FORMS.contains(&variable), "{variable} has to be among the long forms");
    read(&env::var(variable).unwrap_or_default(), usual)
        .unwrap_or_else(|reason| panic!("{variable}: {reason}"))
}

fn read<const N: usize>(plan: &str, usual: [(&str, usize); N]) -> Result<[usize; N], String> {
    let mut numbers = usual.map(|(_, number)| number);
    for word in plan.split_whitespace() {
        let said = word.split_once('=').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        let at = said.and_then(|(name, number)| Some((usual.iter().position(|(n, _)| *n == name)?, number)));
        let Some((at, number)) = at else {
            let known = usual.map(|(name, usual)| format!("{name}={usual}"));
            return Err(format!("it is of the form {:?}, and not {word:?}", known.join(" ")));
        };
        numbers[at] = number;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_usual_and_what_is_not_known_is_refused() {
        let usual = [("nodes", 2), ("seed", 1)];
        for (plan, expected) in [("", [2, 1]), ("seed=7", [2, 7]), ("seed=7  nodes=5", [5, 7])] {
            assert_eq!(read(plan, usual), Ok(expected), "{plan:?}");
        }
        for plan in ["node=1", "nodes", "nodes=many", "nodes=-1"] {
            let reason = read(plan, usual).unwrap_err();
            assert_eq!(reason, format!("it is of the form \"nodes=2 seed=1\", and not {plan:?}"));
        }
    }
}
