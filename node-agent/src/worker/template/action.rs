//! One action of a template: what stands between `{{` and `}}`.
//!
//! Start reading at [`evaluate`]. Words are split first, then a pipeline is evaluated from left to right; parentheses nest to a
//! bounded depth.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::{Scope, TemplateError};

/// How deep parentheses may nest.
const MAX_DEPTH: usize = 16;
/// What Go's templates have and ours do not.
const REFUSED: [&str; 10] =
    ["if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"];

/// What an expression can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A text.
    Text(String),
    /// Labels.
    Map(BTreeMap<String, String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Field(Vec<String>),
    Name(String),
    Text(String),
    Pipe,
    Open,
    Close,
}

/// The text that an action stands for.
pub(super) fn evaluate(action: &str, scope: &dyn Scope) -> Result<String, TemplateError> {
    let mut words = split(action)?.into_iter().peekable();
    let value = pipeline(&mut words, scope, 0)?;
    if words.next().is_some() {
        return Err(wrong("unexpected right paren"));
    }
    text(value)
}

fn wrong(message: impl Into<String>) -> TemplateError {
    TemplateError(message.into())
}

fn text(value: Value) -> Result<String, TemplateError> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Map(_) => Err(wrong("a map cannot be printed")),
    }
}

/// Commands separated by `|`; the value of each is the last argument of the next.
fn pipeline(
    words: &mut Peekable<IntoIter<Word>>,
    scope: &dyn Scope,
    depth: usize,
) -> Result<Value, TemplateError> {
    if depth > MAX_DEPTH {
        return Err(wrong("parentheses nest too deep"));
    }
    let mut piped = None;
    loop {
        let value = command(words, scope, depth, piped.take())?;
        match words.peek() {
            Some(Word::Pipe) => {
                words.next();
                piped = Some(value);
            }
            _ => return Ok(value),
        }
    }
}

fn command(
    words: &mut Peekable<IntoIter<Word>>,
    scope: &dyn Scope,
    depth: usize,
    piped: Option<Value>,
) -> Result<Value, TemplateError> {
    let function = match words.peek() {
        Some(Word::Name(name)) => Some(name.clone()),
        _ => None,
    };
    if function.is_some() {
        words.next();
    }
    let mut operands = Vec::new();
    while let Some(word) = words.next_if(|word| !matches!(word, Word::Pipe | Word::Close)) {
        operands.push(operand(word, words, scope, depth)?);
    }
    operands.extend(piped);
    match function {
        Some(name) => call(&name, operands, scope),
        None if operands.len() == 1 => operands.pop().ok_or_else(|| wrong("missing value for command")),
        None if operands.is_empty() => Err(wrong("missing value for command")),
        None => Err(wrong("can't give arguments to a value that is no function")),
    }
}

fn operand(
    word: Word,
    words: &mut Peekable<IntoIter<Word>>,
    scope: &dyn Scope,
    depth: usize,
) -> Result<Value, TemplateError> {
    match word {
        Word::Text(text) => Ok(Value::Text(text)),
        Word::Field(path) => scope.field(&path).ok_or_else(|| wrong(format!("no field .{}", path.join(".")))),
        // A function without arguments may be an argument itself.
        Word::Name(name) => call(&name, Vec::new(), scope),
        Word::Open => {
            let value = pipeline(words, scope, depth + 1)?;
            match words.next() {
                Some(Word::Close) => Ok(value),
                _ => Err(wrong("unclosed left paren")),
            }
        }
        Word::Pipe | Word::Close => Err(wrong("unexpected mark in operand")),
    }
}

fn call(name: &str, operands: Vec<Value>, scope: &dyn Scope) -> Result<Value, TemplateError> {
    if REFUSED.contains(&name) {
        return Err(wrong(format!("{name} is not supported")));
    }
    if name == "index" {
        let [Value::Map(map), Value::Text(key)] = &operands[..] else {
            return Err(wrong("index takes labels and a key"));
        };
        let found = map.get(key).ok_or_else(|| wrong(format!("no entry for key {key:?}")))?;
        return Ok(Value::Text(found.clone()));
    }
    let arguments = operands.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    match scope.call(name, &arguments) {
        Some(outcome) => outcome.map(Value::Text).map_err(wrong),
        None => Err(wrong(format!("function {name:?} not defined"))),
    }
}

fn split(action: &str) -> Result<Vec<Word>, TemplateError> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '|' => (Word::Pipe, &rest[1..]),
            '(' => (Word::Open, &rest[1..]),
            ')' => (Word::Close, &rest[1..]),
            '`' => {
                let (text, after) =
                    rest[1..].split_once('`').ok_or_else(|| wrong("unterminated quoted string"))?;
                (Word::Text(text.to_owned()), after)
            }
            '"' => quoted(&rest[1..])?,
            '.' => {
                let end = rest.find(|mark: char| !is_name(mark) && mark != '.').unwrap_or(rest.len());
                let path: Vec<String> = rest[1..end].split('.').map(str::to_owned).collect();
                (Word::Field(path), &rest[end..])
            }
            mark if is_name(mark) => {
                let end = rest.find(|mark: char| !is_name(mark)).unwrap_or(rest.len());
                (name_or_number(&rest[..end]), &rest[end..])
            }
            mark => return Err(wrong(format!("unexpected {mark:?} in command"))),
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn is_name(mark: char) -> bool {
    mark.is_alphanumeric() || mark == '_'
}

fn name_or_number(text: &str) -> Word {
    if text.starts_with(|mark: char| mark.is_ascii_digit()) {
        Word::Text(text.to_owned())
    } else {
        Word::Name(text.to_owned())
    }
}

/// A string in double quotes, whose opening quote is gone already.
fn quoted(text: &str) -> Result<(Word, &str), TemplateError> {
    let mut value = String::new();
    let mut marks = text.char_indices();
    while let Some((place, mark)) = marks.next() {
        match mark {
            '"' => return Ok((Word::Text(value), &text[place + 1..])),
            '\\' => match marks.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err(wrong("unknown escape in a string")),
            },
            mark => value.push(mark),
        }
    }
    Err(wrong("unterminated quoted string"))
}
