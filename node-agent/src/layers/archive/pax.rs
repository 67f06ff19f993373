//! PAX records: `length key=value\n`, the extension of POSIX 2001. Pure.
//!
//! Start reading at [`records`]. Lengths delimit, not newlines: values of extended attributes may hold any byte.

use super::{ArchiveError, Time};

/// Prefix of the keys of extended attributes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Key and value.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Splits the body of an extended header.
pub(super) fn records(mut body: &[u8]) -> Result<Vec<Pair<'_>>, ArchiveError> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let (key, value, rest) = first_record(body).ok_or(ArchiveError::Header)?;
        found.push((key, value));
        body = rest;
    }
    Ok(found)
}

fn first_record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&body[..space]).ok()?.parse().ok()?;
    // The shortest record is "5 a=\n".
    let record = body.get(space + 1..length)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    (equals > 0).then_some((&record[..equals], &record[equals + 1..], &body[length..]))
}

/// Adds a record.
pub(super) fn put(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

/// A decimal number.
pub(super) fn number<T: std::str::FromStr>(value: &[u8]) -> Result<T, ArchiveError> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(ArchiveError::Header)
}

/// A time: seconds with an optional fraction, perhaps negative. Digits beyond nanoseconds are cut off.
pub(super) fn time(value: &[u8]) -> Result<Time, ArchiveError> {
    let text = std::str::from_utf8(value).map_err(|_| ArchiveError::Header)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| ArchiveError::Header)?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(ArchiveError::Header);
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| ArchiveError::Header)?;
    if text.starts_with('-') && nanoseconds > 0 {
        let seconds = seconds.checked_sub(1).ok_or(ArchiveError::Header)?;
        return Ok(Time { seconds, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Ok(Time { seconds, nanoseconds })
}

/// The text of a time, without a fraction if there is none.
pub(super) fn time_text(time: Time) -> String {
    let Time { seconds, nanoseconds } = time;
    let (sign, seconds, nanoseconds) = match (seconds, nanoseconds) {
        (0.., _) | (_, 0) => ("", seconds, nanoseconds),
        (-1, _) => ("-", 0, 1_000_000_000 - nanoseconds),
        _ => ("", seconds + 1, 1_000_000_000 - nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_any_byte() {
        let value = b"\x01\0\0\x02\n12 a=b\n\0=";
        let mut body = Vec::new();
        put(&mut body, b"SCHILY.xattr.security.capability", value);
        put(&mut body, b"path", b"x");
        let found = records(&body).unwrap();
        assert_eq!(found, [(&b"SCHILY.xattr.security.capability"[..], &value[..]), (b"path", b"x")]);
    }

    #[test]
    fn lengths_count_themselves() {
        for n in 0..1200 {
            let mut body = Vec::new();
            let value = vec![b'v'; n];
            put(&mut body, b"k", &value);
            assert_eq!(records(&body).unwrap(), [(&b"k"[..], value.as_slice())]);
        }
    }

    #[test]
    fn broken_records_are_refused() {
        let cases: [&[u8]; 9] = [
            b"x",
            b"6 a=bb\n",
            b"99 a=b\n",
            b"6 a=b",
            b"5 =b\n",
            b"5 ab\n",
            b"18446744073709551616 a=b\n",
            b"-6 a=b\n",
            b"1 a=b\n",
        ];
        for body in cases {
            assert!(records(body).is_err(), "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn times_have_fractions_and_may_be_before_1970() {
        let cases = [
            ("1700000000", 1_700_000_000, 0),
            ("1700000000.5", 1_700_000_000, 500_000_000),
            ("1.1234567899", 1, 123_456_789),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            ("-7", -7, 0),
        ];
        for (text, seconds, nanoseconds) in cases {
            assert_eq!(time(text.as_bytes()).unwrap(), Time { seconds, nanoseconds }, "{text}");
        }
        assert!(time(b"1.-5").is_err() && time(b"").is_err() && time(b"1e3").is_err());
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (seconds, nanoseconds) in [(0, 0), (5, 1), (-1, 750_000_000), (-2, 500_000_000), (-9, 0), (10, 0)]
        {
            let written = Time { seconds, nanoseconds };
            assert_eq!(time(time_text(written).as_bytes()).unwrap(), written, "{}", time_text(written));
        }
    }
}
