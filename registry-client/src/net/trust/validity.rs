//! From when to when an X.509 certificate is valid. Pure.
//!
//! Start reading at [`of_certificate`]. webpki checks validity itself but tells nobody; the one certificate that it does
//! not check (see `Verifier` in the parent) needs these two dates and nothing else of the certificate.

use jiff::civil;

/// Seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;

/// Reads the dates of a certificate (RFC 5280, section 4.1). `None` if it is not one.
pub(super) fn of_certificate(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, EXPLICIT_VERSION) {
        fields = rest;
    }
    let (_serial, fields) = element(fields, INTEGER)?;
    let (_signature, fields) = element(fields, SEQUENCE)?;
    let (_issuer, fields) = element(fields, SEQUENCE)?;
    let (validity, _) = element(fields, SEQUENCE)?;
    let (not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    Some(Validity { not_before, not_after })
}

/// The content of the element at the start, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [first, len, rest @ ..] = der else { return None };
    if *first != tag {
        return None;
    }
    let (len, rest) = match *len {
        short if short < 0x80 => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    rest.split_at_checked(len)
}

fn time(der: &[u8]) -> Option<(u64, &[u8])> {
    if let Some((text, rest)) = element(der, UTC_TIME) {
        // Two digits mean 1950 to 2049 (RFC 5280, section 4.1.2.5.1).
        let year: u16 = std::str::from_utf8(text.get(..2)?).ok()?.parse().ok()?;
        let century = if year < 50 { "20" } else { "19" };
        let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
        return Some((seconds(&text)?, rest));
    }
    let (text, rest) = element(der, GENERALIZED_TIME)?;
    Some((seconds(std::str::from_utf8(text).ok()?)?, rest))
}

/// `YYYYMMDDHHMMSSZ`; a date before 1970 is 1970.
fn seconds(text: &str) -> Option<u64> {
    let moment = civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    // Not by way of a time stamp: those of jiff end a day before 9999-12-31, which means "never" in certificates.
    let seconds = moment.duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_secs();
    Some(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_time_are_read() {
        for (not_after, year) in [((2049, 6, 1), 2049), ((2050, 6, 1), 2050), ((9999, 12, 31), 9999)] {
            let mut parameters = rcgen::CertificateParams::new(["reg.example".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(1975, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let validity = of_certificate(certificate.der()).unwrap();
            assert_eq!(validity.not_before, 157_766_400);
            assert_eq!(1970 + validity.not_after / 31_556_952, year);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = of_certificate(&bytes);
        }

        #[test]
        fn no_damaged_certificate_makes_the_reader_panic(at in 0usize..200, byte: u8) {
            let mut der = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.der().to_vec();
            let at = at % der.len();
            der[at] = byte;
            let _ = of_certificate(&der);
            let _ = of_certificate(&der[..at]);
        }
    }
}
