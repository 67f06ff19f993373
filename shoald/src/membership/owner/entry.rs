//! Becoming a node: beginning a cluster, joining one, going on alone.
//!
//! Start reading at [`Owner::begin_init`] and [`Owner::begin_join`]. What can be refused at once is refused here; the rest is work that goes on
//! beside, and its outcome is taken by the owner.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use manager::ClusterError;
use manager::api::membership::{InitRequest, JoinRequest};
use manager::node::{ManagerNode, NewCluster};
use manager::worker_client::{Enrolment, enrol};
use node_agent::api::networks::NetworkFilter;
use shoal_types::ErrorKind;
use shoal_types::cluster::node::NodeRole;

use super::patience::{is_final, pause_after};
use super::standing::keep;
use super::{Outcome, Owner};
use crate::membership::address::{self, Addresses, Advertising, System, Wanted};
use crate::membership::member::manager_config;
use crate::membership::record::Record;
use crate::membership::unavailable;

/// Pools from which networks of the cluster are cut unless the administrator says otherwise.
const DEFAULT_POOL: &str = "10.0.0.0/8";
const DEFAULT_SUBNET_SIZE: u8 = 24;
const DEFAULT_DATA_PATH_PORT: u16 = 4789;

const ALREADY_A_MEMBER: &str = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and \
     join another one.";
const NO_REMOTE: &str = "at least 1 RemoteAddr is required to join";

impl Owner {
    pub(super) async fn begin_init(&mut self, request: InitRequest) -> Result<(), ClusterError> {
        if request.force_new_cluster && self.member.is_some() {
            return self.begin_anew(&request).await;
        }
        self.refuse_members()?;
        let wanted =
            Wanted { listen: &request.listen, advertise: &request.advertise, data_path: &request.data_path };
        let found = self.resolve(wanted, Advertising::Required).await?;
        let advertise = found.advertise.ok_or_else(|| unavailable("no address to advertise"))?;
        let record = Record::new(found.listen, advertise, found.data_path);
        let pools = match request.address_pools.is_empty() {
            true => DEFAULT_POOL.parse().into_iter().collect(),
            false => request.address_pools,
        };
        let or = |given: u16, default| if given == 0 { default } else { given };
        let cluster = NewCluster {
            spec: request.spec,
            address_pools: pools,
            subnet_size: if request.subnet_size == 0 { DEFAULT_SUBNET_SIZE } else { request.subnet_size },
            data_path_port: or(request.data_path_port, DEFAULT_DATA_PATH_PORT),
            availability: request.availability,
            signing: request.signing,
        };
        self.wipe().await;
        let config = manager_config(&self.parts.settings, &record);
        self.work(async move {
            let begun = ManagerNode::init(config, cluster).await;
            Outcome::Begun(record, begun)
        });
        Ok(())
    }

    /// Goes on alone with the state of a cluster that has lost its quorum.
    async fn begin_anew(&mut self, request: &InitRequest) -> Result<(), ClusterError> {
        let wanted =
            Wanted { listen: &request.listen, advertise: &request.advertise, data_path: &request.data_path };
        // Without a wish the node keeps the address that it has.
        let found = match request.advertise.is_empty() {
            true => None,
            false => Some(self.resolve(wanted, Advertising::Required).await?),
        };
        let Some(member) = &mut self.member else { return Err(ClusterError::NotAMember) };
        if member.credentials.role() != NodeRole::Manager {
            return Err(ClusterError::Worker);
        }
        if let Some(Addresses { listen, advertise: Some(advertise), .. }) = found {
            member.record.listen = listen;
            member.record.advertise = advertise;
        }
        member.record.managers = vec![member.record.advertise];
        keep(&self.parts.settings.directory, &member.record);
        let (manager, credentials) = (member.manager.take(), Arc::clone(&member.credentials));
        let config = manager_config(&self.parts.settings, &member.record);
        self.work(async move {
            if let Some(manager) = manager {
                manager.stop().await;
            }
            Outcome::Managing(ManagerNode::force_new_cluster(config, credentials).await)
        });
        Ok(())
    }

    pub(super) async fn begin_join(&mut self, request: JoinRequest) -> Result<(), ClusterError> {
        self.refuse_members()?;
        if request.remotes.is_empty() {
            return Err(ClusterError::Refused {
                kind: ErrorKind::InvalidArgument,
                message: NO_REMOTE.to_owned(),
            });
        }
        let wanted =
            Wanted { listen: &request.listen, advertise: &request.advertise, data_path: &request.data_path };
        let found = self.resolve(wanted, Advertising::Optional).await?;
        self.wipe().await;
        let directory = self.parts.settings.directory.join("certificates");
        self.work(join(directory, request, found));
        Ok(())
    }

    fn refuse_members(&self) -> Result<(), ClusterError> {
        if self.is_locked {
            return Err(ClusterError::Locked);
        }
        if self.member.is_some() || self.work.is_some() {
            return Err(unavailable(ALREADY_A_MEMBER));
        }
        Ok(())
    }

    async fn resolve(&self, wanted: Wanted<'_>, advertising: Advertising) -> Result<Addresses, ClusterError> {
        let networks = self.parts.node.networks.list(NetworkFilter::default()).await;
        let subnets = networks.iter().flatten().flat_map(|network| &network.spec.ipam.pools);
        let system = System {
            interfaces: address::interfaces().map_err(|error| unavailable(&error.to_string()))?,
            own_subnets: subnets.filter_map(|pool| pool.subnet).collect(),
            default_advertise: self.parts.settings.default_advertise.clone(),
        };
        address::resolve(wanted, &system, advertising)
    }
}

/// Lets this machine into a cluster, trying for as long as no manager has refused.
async fn join(directory: std::path::PathBuf, request: JoinRequest, found: Addresses) -> Outcome {
    let mut failures = 0;
    loop {
        let (remotes, advertise) = find(&request.remotes, &found).await;
        let mut record = Record::new(found.listen, advertise, found.data_path);
        record.managers.clone_from(&remotes);
        let enrolment = Enrolment {
            directory: directory.clone(),
            remotes,
            token: request.token.clone(),
            availability: request.availability,
        };
        let outcome = enrol(enrolment).await;
        match outcome {
            Err(error) if !is_final(&error) => {
                tracing::info!(%error, "no manager lets this machine in yet");
                failures += 1;
                // A cluster without a leader does not say when it has one.
                tokio::time::sleep(pause_after(failures)).await;
            }
            outcome => return Outcome::Enrolled(record, outcome),
        }
    }
}

/// Where the managers are, and where this machine is if it has to look at the way to them.
async fn find(remotes: &[String], found: &Addresses) -> (Vec<SocketAddr>, SocketAddr) {
    let mut addresses = Vec::new();
    for remote in remotes {
        match tokio::net::lookup_host(address::remote(remote)).await {
            Ok(found) => addresses.extend(found),
            Err(error) => tracing::info!(remote, %error, "manager has no address"),
        }
    }
    let advertise = match (found.advertise, addresses.first()) {
        (Some(advertise), _) => advertise,
        (None, Some(remote)) => SocketAddr::new(source_towards(*remote).await, found.listen.port()),
        (None, None) => found.listen,
    };
    (addresses, advertise)
}

/// The address from which packets to a remote leave. Nothing is sent.
async fn source_towards(remote: SocketAddr) -> IpAddr {
    let unspecified: IpAddr = match remote {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let looked = async {
        let socket = tokio::net::UdpSocket::bind((unspecified, 0)).await?;
        socket.connect(remote).await?;
        socket.local_addr()
    };
    looked.await.map_or(unspecified, |source| source.ip())
}
