//! PURE. Who a certificate names, and its text form.
//!
//! Start reading at [`common_name`]. The certificate was verified in the handshake; nothing here decides about trust.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_VERSION: u8 = 0xa0;
/// 2.5.4.3, the attribute of a name that is called common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// Length of the lines of a PEM file.
const PEM_LINE: usize = 64;

/// The common name of a certificate's subject (RFC 5280, section 4.1); the last if there are several, as Go has it.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, EXPLICIT_VERSION) {
        fields = rest;
    }
    let (_serial, fields) = element(fields, INTEGER)?;
    let (_signature, fields) = element(fields, SEQUENCE)?;
    let (_issuer, fields) = element(fields, SEQUENCE)?;
    let (_validity, fields) = element(fields, SEQUENCE)?;
    let (mut subject, _) = element(fields, SEQUENCE)?;
    let mut found = None;
    while let Some((mut set, rest)) = element(subject, SET) {
        while let Some((attribute, rest)) = element(set, SEQUENCE) {
            if let Some((oid, value)) = element(attribute, OBJECT_IDENTIFIER)
                && oid == COMMON_NAME
                && let Some((text, _)) = any_element(value)
            {
                found = Some(String::from_utf8_lossy(text).into_owned());
            }
            set = rest;
        }
        subject = rest;
    }
    found
}

/// The certificate in the form that plugins expect.
pub(super) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        // Writing to a text cannot fail.
        let _ = writeln!(pem, "{line}");
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The content of the element at the start, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    if der.first() != Some(&tag) { None } else { any_element(der) }
}

fn any_element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_, len, rest @ ..] = der else { return None };
    let (len, rest) = match *len {
        short if short < 0x80 => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    /// The shape of a certificate whose subject has these attributes.
    fn certificate(attributes: &[(&[u8], &str)]) -> Vec<u8> {
        let attribute = |(oid, value): &(&[u8], &str)| {
            let pair = [wrap(OBJECT_IDENTIFIER, oid), wrap(0x0c, value.as_bytes())].concat();
            wrap(SET, &wrap(SEQUENCE, &pair))
        };
        let subject: Vec<u8> = attributes.iter().flat_map(attribute).collect();
        let fields = [
            wrap(EXPLICIT_VERSION, &[INTEGER, 1, 2]),
            wrap(INTEGER, &[1]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &subject),
        ];
        wrap(SEQUENCE, &wrap(SEQUENCE, &fields.concat()))
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let organisation: &[u8] = &[0x55, 0x04, 0x0a];
        let der = certificate(&[(organisation, "firm"), (&COMMON_NAME, "alice"), (organisation, "unit")]);
        assert_eq!(common_name(&der).as_deref(), Some("alice"));
        assert_eq!(common_name(&certificate(&[(organisation, "firm")])), None);
    }

    #[test]
    fn the_text_form_has_lines_of_64() {
        let pem = pem(&[0; 60]);
        let lines: Vec<&str> = pem.lines().collect();
        assert_eq!((lines.len(), lines[1].len(), lines[2].len()), (4, 64, 16));
    }

    proptest! {
        #[test]
        fn rubbish_has_no_name_and_does_no_harm(mut der in proptest::collection::vec(any::<u8>(), 0..80)) {
            common_name(&der);
            if let Some(first) = der.first_mut() {
                *first = SEQUENCE;
            }
            common_name(&der);
        }
    }
}
