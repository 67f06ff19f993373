//! What a change of the cluster's settings means for its authority.
//!
//! Start reading at [`wanted`], which is pure. The rules and texts are swarm's (`docker swarm ca`): a certificate without a key needs an authority
//! outside the cluster that signs for it; a certificate that is in place already changes nothing; a second wish during an
//! exchange turns it to the newer one. What has to be made for that is made by [`Succession::prepare`], and the exchange itself
//! goes on in [`super::exchange`].

use std::time::Duration;

use jiff::Timestamp;
use shoal_types::ErrorKind;
use shoal_types::cluster::settings::{ClusterSpec, ExternalAuthority};

use super::authority::Authority;
use super::certificate::{AuthorityCertificate, all, to_pem};
use super::external::ExternalSigner;
use crate::api::membership::SigningAuthority;
use crate::clock::after;
use crate::error::ClusterError;
use crate::store::{self, AuthoritySuccessor};

/// How long an authority's certificate must hold at least.
const MIN_AUTHORITY_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What becomes of the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Succession {
    /// Nothing; an exchange that is under way goes on.
    Unchanged,
    /// The present one stays, with this key if one is named; an exchange that is under way is given up.
    Stay(Option<String>),
    /// The one that is about to take over gets this key.
    Rekey(String),
    /// A new one of the cluster's own takes over.
    Renew,
    /// This one takes over. Its certificate is in the form of [`to_pem`].
    Exchange(SigningAuthority),
}

/// What has become of the authority's part of the store.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Nothing.
    Unchanged,
    /// The present authority stays, with this key.
    Stay(String),
    /// This one shall take over.
    Successor(AuthoritySuccessor),
}

/// What a change of settings asks for. `signing` is the certificate and key that came with it.
pub(crate) fn wanted(
    authority: &store::Authority,
    before: &ClusterSpec,
    spec: &ClusterSpec,
    signing: Option<&SigningAuthority>,
    now: Timestamp,
) -> Result<Succession, ClusterError> {
    let is_forced = spec.rotate_authority != before.rotate_authority;
    let Some(given) = signing.filter(|signing| !signing.certificate.trim().is_empty()) else {
        return Ok(if is_forced { Succession::Renew } else { Succession::Unchanged });
    };
    let given = check(given, now)?;
    let has_key = !given.key.is_empty();
    if given.certificate == authority.certificate {
        let is_handed_out = is_forced && !outside_for(spec, authority, &given.certificate).is_empty();
        return Ok(match (has_key, is_handed_out, &authority.successor) {
            (true, _, _) if given.key != authority.key || authority.successor.is_some() => {
                Succession::Stay(Some(given.key))
            }
            (false, true, _) => Succession::Stay(Some(String::new())),
            (_, _, Some(_)) => Succession::Stay(None),
            _ => Succession::Unchanged,
        });
    }
    if authority.successor.as_ref().is_some_and(|successor| successor.certificate == given.certificate) {
        return Ok(if has_key { Succession::Rekey(given.key) } else { Succession::Unchanged });
    }
    if !has_key && authority.key.is_empty() {
        return refuse("rotating from one external CA to a different external CA is not supported");
    }
    Ok(Succession::Exchange(given))
}

/// The authorities outside the cluster that sign for a certificate. One that names none signs for the cluster's present one.
pub(crate) fn outside_for<'a>(
    spec: &'a ClusterSpec,
    authority: &store::Authority,
    certificate: &str,
) -> Vec<&'a ExternalAuthority> {
    let signs_for = |outside: &&ExternalAuthority| match outside.certificate.trim().is_empty() {
        true => certificate == authority.certificate,
        false => normalize(&outside.certificate).is_ok_and(|signs_for| signs_for == certificate),
    };
    spec.external_authorities.iter().filter(signs_for).collect()
}

impl Succession {
    /// Makes what it takes, and asks the authorities outside the cluster that it relies on.
    pub(crate) async fn prepare(
        self,
        authority: &store::Authority,
        spec: &ClusterSpec,
        external: &ExternalSigner,
    ) -> Result<Prepared, ClusterError> {
        let prepared = match self {
            Self::Unchanged => Prepared::Unchanged,
            Self::Stay(key) => Prepared::Stay(key.unwrap_or_else(|| authority.key.clone())),
            Self::Rekey(key) => match &authority.successor {
                Some(successor) => Prepared::Successor(AuthoritySuccessor { key, ..successor.clone() }),
                None => Prepared::Unchanged,
            },
            Self::Renew => {
                let (certificate, key) = Authority::generate()?;
                let certificate = normalize(&certificate)?;
                let signing = SigningAuthority { certificate, key };
                Prepared::Successor(cross_signed(signing, authority, spec, external).await?)
            }
            Self::Exchange(signing) => {
                Prepared::Successor(cross_signed(signing, authority, spec, external).await?)
            }
        };
        let present_key = match &prepared {
            Prepared::Stay(key) => key,
            _ => &authority.key,
        };
        if present_key.is_empty() {
            let outside = outside_for(spec, authority, &authority.certificate);
            external.check(&outside, &authority.certificate, "current").await?;
        }
        let next = match &prepared {
            Prepared::Successor(successor) => Some(successor),
            Prepared::Unchanged => authority.successor.as_ref(),
            Prepared::Stay(_) => None,
        };
        if let Some(next) = next.filter(|next| next.key.is_empty()) {
            let outside = outside_for(spec, authority, &next.certificate);
            external.check(&outside, &next.certificate, "desired").await?;
        }
        Ok(prepared)
    }
}

/// The successor, with its certificate signed by the present authority.
async fn cross_signed(
    signing: SigningAuthority,
    authority: &store::Authority,
    spec: &ClusterSpec,
    external: &ExternalSigner,
) -> Result<AuthoritySuccessor, ClusterError> {
    let SigningAuthority { certificate, key } = signing;
    let cross_signed = if authority.key.is_empty() {
        let outside = outside_for(spec, authority, &authority.certificate);
        external.cross_sign(&outside, &authority.certificate, &certificate, &key).await?
    } else {
        Authority::from_pem(&authority.certificate, &authority.key)?.cross_sign(&certificate)?
    };
    let (next, crossed) =
        (AuthorityCertificate::parse(&certificate)?, AuthorityCertificate::parse(&cross_signed)?);
    let present = AuthorityCertificate::parse(&authority.certificate)?;
    if crossed.subject != next.subject
        || crossed.public_key != next.public_key
        || !present.has_issued(&crossed.der)
    {
        return Err(ClusterError::refused(
            ErrorKind::Internal,
            "rpc error: code = Internal desc = unable to generate a cross-signed certificate for root rotation",
        ));
    }
    Ok(AuthoritySuccessor { certificate, key, cross_signed: to_pem(&crossed.der) })
}

/// The certificate and key of an authority, if the cluster can live with them.
pub(crate) fn check(given: &SigningAuthority, now: Timestamp) -> Result<SigningAuthority, ClusterError> {
    let certificate = normalize(&given.certificate)?;
    let read = AuthorityCertificate::parse(&certificate).map_err(|error| refused(&error.to_string()))?;
    if read.not_after < after(now, MIN_AUTHORITY_LIFE) {
        return refuse("CA certificate expires too soon");
    }
    if !given.key.is_empty() {
        let signer =
            Authority::from_pem(&certificate, &given.key).map_err(|error| refused(&error.to_string()))?;
        // What is compared is what counts: that its signatures are taken for those of the certificate.
        let tried = signer.cross_sign(&certificate).map_err(|error| refused(&error.to_string()))?;
        if !read.has_issued(&AuthorityCertificate::parse(&tried)?.der) {
            return refuse("certificate key mismatch");
        }
    }
    Ok(SigningAuthority { certificate, key: given.key.clone() })
}

/// The one certificate of a PEM text, as [`to_pem`] writes it.
fn normalize(pem: &str) -> Result<String, ClusterError> {
    match all(pem).as_deref() {
        Ok([certificate]) => Ok(to_pem(certificate)),
        Ok([_, ..]) => refuse("the desired CA certificate cannot contain multiple certificates"),
        _ => refuse("could not parse the desired CA certificate"),
    }
}

fn refuse<T>(text: &str) -> Result<T, ClusterError> {
    Err(refused(text))
}

fn refused(text: &str) -> ClusterError {
    ClusterError::refused(
        ErrorKind::InvalidArgument,
        format!("rpc error: code = InvalidArgument desc = {text}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_types::cluster::settings::JoinTokens;

    fn signing() -> SigningAuthority {
        let (certificate, key) = Authority::generate().unwrap();
        SigningAuthority { certificate: normalize(&certificate).unwrap(), key }
    }

    fn present(signing: &SigningAuthority, successor: Option<AuthoritySuccessor>) -> store::Authority {
        store::Authority {
            meta: super::super::founding::first_meta(Timestamp::now()),
            certificate: signing.certificate.clone(),
            key: signing.key.clone(),
            tokens: JoinTokens { worker: String::new(), manager: String::new() },
            unlock_key: None,
            successor,
        }
    }

    fn decide(
        authority: &store::Authority,
        forced: u64,
        signing: Option<&SigningAuthority>,
    ) -> Result<Succession, String> {
        let before = ClusterSpec::default();
        let outside = ExternalAuthority {
            protocol: "cfssl".to_owned(),
            url: "https://localhost".to_owned(),
            certificate: String::new(),
            options: Default::default(),
        };
        let external_authorities = if forced == 2 { vec![outside] } else { Vec::new() };
        let spec = ClusterSpec { rotate_authority: forced, external_authorities, ..before.clone() };
        wanted(authority, &before, &spec, signing, Timestamp::now())
            .map_err(|error| error.to_string().rsplit("desc = ").next().unwrap_or_default().to_owned())
    }

    #[test]
    fn what_changes_follows_from_what_is_there_and_what_is_wished() {
        let (own, next, other) = (signing(), signing(), signing());
        let without_key = |of: &SigningAuthority| SigningAuthority { key: String::new(), ..of.clone() };
        let successor = AuthoritySuccessor {
            certificate: next.certificate.clone(),
            key: String::new(),
            cross_signed: String::new(),
        };
        let (calm, moving) = (present(&own, None), present(&own, Some(successor)));
        let outside = present(&without_key(&own), None);
        use Succession::{Exchange, Rekey, Renew, Stay, Unchanged};
        let refused = "rotating from one external CA to a different external CA is not supported";
        for (what, authority, forced, given, expected) in [
            ("nothing", &calm, 0, None, Ok(Unchanged)),
            ("a new one", &calm, 1, None, Ok(Renew)),
            ("a new one, again", &moving, 1, None, Ok(Renew)),
            ("what a client was shown", &calm, 0, Some(without_key(&own)), Ok(Unchanged)),
            ("what it has", &calm, 1, Some(own.clone()), Ok(Unchanged)),
            (
                "what it has, to be signed outside",
                &calm,
                2,
                Some(without_key(&own)),
                Ok(Stay(Some(String::new()))),
            ),
            ("back", &moving, 1, Some(without_key(&own)), Ok(Stay(None))),
            ("back with the key", &moving, 1, Some(own.clone()), Ok(Stay(Some(own.key.clone())))),
            ("the key of the next", &moving, 0, Some(next.clone()), Ok(Rekey(next.key.clone()))),
            ("what is under way", &moving, 0, Some(without_key(&next)), Ok(Unchanged)),
            ("another", &calm, 1, Some(other.clone()), Ok(Exchange(other.clone()))),
            ("another while one is under way", &moving, 0, Some(other.clone()), Ok(Exchange(other.clone()))),
            ("from outside to outside", &outside, 1, Some(without_key(&other)), Err(refused.to_owned())),
            ("from outside to inside", &outside, 1, Some(other.clone()), Ok(Exchange(other.clone()))),
        ] {
            assert_eq!(decide(authority, forced, given.as_ref()), expected, "{what}");
        }
    }

    #[test]
    fn certificates_that_cannot_work_are_refused_in_swarms_words() {
        let (one, two) = (signing(), signing());
        let authority = present(&one, None);
        let with = |certificate: String, key: &str| SigningAuthority { certificate, key: key.to_owned() };
        for (given, text) in [
            (with("x".to_owned(), ""), "could not parse the desired CA certificate"),
            (
                with(format!("{}{}", one.certificate, two.certificate), ""),
                "the desired CA certificate cannot contain multiple certificates",
            ),
            (with(two.certificate, &one.key), "certificate key mismatch"),
            (with(short_lived(), ""), "CA certificate expires too soon"),
        ] {
            assert_eq!(decide(&authority, 1, Some(&given)), Err(text.to_owned()));
        }
    }

    fn short_lived() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1)
            + Duration::from_secs(u64::try_from(Timestamp::now().as_second()).unwrap() + 3600);
        params.self_signed(&key).unwrap().pem()
    }

    #[tokio::test]
    async fn a_successor_comes_with_its_certificate_signed_by_the_present_authority() {
        let (own, next) = (signing(), signing());
        let authority = present(&own, None);
        let spec = ClusterSpec::default();
        let external = ExternalSigner::default();
        let prepared =
            Succession::Exchange(next.clone()).prepare(&authority, &spec, &external).await.unwrap();
        let Prepared::Successor(successor) = prepared else { panic!("{prepared:?}") };
        assert_eq!((&successor.certificate, &successor.key), (&next.certificate, &next.key));
        let crossed = AuthorityCertificate::parse(&successor.cross_signed).unwrap();
        assert!(AuthorityCertificate::parse(&own.certificate).unwrap().has_issued(&crossed.der));
        let outside = present(&SigningAuthority { key: String::new(), ..own }, None);
        let refused = Succession::Renew.prepare(&outside, &spec, &external).await.unwrap_err();
        assert!(refused.to_string().contains("at least one valid, reachable external CA"), "{refused}");
    }
}
