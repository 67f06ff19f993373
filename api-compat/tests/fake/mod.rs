//! A node that answers every port from a few fixed objects and keeps lists of what it was asked and of what that changed.
//!
//! Start reading at [`Fake`]. It knows its objects by name and checks nothing else: what the engine would refuse is tested
//! with the engine.
#![cfg(test)]

mod containers;
mod images;
mod nouns;
mod streams;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use node_agent::NodeError;
use node_agent::api::containers::ContainerView;
use node_agent::api::{ByteSource, ByteStream, Node};

/// The id of the one command that there is.
pub(crate) const EXEC: [u8; 32] = [9; 32];

/// A node made of fixed objects.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    calls: Mutex<Vec<String>>,
    changes: Mutex<Vec<String>>,
    views: Mutex<Vec<Arc<ContainerView>>>,
    failure: Mutex<Option<NodeError>>,
}

impl Fake {
    /// A node with these containers, newest first.
    pub(crate) fn with(views: Vec<ContainerView>) -> Arc<Self> {
        let fake = Self::default();
        *fake.views.lock().unwrap() = views.into_iter().map(Arc::new).collect();
        Arc::new(fake)
    }

    /// The ports.
    pub(crate) fn node(self: &Arc<Self>) -> Node {
        Node {
            containers: self.clone(),
            views: self.clone(),
            streams: self.clone(),
            files: self.clone(),
            checkpoints: self.clone(),
            execs: self.clone(),
            images: self.clone(),
            transfers: self.clone(),
            networks: self.clone(),
            volumes: self.clone(),
            system: self.clone(),
            events: self.clone(),
        }
    }

    /// What was asked, oldest first.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// What has been changed since this was last asked, oldest first; whatever failed is not among it.
    pub(crate) fn take_changes(&self) -> Vec<String> {
        std::mem::take(&mut *self.changes.lock().unwrap())
    }

    /// Lets the next call fail.
    pub(crate) fn fail_next(&self, error: NodeError) {
        *self.failure.lock().unwrap() = Some(error);
    }

    fn note(&self, call: impl Into<String>) -> Result<(), NodeError> {
        self.calls.lock().unwrap().push(call.into());
        match self.failure.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Notes a call that changes something.
    fn change(&self, call: impl Into<String>) -> Result<(), NodeError> {
        let call = call.into();
        self.note(call.clone())?;
        self.changes.lock().unwrap().push(call);
        Ok(())
    }

    /// Notes a call that changes a container, if there is one of this name.
    fn change_of(&self, name: &str, call: String) -> Result<(), NodeError> {
        self.note(call.clone())?;
        self.find(name)?;
        self.changes.lock().unwrap().push(call);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Arc<ContainerView>, NodeError> {
        let bare = name.trim_start_matches('/');
        let views = self.views.lock().unwrap();
        let found = views.iter().find(|view| view.name == bare || view.id.to_string().starts_with(bare));
        found.cloned().ok_or_else(|| NodeError::NoSuchContainer(name.to_owned()))
    }
}

fn bytes(text: &'static str) -> ByteStream {
    Box::pin(stream::iter([Ok(Bytes::from_static(text.as_bytes()))]))
}

/// Reads an archive to its end, as the engine does before it keeps any of it. One that breaks off is refused.
async fn drain(mut source: ByteSource) -> Result<usize, NodeError> {
    let mut size = 0;
    while let Some(chunk) = source.next().await {
        size += chunk.map_err(|error| NodeError::invalid(format!("the archive breaks off: {error}")))?.len();
    }
    Ok(size)
}
