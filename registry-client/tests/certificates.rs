//! Certificates and authorities made for a test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key, and what issued it.
pub(crate) struct Issued {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: KeyPair,
}

impl Issued {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

pub(crate) fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

pub(crate) fn self_signed(parameters: &CertificateParams) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    Issued { pem: certificate.pem(), der: certificate.der().clone(), key }
}

pub(crate) fn authority() -> (CertificateParams, Issued) {
    let mut parameters = parameters("an authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issued = self_signed(&parameters);
    (parameters, issued)
}

pub(crate) fn issued_by(authority: &(CertificateParams, Issued), parameters: &CertificateParams) -> Issued {
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&authority.0, &authority.1.key);
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    Issued { pem: certificate.pem(), der: certificate.der().clone(), key }
}
