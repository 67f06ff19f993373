//! PURE. Who a certificate names, and its text form.
//!
//! Start reading at [`common_name`]. The certificate was verified in the handshake; nothing here decides about trust.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Length of the lines of a PEM file.
const PEM_LINE: usize = 64;

/// The common name of a certificate's subject (RFC 5280, section 4.1); the last if there are several, as Go has it.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().last()?;
    Some(String::from_utf8_lossy(name.attr_value().data).into_owned())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::DnType;

    use super::*;

    fn certificate(attributes: &[(DnType, &str)]) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in attributes {
            parameters.distinguished_name.push(kind.clone(), *value);
        }
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let organisation = DnType::OrganizationName;
        let der = certificate(&[
            (organisation.clone(), "firm"),
            (DnType::CommonName, "alice"),
            (DnType::OrganizationalUnitName, "unit"),
        ]);
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
                // The tag of a SEQUENCE, which is what a certificate is.
                *first = 0x30;
            }
            common_name(&der);
        }
    }
}
