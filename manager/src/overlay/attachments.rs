//! Plain containers join and leave networks of the cluster.
//!
//! Start reading at [`attach`]. Pure: a draft goes in, what it becomes and the answer come out; whoever calls commits, and asks
//! again when somebody else was given the address first.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use shoal_types::cluster::Meta;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::overlay::{Attachment, OVERLAY_DRIVER, OverlayNetwork};
use shoal_types::protocol::{AttachReply, AttachRequest};
use shoal_types::{ErrorKind, NetworkId, NodeId, TaskId};

use super::entries;
use crate::allocator::Allocator;
use crate::allocator::address::{Family, families};
use crate::error::ClusterError;
use crate::store::{Draft, Key, ObjectKind, Snapshot};

/// Lets a container of a node join a network.
pub(crate) fn attach(
    draft: &mut Draft,
    allocator: &mut Allocator,
    node: NodeId,
    request: &AttachRequest,
) -> Result<AttachReply, ClusterError> {
    let (network, overlay) = look_up(draft.view(), node, &request.network)?;
    let has_it =
        |other: &&Arc<Attachment>| other.container == request.container && other.network == network.id;
    let known = draft.view().attachments_on(node).find(has_it).cloned();
    let mut attachment = match known {
        Some(known) => Attachment::clone(&known),
        None => Attachment {
            id: draft.new_task_id(),
            meta: Meta { version: 0, created: draft.now(), updated: draft.now() },
            network: network.id.clone(),
            node,
            container: request.container,
            name: String::new(),
            aliases: Vec::new(),
            addresses: Vec::new(),
        },
    };
    let is_new = attachment.addresses.is_empty();
    if is_new {
        attachment.addresses = addresses(draft.view(), allocator, &network, &request.addresses)?;
    }
    let is_renamed = attachment.name != request.name || attachment.aliases != request.aliases;
    attachment.name.clone_from(&request.name);
    attachment.aliases.clone_from(&request.aliases);
    let reply = AttachReply { attachment: attachment.id, overlay, addresses: attachment.addresses.clone() };
    match (is_new, is_renamed) {
        (true, _) => draft.create(attachment)?,
        (false, true) => draft.update(attachment)?,
        (false, false) => {}
    }
    Ok(reply)
}

/// A network that plain containers may join, by name or id, and what a node is told of it.
pub(crate) fn look_up(
    view: &Snapshot,
    node: NodeId,
    text: &str,
) -> Result<(Arc<ClusterNetwork>, OverlayNetwork), ClusterError> {
    let network = find(view, text)?;
    if !network.spec.attachable {
        return Err(ClusterError::refused(
            ErrorKind::Forbidden,
            format!(
                "rpc error: code = PermissionDenied desc = network {} not manually attachable",
                network.spec.name
            ),
        ));
    }
    let overlay = entries::network(view, &network, node).ok_or_else(|| {
        ClusterError::refused(
            ErrorKind::Unavailable,
            format!("network {} has no addresses yet", network.spec.name),
        )
    })?;
    Ok((network, overlay))
}

/// Whether a network will be given its subnets shortly.
pub(crate) fn awaits_allocation(view: &Snapshot, text: &str) -> bool {
    find(view, text).is_ok_and(|network| network.allocation.is_none() && network.error.is_empty())
}

/// Ends attachments of a node; those of others, and those that are gone, are passed over.
pub(crate) fn detach(draft: &mut Draft, node: NodeId, attachments: &[TaskId]) -> Result<(), ClusterError> {
    for id in attachments {
        if draft.view().attachment(*id).is_some_and(|attachment| attachment.node == node) {
            draft.remove(Key::Attachment(*id))?;
        }
    }
    Ok(())
}

fn find(view: &Snapshot, text: &str) -> Result<Arc<ClusterNetwork>, ClusterError> {
    let by_name = || match view.by_name(ObjectKind::Network, text)? {
        Key::Network(id) => view.network(id),
        _ => None,
    };
    let by_prefix = || {
        let mut matching = view.networks().filter(|network| network.id.as_str().starts_with(text));
        matching.next().filter(|_| matching.next().is_none())
    };
    let found = view.network(&NetworkId::new(text)).or_else(by_name).or_else(by_prefix);
    let found = found.filter(|network| network.spec.driver == OVERLAY_DRIVER);
    found.cloned().ok_or_else(|| {
        ClusterError::refused(
            ErrorKind::NotFound,
            format!("rpc error: code = NotFound desc = network {text} not found"),
        )
    })
}

/// The addresses that were asked for, and free ones of the families of which none was.
fn addresses(
    view: &Snapshot,
    allocator: &mut Allocator,
    network: &ClusterNetwork,
    wanted: &[IpAddr],
) -> Result<Vec<IpNet>, ClusterError> {
    let mut addresses =
        wanted.iter().map(|address| chosen(view, network, *address)).collect::<Result<Vec<_>, _>>()?;
    for family in families(network) {
        if addresses.iter().any(|net| Family::of(net.addr()) == family) {
            continue;
        }
        let address = allocator.choose_address(view, network, family);
        addresses.push(address.map_err(|shortage| {
            ClusterError::refused(
                ErrorKind::Unavailable,
                format!("rpc error: code = ResourceExhausted desc = {shortage}"),
            )
        })?);
    }
    addresses.sort_by_key(|net| Family::of(net.addr()));
    Ok(addresses)
}

fn chosen(view: &Snapshot, network: &ClusterNetwork, address: IpAddr) -> Result<IpNet, ClusterError> {
    let pools = network.allocation.iter().flat_map(|allocation| &allocation.pools);
    let pool = pools.clone().find(|pool| pool.subnet.contains(&address));
    let Some(pool) = pool else {
        return Err(ClusterError::refused(
            ErrorKind::InvalidArgument,
            format!(
                "invalid config for network {}: invalid endpoint settings:\nno configured subnet contains IP address {address}",
                network.spec.name
            ),
        ));
    };
    if !view.is_free_address(&network.id, address) {
        return Err(ClusterError::refused(ErrorKind::Forbidden, "Address already in use"));
    }
    IpNet::new(address, pool.subnet.prefix_len())
        .map_err(|source| ClusterError::local("giving an address to a container", source))
}

#[cfg(test)]
mod tests {
    use shoal_types::ContainerId;

    use super::*;
    use crate::fixtures::{at, cluster, network, node};
    use crate::store::Object;

    const NODE: NodeId = NodeId::from_u128(1);

    fn store(attachable: bool) -> Arc<Snapshot> {
        let mut shared = network("net1", "shared", 1);
        shared.spec.attachable = attachable;
        Arc::new(Snapshot::from_objects(1, [Object::from(cluster()), node(1).into(), shared.into()]))
    }

    fn request(container: u8) -> AttachRequest {
        AttachRequest {
            network: "shared".into(),
            container: ContainerId::from_bytes([container; 32]),
            name: format!("c{container}"),
            aliases: vec!["alias".into()],
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_container_keeps_what_it_was_given_until_it_leaves() {
        let (store, mut allocator) = (store(true), Allocator::default());
        let mut draft = Draft::new(&store, at(1));
        let first = attach(&mut draft, &mut allocator, NODE, &request(1)).unwrap();
        assert_eq!(first.addresses, ["10.0.1.2/24".parse().unwrap()]);
        assert_eq!(attach(&mut draft, &mut allocator, NODE, &request(1)).unwrap(), first);
        let second = attach(&mut draft, &mut allocator, NODE, &request(2)).unwrap();
        assert_eq!(second.addresses, ["10.0.1.3/24".parse().unwrap()]);
        let other = NodeId::from_u128(2);
        detach(&mut draft, other, &[first.attachment]).unwrap();
        assert!(draft.view().attachment(first.attachment).is_some(), "it is not that node's");
        detach(&mut draft, NODE, &[first.attachment]).unwrap();
        assert!(draft.view().attachment(first.attachment).is_none());
        assert!(draft.view().is_free_address(&NetworkId::new("net1"), "10.0.1.2".parse().unwrap()));
    }

    #[test]
    fn addresses_that_are_asked_for_must_be_free_and_inside() {
        let (store, mut allocator) = (store(true), Allocator::default());
        let mut draft = Draft::new(&store, at(1));
        let with = |container, address: &str| AttachRequest {
            addresses: vec![address.parse().unwrap()],
            ..request(container)
        };
        let given = attach(&mut draft, &mut allocator, NODE, &with(1, "10.0.1.77")).unwrap();
        assert_eq!(given.addresses, ["10.0.1.77/24".parse().unwrap()]);
        for (address, kind) in
            [("10.0.1.77", ErrorKind::Forbidden), ("10.9.1.77", ErrorKind::InvalidArgument)]
        {
            let refused = attach(&mut draft, &mut allocator, NODE, &with(2, address)).unwrap_err();
            assert_eq!(refused.kind(), kind, "{refused}");
        }
    }

    #[test]
    fn only_attachable_networks_that_span_nodes_are_joined() {
        let refused = |store: &Arc<Snapshot>, request: &AttachRequest| {
            attach(&mut Draft::new(store, at(1)), &mut Allocator::default(), NODE, request).unwrap_err()
        };
        let error = refused(&store(false), &request(1));
        assert_eq!(
            error.to_string(),
            "rpc error: code = PermissionDenied desc = network shared not manually attachable"
        );
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        let unknown = AttachRequest { network: "nowhere".into(), ..request(1) };
        assert_eq!(refused(&store(true), &unknown).kind(), ErrorKind::NotFound);
    }
}
