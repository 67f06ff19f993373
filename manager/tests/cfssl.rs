//! An authority outside the cluster that speaks CFSSL's protocol: enough of it to sign for nodes and for other authorities.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use manager::api::membership::SigningAuthority;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// A certificate and key for an authority, as an administrator would bring them.
pub(crate) fn authority() -> SigningAuthority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the administrator's");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap().pem().replace('\r', "");
    SigningAuthority { certificate, key: key.serialize_pem() }
}

/// A running authority.
pub(crate) struct Cfssl {
    certificate: String,
    port: u16,
    n_signed: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Cfssl {
    pub(crate) async fn start() -> Self {
        let own = authority();
        let issuer =
            Issuer::from_ca_cert_pem(&own.certificate, KeyPair::from_pem(&own.key).unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let n_signed = Arc::new(AtomicUsize::new(0));
        let serving =
            serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::new(issuer), Arc::clone(&n_signed));
        Self {
            certificate: own.certificate,
            port,
            n_signed,
            _serving: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }

    pub(crate) fn certificate(&self) -> String {
        self.certificate.clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/api/v1/cfssl/sign", self.port)
    }

    pub(crate) fn n_signed(&self) -> usize {
        self.n_signed.load(Ordering::SeqCst)
    }
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    issuer: Arc<Issuer<'static, KeyPair>>,
    n_signed: Arc<AtomicUsize>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, issuer, n_signed) = (tls.clone(), Arc::clone(&issuer), Arc::clone(&n_signed));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let (issuer, n_signed) = (Arc::clone(&issuer), Arc::clone(&n_signed));
                async move {
                    assert_eq!(request.uri().path(), "/api/v1/cfssl/sign");
                    let body = request.into_body().collect().await?.to_bytes();
                    let certificate = sign(&issuer, &serde_json::from_slice(&body).unwrap());
                    n_signed.fetch_add(1, Ordering::SeqCst);
                    let answer = json!({
                        "success": true, "errors": [], "messages": [], "result": {"certificate": certificate},
                    });
                    Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(answer.to_string()))))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn sign(issuer: &Issuer<'_, KeyPair>, question: &Value) -> String {
    let request = question["certificate_request"].as_str().unwrap();
    let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
    if question["profile"] == "CA" {
        request.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        request.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    } else {
        let hosts = question["hosts"].as_array().unwrap().iter();
        let mut params =
            CertificateParams::new(hosts.map(|host| host.as_str().unwrap().to_owned()).collect::<Vec<_>>())
                .unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let subject = &question["subject"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        params.distinguished_name.push(DnType::OrganizationName, text(&subject["names"][0]["O"]));
        params.distinguished_name.push(DnType::OrganizationalUnitName, text(&subject["names"][0]["OU"]));
        params.distinguished_name.push(DnType::CommonName, text(&subject["CN"]));
        request.params = params;
    }
    request.signed_by(issuer).unwrap().pem()
}
