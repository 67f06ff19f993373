//! Finds WARN and ERROR lines in shoald's log that no test announced.
//!
//! A warning is a promise that something odd happened; a suite in which nothing odd happens must not print any.

/// Lines of level WARN or ERROR in `log` that hold none of the `announced` texts.
#[must_use]
pub fn unannounced(log: &str, announced: &[String]) -> Vec<String> {
    let loud = log.lines().filter(|line| is_loud(line));
    let unexpected = loud.filter(|line| !announced.iter().any(|text| line.contains(text.as_str())));
    unexpected.map(|line| format!("log line nobody announced: {line}")).collect()
}

/// Whether a line is a WARN or ERROR record, in text or JSON form; the level stands within the first words.
fn is_loud(line: &str) -> bool {
    let head = line.split_whitespace().take(3);
    head.into_iter().any(|word| matches!(word, "WARN" | "ERROR"))
        || line.contains("\"level\":\"WARN\"")
        || line.contains("\"level\":\"ERROR\"")
}

#[cfg(test)]
mod tests {
    use super::unannounced;

    #[test]
    fn only_loud_lines_that_nobody_announced_are_found() {
        let log = "2026-01-01T00:00:00Z  INFO shoald: ready\n\
                   2026-01-01T00:00:01Z  WARN node_agent::boot: odd container.id=1\n\
                   2026-01-01T00:00:02Z ERROR node_agent: broken\n\
                   2026-01-01T00:00:03Z  INFO x: said WARN in passing\n";
        let found = unannounced(log, &["odd".to_owned()]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("broken"));
    }
}
