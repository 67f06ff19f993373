//! Reading the keys of authorities in the forms in which administrators have them.
//!
//! Start reading at [`read`]. Keys are PKCS #8 here; what OpenSSL and CFSSL write by default (SEC 1, PKCS #1) is only wrapped. Encrypted keys
//! are not read: the cluster would have to keep their passphrase beside them.

use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::ClusterError;

/// Algorithm identifiers in DER: object identifier and parameters.
const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07,
];
const EC_P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22,
];
const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;

/// Reads a private key, PEM: ECDSA P-256 or P-384, RSA or Ed25519.
pub(crate) fn read(pem: &str) -> Result<KeyPair, ClusterError> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(failed)?;
    let forms: Vec<Vec<u8>> = match &key {
        PrivateKeyDer::Pkcs8(key) => vec![key.secret_pkcs8_der().to_vec()],
        // Which curve it is need not be said in the key itself.
        PrivateKeyDer::Sec1(key) => {
            [EC_P256, EC_P384].iter().map(|algorithm| wrap(algorithm, key.secret_sec1_der())).collect()
        }
        PrivateKeyDer::Pkcs1(key) => vec![wrap(RSA, key.secret_pkcs1_der())],
        _ => return Err(failed("the form of the key is not known")),
    };
    let mut failure = failed("there is no key");
    for form in forms {
        match KeyPair::try_from(form) {
            Ok(key) => return Ok(key),
            Err(source) => failure = failed(source),
        }
    }
    Err(failure)
}

/// PKCS #8 around a key of another form.
fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let version = [0x02, 0x01, 0x00];
    element(SEQUENCE, &[&version, algorithm, &element(OCTET_STRING, &[key])])
}

/// One element in DER.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.iter().copied().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    match (u8::try_from(content.len()), u8::try_from(significant.len())) {
        (Ok(short), _) if short < 0x80 => out.push(short),
        (_, Ok(count)) => {
            out.push(0x80 | count);
            out.extend(significant);
        }
        _ => {}
    }
    out.extend(content);
    out
}

fn failed(source: impl ToString) -> ClusterError {
    ClusterError::local("reading the authority's key", source)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    /// The key within PKCS #8, as the usual tools write it.
    fn unwrapped(key: &KeyPair, algorithm: &[u8]) -> String {
        let whole = key.serialize_der();
        let at = whole.windows(algorithm.len()).position(|part| part == algorithm).unwrap();
        // Tag and length of the octet string take two or three bytes.
        let rest = &whole[at + algorithm.len()..];
        let header = if rest[1] < 0x80 { 2 } else { 3 };
        let body = base64::engine::general_purpose::STANDARD.encode(&rest[header..]);
        format!("-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\n")
    }

    #[test]
    fn keys_are_read_as_the_usual_tools_write_them() {
        for (kind, algorithm) in
            [(&rcgen::PKCS_ECDSA_P256_SHA256, EC_P256), (&rcgen::PKCS_ECDSA_P384_SHA384, EC_P384)]
        {
            let key = KeyPair::generate_for(kind).unwrap();
            for pem in [key.serialize_pem(), unwrapped(&key, algorithm)] {
                assert_eq!(read(&pem).unwrap().public_key_raw(), key.public_key_raw(), "{pem}");
            }
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in ["", "x", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
