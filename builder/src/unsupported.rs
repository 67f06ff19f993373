//! The builder of a release that does not build.
//!
//! Start reading at [`Unsupported`]. It never reads a context and never pretends to have built.

use async_trait::async_trait;
use node_agent::api::ByteSource;

use crate::api::{BuildStream, Builder};
use crate::error::BuildError;
use crate::request::BuildRequest;

/// Refuses every build, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unsupported;

#[async_trait]
impl Builder for Unsupported {
    async fn build(&self, _request: BuildRequest, _body: ByteSource) -> Result<BuildStream, BuildError> {
        Err(BuildError::NotSupported)
    }

    async fn cancel(&self, _build_id: &str) -> Result<(), BuildError> {
        Err(BuildError::NotSupported)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use shoal_types::ErrorKind;

    use super::*;
    use crate::check::{BuildParameters, Experimental, check};

    #[tokio::test]
    async fn every_build_is_refused_with_the_reason_and_its_context_stays_unread() {
        let request = check(BuildParameters::default(), Experimental::Off).unwrap();
        let body = stream::poll_fn(|_| panic!("the context was read"));
        let error = Unsupported.build(request, Box::pin(body)).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
        assert_eq!(
            error.to_string(),
            "image build is not supported yet; build elsewhere and push or load the result"
        );
        assert_eq!(Unsupported.cancel("x").await.unwrap_err().kind(), ErrorKind::NotImplemented);
    }
}
