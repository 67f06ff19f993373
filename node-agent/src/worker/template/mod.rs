//! Templates in services: the part of Go's text/template that swarm's documents use.
//!
//! Start reading at [`expand`]. Understood are fields (`.Service.Name`, `.Service.Labels.key`), `index`, the functions that the
//! [`Scope`] offers, strings, pipelines, comments and trim markers. Control flow (`if`, `range`, `with`, variables) is refused in words
//! rather than half done. Pure; sizes are bounded because secrets may hold templates too.

mod action;

use std::collections::BTreeMap;

pub(super) use action::Value;

/// Longest result of one expansion: what a config may hold.
const MAX_OUTPUT: usize = 1_024_000;

/// What a template may look at.
pub(super) trait Scope {
    /// The value of a chain of fields, such as `["Service", "Name"]`.
    fn field(&self, path: &[String]) -> Option<Value>;

    /// The value of a function; `None` when there is none of this name.
    fn call(&self, function: &str, arguments: &[String]) -> Option<Result<String, String>>;
}

/// Why a template has no expansion.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: expansion: {0}")]
pub(super) struct TemplateError(pub(super) String);

/// Fills a template in. A field or label that does not exist is an error, as in swarm.
pub(super) fn expand(template: &str, scope: &dyn Scope) -> Result<String, TemplateError> {
    let mut output = String::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        let (trim_before, after) = match after.strip_prefix("- ") {
            Some(after) => (true, after),
            None => (false, after),
        };
        let Some(end) = end_of_action(after) else {
            return Err(TemplateError("unclosed action".to_owned()));
        };
        let (action, after) = (&after[..end], &after[end + 2..]);
        let (trim_after, action) = match action.strip_suffix(" -") {
            Some(action) => (true, action),
            None => (false, action),
        };
        output.push_str(if trim_before { text.trim_end() } else { text });
        let comment = action.trim();
        if !(comment.starts_with("/*") && comment.ends_with("*/")) {
            output.push_str(&action::evaluate(action, scope)?);
        }
        rest = if trim_after { after.trim_start() } else { after };
        if output.len() > MAX_OUTPUT {
            return Err(TemplateError("the result is too long".to_owned()));
        }
    }
    output.push_str(rest);
    Ok(output)
}

/// Where the `}}` is that ends an action: not one inside a string.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let bytes = text.as_bytes();
    let mut place = 0;
    while place < bytes.len() {
        match (quote, bytes[place]) {
            (None, b'}') if bytes.get(place + 1) == Some(&b'}') => return Some(place),
            (None, mark @ (b'"' | b'`')) => quote = Some(mark),
            (Some(b'"'), b'\\') => place += 1,
            (Some(open), mark) if open == mark => quote = None,
            _ => {}
        }
        place += 1;
    }
    None
}

/// Labels as a value.
pub(super) fn map(labels: &BTreeMap<String, String>) -> Value {
    Value::Map(labels.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Scope for Fixed {
        fn field(&self, path: &[String]) -> Option<Value> {
            let labels: BTreeMap<String, String> =
                [("tier", "front"), ("com.example", "x")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["Service", "Name"] => Some(Value::Text("web".to_owned())),
                ["Task", "Slot"] => Some(Value::Text("3".to_owned())),
                ["Service", "Labels"] => Some(map(&labels)),
                ["Service", "Labels", key] => labels.get(key).cloned().map(Value::Text),
                _ => None,
            }
        }

        fn call(&self, function: &str, arguments: &[String]) -> Option<Result<String, String>> {
            match (function, arguments) {
                ("secret", [name]) if name == "pw" => Some(Ok("s3cret".to_owned())),
                ("secret", [name]) => Some(Err(format!("secret target {name} not found"))),
                ("join", [mark, words @ ..]) => Some(Ok(words.join(mark))),
                _ => None,
            }
        }
    }

    #[test]
    fn templates_expand_as_in_swarm() {
        let cases = [
            ("plain", "plain"),
            ("{{.Service.Name}}-{{ .Task.Slot }}", "web-3"),
            ("a {{- .Task.Slot -}} b", "a{{- .Task.Slot -}} b"),
            ("a {{- .Task.Slot }} b", "a3 b"),
            ("a {{ .Task.Slot -}}  b", "a 3b"),
            ("{{.Service.Labels.tier}}", "front"),
            ("{{index .Service.Labels \"com.example\"}}", "x"),
            ("{{secret \"pw\"}}", "s3cret"),
            ("{{ \"pw\" | secret }}", "s3cret"),
            ("{{join \":\" .Service.Name (index .Service.Labels `tier`)}}", "web:front"),
            ("{{/* nothing */}}x", "x"),
            ("{{\"}}\"}}", "}}"),
            ("{{\"a\\\"b\\n\"}}", "a\"b\n"),
        ];
        for (template, wanted) in cases {
            let wanted = if template.contains("{{- .Task.Slot -}}") { "a3b" } else { wanted };
            assert_eq!(expand(template, &Fixed).unwrap(), wanted, "{template}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_refused_in_words() {
        let cases = [
            ("{{.Service.Nope}}", "no field .Service.Nope"),
            ("{{.Service", "unclosed action"),
            ("{{secret \"other\"}}", "secret target other not found"),
            ("{{nope}}", "function \"nope\" not defined"),
            ("{{if .Service.Name}}x{{end}}", "if is not supported"),
            ("{{}}", "missing value for command"),
            ("{{\"open}}", "unclosed action"),
            ("{{.Service.Labels}}", "a map cannot be printed"),
            ("{{index .Service.Labels \"nope\"}}", "no entry for key \"nope\""),
            ("{{(.Service.Name}}", "unclosed left paren"),
        ];
        for (template, wanted) in cases {
            let error = expand(template, &Fixed).unwrap_err();
            assert!(error.to_string().contains(wanted), "{template}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}.a\"`\\\\| ()-]{0,40}|\\PC{0,40}") {
            let _ = expand(&text, &Fixed);
        }
    }
}
