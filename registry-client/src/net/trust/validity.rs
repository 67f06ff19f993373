//! From when to when an X.509 certificate is valid. Pure.
//!
//! Start reading at [`of_certificate`]. webpki checks validity itself but tells nobody; the one certificate that it does
//! not check (see `Verifier` in the parent) needs these two dates and nothing else of the certificate.

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

/// Reads the dates of a certificate (RFC 5280, section 4.1); a date before 1970 is 1970. `None` if it is not one.
pub(super) fn of_certificate(der: &[u8]) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let [not_before, not_after] =
        [validity.not_before, validity.not_after].map(|time| u64::try_from(time.timestamp()).unwrap_or(0));
    Some(Validity { not_before, not_after })
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
