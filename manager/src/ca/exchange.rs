//! The exchange of the cluster's authority, on the leader.
//!
//! Start reading at [`finish`], which is pure. While a successor is there, every certificate that is issued is the successor's and comes with the
//! successor's own, signed by the present authority: nodes that trust only the present one believe it too. Every node
//! whose certificate is another authority's is told to renew ([`must_renew`]). When none is left the successor takes
//! over; nodes then learn to trust it by their sessions, and the join tokens are made anew because they name the
//! authority. A node that is away holds the exchange up until it comes back or is removed.

use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::cluster::node::{Node, TlsInfo};
use shoal_types::cluster::settings::{Cluster, JoinTokens};

use super::certificate::AuthorityCertificate;
use super::founding::new_token;
use crate::clock::Clock;
use crate::error::ClusterError;
use crate::store::{Change, Snapshot, Store};

/// Whether a node holds a certificate of another authority than the cluster issues by now.
pub(crate) fn must_renew(cluster: &Cluster, node: &Node) -> bool {
    node.description.as_ref().is_some_and(|described| {
        // A node that says nothing of its certificate cannot be told from one that is right.
        let is_known = !described.tls.issuer_public_key.is_empty();
        is_known && !is_issued_by(&described.tls, &cluster.issuer_subject, &cluster.issuer_public_key)
    })
}

/// Lets the successor take over once every node has a certificate of it; `None` while that is not so. Pure but for new tokens.
fn finish(snapshot: &Snapshot, now: Timestamp) -> Result<Option<Vec<Change>>, ClusterError> {
    let Some((cluster, authority)) = snapshot.cluster().zip(snapshot.authority()) else { return Ok(None) };
    let Some(successor) = &authority.successor else { return Ok(None) };
    let next = AuthorityCertificate::parse(&successor.certificate)?;
    let has_renewed = |node: &Arc<Node>| {
        node.description
            .as_ref()
            .is_some_and(|described| is_issued_by(&described.tls, &next.subject, &next.public_key))
    };
    if !snapshot.nodes().all(has_renewed) {
        return Ok(None);
    }
    let mut authority = (**authority).clone();
    authority.certificate.clone_from(&successor.certificate);
    authority.key.clone_from(&successor.key);
    authority.tokens =
        JoinTokens { worker: new_token(&successor.certificate), manager: new_token(&successor.certificate) };
    authority.meta.updated = now;
    let mut cluster = (**cluster).clone();
    cluster.trust_root.clone_from(&successor.certificate);
    cluster.issuer_subject = next.subject;
    cluster.issuer_public_key = next.public_key;
    cluster.is_rotating = false;
    cluster.meta.updated = now;
    authority.successor = None;
    Ok(Some(vec![Change::Update(cluster.into()), Change::Update(authority.into())]))
}

/// Brings exchanges to their end for as long as it is driven.
pub(crate) async fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
    let mut changed = store.changed();
    loop {
        changed.mark_unchanged();
        match finish(&store.snapshot(), clock.now()) {
            Ok(None) => {}
            Ok(Some(changes)) => match store.commit(changes).await {
                Ok(_) => tracing::info!("the cluster has another authority"),
                // Somebody has changed the settings meanwhile, or this manager leads no more.
                Err(error) => tracing::debug!(%error, "the cluster's authority was not exchanged yet"),
            },
            Err(error) => tracing::error!(%error, "the cluster's authority cannot be exchanged"),
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn is_issued_by(tls: &TlsInfo, subject: &[u8], public_key: &[u8]) -> bool {
    tls.issuer_subject == subject && tls.issuer_public_key == public_key
}
