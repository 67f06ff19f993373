//! Names with slashes in paths: where a name ends, and making one segment of it.
//!
//! Start reading at [`Names::fold`]. Names of images (`quay.io/a/b`), links (`parent/alias`) and plugins contain slashes,
//! and stand in the middle of a path, where axum's router knows single segments only. So before a path is routed,
//! `/images/quay.io/a/b/tag` becomes `/images/quay.io%2Fa%2Fb/tag`, as a careful client would have sent it. Whether
//! `/images/a/json` is the image `a` or the image `a/json` depends on what may follow a name under that method; this
//! comes from the list of operations. Decoding the name again is axum's.

use std::borrow::Cow;
use std::collections::HashMap;

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::error::ApiError;
use crate::route::Route;

/// What stands encoded in one segment of a path.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Where names end: what may follow one, for each noun that a path can begin with.
#[derive(Debug, Default)]
pub(crate) struct Names {
    ends: HashMap<&'static str, Vec<End>>,
}

/// What may follow a name.
#[derive(Debug, PartialEq, Eq)]
struct End {
    method: Method,
    segments: Vec<Segment>,
}

/// One segment after a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    Parameter,
}

impl Names {
    /// The ends of names in the paths of these operations.
    pub(crate) fn of(routes: &[Route]) -> Self {
        let mut ends: HashMap<&'static str, Vec<End>> = HashMap::new();
        for route in routes {
            let mut segments = route.pattern.split('/').skip(1);
            let (Some(noun), Some(name)) = (segments.next(), segments.next()) else { continue };
            if !name.starts_with('{') {
                continue;
            }
            let segments = segments
                .map(|part| if part.starts_with('{') { Segment::Parameter } else { Segment::Literal(part) })
                .collect();
            ends.entry(noun).or_default().push(End { method: route.method.clone(), segments });
        }
        for ends in ends.values_mut() {
            // What is known to follow names is not taken for a part of one.
            ends.sort_by_key(|end| std::cmp::Reverse(end.segments.len()));
        }
        Self { ends }
    }

    /// The path with every name as one segment. A path without escapes and slashes in names stays as it is.
    pub(crate) fn fold<'p>(&self, method: &Method, path: &'p str) -> Result<Cow<'p, str>, ApiError> {
        let decoded = if path.contains('%') {
            let decoded = percent_decode_str(path).decode_utf8();
            decoded.map_err(|_| ApiError::invalid("the path is not UTF-8"))?
        } else {
            Cow::Borrowed(path)
        };
        match self.split(method, &decoded) {
            Some((before, name, after)) if name.contains('/') => {
                let mut folded = encode_segments(before);
                folded.extend(utf8_percent_encode(name, SEGMENT));
                folded.push_str(&encode_segments(after));
                Ok(Cow::Owned(folded))
            }
            _ if matches!(decoded, Cow::Owned(_)) => Ok(Cow::Owned(encode_segments(&decoded))),
            _ => Ok(Cow::Borrowed(path)),
        }
    }

    /// A decoded path in three: up to and with the slash before a name, the name, and what follows it.
    fn split<'p>(&self, method: &Method, path: &'p str) -> Option<(&'p str, &'p str, &'p str)> {
        let (noun, rest) = path.strip_prefix('/')?.split_once('/')?;
        let ends = self.ends.get(noun)?.iter().filter(|end| end.method == *method);
        let name = ends.filter_map(|end| end.cut_off(rest)).next()?;
        let before = path.len() - rest.len();
        let (before, _) = path.split_at_checked(before)?;
        let (_, after) = rest.split_at_checked(name.len())?;
        Some((before, name, after))
    }
}

impl End {
    /// The name before this end. No name is empty or begins with a slash.
    fn cut_off<'p>(&self, rest: &'p str) -> Option<&'p str> {
        let mut name = rest;
        for segment in self.segments.iter().rev() {
            let (before, last) = name.rsplit_once('/')?;
            let fits = match segment {
                Segment::Literal(word) => last == *word,
                Segment::Parameter => !last.is_empty(),
            };
            if !fits {
                return None;
            }
            name = before;
        }
        (!name.is_empty() && !name.starts_with('/')).then_some(name)
    }
}

/// Encodes a decoded path; its slashes stay.
fn encode_segments(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for (place, segment) in path.split('/').enumerate() {
        if place > 0 {
            encoded.push('/');
        }
        encoded.extend(utf8_percent_encode(segment, SEGMENT));
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Call;
    use crate::reply::Outcome;
    use crate::route::{delete, get};

    async fn nothing(_call: Call) -> Outcome {
        Err(ApiError::page_not_found())
    }

    fn names() -> Names {
        Names::of(&[
            get("/images/json", nothing),
            get("/images/{name}/json", nothing),
            get("/images/{name}/get", nothing),
            delete("/images/{name}", nothing),
            get("/containers/{id}/attach/ws", nothing),
            delete("/containers/{id}", nothing),
            delete("/containers/{id}/checkpoints/{checkpoint}", nothing),
            get("/networks", nothing),
        ])
    }

    #[test]
    fn a_name_ends_where_the_method_says() {
        let names = names();
        for (method, path, folded) in [
            (Method::GET, "/images/r:5000/a/b/json", "/images/r:5000%2Fa%2Fb/json"),
            (Method::GET, "/images/a/get/get", "/images/a%2Fget/get"),
            (Method::DELETE, "/images/a/json", "/images/a%2Fjson"),
            (Method::DELETE, "/images/a/get/get", "/images/a%2Fget%2Fget"),
            (Method::GET, "/containers/a/b/attach/ws", "/containers/a%2Fb/attach/ws"),
            (Method::DELETE, "/containers/a/b", "/containers/a%2Fb"),
            (Method::DELETE, "/containers/a/b/checkpoints/c", "/containers/a%2Fb/checkpoints/c"),
            // Escapes are those that the router expects, whatever the client wrote.
            (Method::GET, "/images/a%2fb/json", "/images/a%2Fb/json"),
            (Method::GET, "/images/a%2Fjson", "/images/a/json"),
            (Method::GET, "/im%61ges/a%20%3F/json", "/images/a%20%3F/json"),
            (Method::GET, "/images/%C3%A9/b/json", "/images/%C3%A9%2Fb/json"),
        ] {
            assert_eq!(names.fold(&method, path).unwrap(), folded, "{method} {path}");
        }
    }

    #[test]
    fn paths_without_such_names_stay_as_they_are() {
        let names = names();
        for (method, path) in [
            (Method::GET, "/images/json"),
            (Method::GET, "/images/json/json"),
            (Method::GET, "/images//json"),
            (Method::GET, "/images/a/b"),
            (Method::GET, "/images/a/json/"),
            (Method::DELETE, "/images/"),
            (Method::DELETE, "/containers/a/checkpoints/c"),
            (Method::GET, "/networks/a/b"),
            (Method::GET, "/"),
            (Method::GET, ""),
            (Method::OPTIONS, "*"),
        ] {
            assert!(
                matches!(names.fold(&method, path), Ok(Cow::Borrowed(same)) if same == path),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn paths_that_are_no_text_are_refused() {
        let error = names().fold(&Method::GET, "/images/%ff/json").unwrap_err();
        assert_eq!(error.message(), "the path is not UTF-8");
    }

    proptest::proptest! {
        #[test]
        fn a_folded_path_is_one_that_can_be_sent_and_folds_to_itself(path in "/(images|containers|x)(/[a-z%2Fé ?#{}]{0,6}){0,4}") {
            if let Ok(folded) = names().fold(&Method::GET, &path)
                && matches!(folded, Cow::Owned(_))
            {
                proptest::prop_assert!(folded.parse::<http::Uri>().is_ok(), "{}", folded);
                let again = names().fold(&Method::GET, &folded).unwrap().into_owned();
                proptest::prop_assert_eq!(again, folded);
            }
        }
    }
}
