//! One image, and registries that have little to give.
#![cfg(test)]

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use node_agent::NodeError;
use node_agent::api::images::*;
use node_agent::api::{ByteSource, ByteStream};
use registry_client::Credentials;
use shoal_types::{ImageRef, Platform};

use super::{Fake, bytes, drain};
use crate::objects;

#[async_trait]
impl Images for Fake {
    async fn list(&self, query: ImageQuery) -> Result<Vec<ImageSummary>, NodeError> {
        self.note(format!("images {query:?}"))?;
        Ok(vec![objects::image()])
    }

    async fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageView, NodeError> {
        self.note(format!("image {name} {platform:?}"))?;
        if name != "busybox" {
            return Err(NodeError::NoSuchImage(name.to_owned()));
        }
        Ok(objects::image_view())
    }

    async fn history(&self, name: &str, _: Option<&Platform>) -> Result<Vec<HistoryEntry>, NodeError> {
        self.note(format!("history {name}"))?;
        Ok(vec![HistoryEntry {
            id: None,
            created: None,
            created_by: "sh".into(),
            tags: Vec::new(),
            size: 5,
            comment: String::new(),
        }])
    }

    async fn attestations(&self, query: AttestationQuery) -> Result<Vec<AttestationStatement>, NodeError> {
        self.note(format!("attestations {query:?}"))?;
        let statement = serde_json::value::RawValue::from_string("{\"b\":1,\"a\": 2}".to_owned()).unwrap();
        Ok(vec![AttestationStatement {
            descriptor: objects::descriptor(),
            predicate_type: "https://slsa.dev/provenance/v0.2".to_owned(),
            statement: (query.body == StatementBody::Included).then_some(statement),
        }])
    }

    async fn tag(&self, name: &str, reference: &ImageRef) -> Result<(), NodeError> {
        self.change(format!("tag {name} {reference}"))
    }

    async fn remove(&self, name: &str, options: RemoveImage) -> Result<Vec<Removal>, NodeError> {
        self.change(format!("rmi {name} {options:?}"))?;
        Ok(vec![Removal::Untagged(name.to_owned()), Removal::Deleted("sha256:1".into())])
    }

    async fn layers_size(&self) -> Result<u64, NodeError> {
        Ok(1_982_312)
    }

    async fn prune(&self, filter: ImagePruneFilter) -> Result<(Vec<Removal>, u64), NodeError> {
        self.change(format!("prune images {filter:?}"))?;
        Ok((Vec::new(), 0))
    }
}

fn progress(steps: Vec<Result<Progress, NodeError>>) -> ProgressStream {
    stream::iter(steps).boxed()
}

#[async_trait]
impl ImageTransfers for Fake {
    async fn pull(&self, request: PullRequest) -> Result<ProgressStream, NodeError> {
        let PullRequest { reference, platform, credentials, .. } = &request;
        let call = format!("pull {reference} {platform:?} {}", credentials.is_some());
        if reference.familiar_name() == "missing" {
            self.note(call)?;
            return Ok(progress(vec![Err(NodeError::NoSuchImage("missing".into()))]));
        }
        self.change(call)?;
        Ok(progress(vec![
            Ok(Progress::PullingFrom { repository: "library/busybox".into(), tag: "latest".into() }),
            Err(NodeError::failed("pull", std::io::Error::other("cut"))),
        ]))
    }

    async fn push(&self, request: PushRequest) -> Result<ProgressStream, NodeError> {
        self.change(format!("push {}", request.reference))?;
        Ok(progress(vec![Ok(Progress::PushingTo { repository: "docker.io/library/busybox".into() })]))
    }

    async fn load(&self, request: LoadRequest, archive: ByteSource) -> Result<ProgressStream, NodeError> {
        let size = drain(archive).await?;
        self.note(format!("load {request:?} {size}"))?;
        Ok(progress(vec![Err(NodeError::invalid("invalid archive"))]))
    }

    async fn save(&self, names: &[String], platforms: &[Platform]) -> Result<ByteStream, NodeError> {
        self.note(format!("save {names:?} {platforms:?}"))?;
        Ok(bytes("tar"))
    }

    async fn import(&self, request: ImportRequest, archive: ByteSource) -> Result<ProgressStream, NodeError> {
        let size = drain(archive).await?;
        self.change(format!("import {request:?} {size}"))?;
        Ok(progress(vec![Ok(Progress::Imported(objects::image_id()))]))
    }

    async fn distribution(
        &self,
        reference: &ImageRef,
        _: Option<Credentials>,
    ) -> Result<Distribution, NodeError> {
        self.note(format!("distribution {reference}"))?;
        Ok(Distribution {
            descriptor: objects::descriptor(),
            platforms: vec![Platform::new("linux", "amd64", "")],
        })
    }

    async fn search(&self, request: SearchRequest) -> Result<Vec<SearchResult>, NodeError> {
        self.note(format!("search {request:?}"))?;
        Ok(Vec::new())
    }
}
