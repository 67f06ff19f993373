//! Reading the command line word by word, in the manner of runc: `--name value`, `--name=value`, `-n value`.

use std::ffi::OsString;

use lexopt::{Arg, Parser};

use crate::error::{Result, RuntimeError};

/// The rest of the command line.
pub(super) struct Arguments {
    parser: Parser,
    /// A word that was met while looking for an option.
    word: Option<OsString>,
    command: String,
}

impl Arguments {
    pub(super) fn new(words: Vec<OsString>) -> Self {
        Self { parser: Parser::from_args(words), word: None, command: String::new() }
    }

    /// Returns the next option's name; `None` when a word or the end comes next.
    pub(super) fn next_option(&mut self) -> Result<Option<String>> {
        if self.word.is_some() {
            return Ok(None);
        }
        let next = match self.parser.next().map_err(usage)? {
            Some(Arg::Long(name)) => return Ok(Some(name.to_owned())),
            Some(Arg::Short(letter)) => return Ok(Some(letter.to_string())),
            Some(Arg::Value(word)) => Some(word),
            None => None,
        };
        self.word = next;
        Ok(None)
    }

    /// Takes the value of the option that came last.
    pub(super) fn value(&mut self) -> Result<OsString> {
        self.parser.value().map_err(usage)
    }

    /// Takes the value of the option that came last as text.
    pub(super) fn text(&mut self) -> Result<String> {
        into_text(self.value()?)
    }

    /// Takes the value of the option that came last as a number.
    pub(super) fn number<N: std::str::FromStr>(&mut self) -> Result<N> {
        let text = self.text()?;
        text.parse().map_err(|_| RuntimeError::InvalidSpec(format!("{text:?} is not a number")))
    }

    /// Takes the next word, passing over nothing.
    pub(super) fn next_word(&mut self) -> Result<Option<String>> {
        let word = match self.word.take() {
            Some(word) => word,
            None => match self.parser.next().map_err(usage)? {
                Some(Arg::Value(word)) => word,
                Some(other) => return Err(usage(other.unexpected())),
                None => return Ok(None),
            },
        };
        let word = into_text(word)?;
        if self.command.is_empty() {
            self.command.clone_from(&word);
        }
        Ok(Some(word))
    }

    /// Takes the container's name, which must come next.
    pub(super) fn id(&mut self) -> Result<String> {
        let id = self.next_word()?;
        id.ok_or_else(|| {
            RuntimeError::InvalidSpec(format!("{}: the container's id is missing", self.command))
        })
    }

    /// Takes all that is left, options and all: the program of an exec.
    pub(super) fn rest(&mut self) -> Result<Vec<String>> {
        let first = self.word.take();
        let rest = self.parser.raw_args().map_err(usage)?;
        first.into_iter().chain(rest).map(into_text).collect()
    }

    /// Refuses what is left.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.next_word()? {
            Some(word) => Err(RuntimeError::InvalidSpec(format!("{}: unexpected {word:?}", self.command))),
            None => Ok(()),
        }
    }

    /// Says that an option is not known.
    pub(super) fn unknown(&self, option: &str) -> RuntimeError {
        RuntimeError::InvalidSpec(format!("{}: flag provided but not defined: -{option}", self.command))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn usage(error: lexopt::Error) -> RuntimeError {
    RuntimeError::InvalidSpec(error.to_string())
}

fn into_text(word: OsString) -> Result<String> {
    word.into_string().map_err(|word| RuntimeError::InvalidSpec(format!("{word:?} is not valid UTF-8")))
}
