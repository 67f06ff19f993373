//! What exists only while this manager leads.
//!
//! Start reading at [`follow`]. On gain of leadership the parts are made from nothing but the store; on its loss they are dropped, wherever they are:
//! each commits by itself, so nothing is left half done that the next leader would not find and finish.

use std::sync::Arc;
use std::time::Duration;

use shoal_types::NodeId;
use shoal_types::protocol::ManagerPeer;
use tokio_util::sync::CancellationToken;

use crate::api::nodes::Nodes;
use crate::ca::exchange;
use crate::ca::external::ExternalSigner;
use crate::clock::{Clock, LeaderClock};
use crate::control::Control;
use crate::decisions;
use crate::desk::Desk;
use crate::dispatcher::{Dispatcher, ManagersView};
use crate::forward::LeaderPorts;
use crate::raft::{Group, Leadership};
use crate::roles::{self, LeaderNodes};
use crate::settings::LeaderSettings;
use crate::store::Store;

/// How long to wait before something that has failed is begun anew.
const PAUSE: Duration = Duration::from_millis(50);

impl ManagersView for Group {
    fn managers(&self) -> Vec<ManagerPeer> {
        let peer = |status: crate::raft::MemberStatus| ManagerPeer {
            node: status.member.node,
            address: status.member.address,
        };
        self.members().into_iter().filter(|status| status.is_voter).map(peer).collect()
    }
}

/// Makes and drops the leader's parts as leadership comes and goes, until `stop`.
pub(crate) async fn follow(desk: Arc<Desk>, node: NodeId, stop: CancellationToken) {
    let mut leadership = desk.group.leadership();
    loop {
        let now = *leadership.borrow_and_update();
        let Leadership::Here(term) = now else {
            // Both may be dropped: leadership is read anew.
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
            continue;
        };
        tracing::info!(term, "this manager leads");
        let ended = leadership.wait_for(|now| *now != Leadership::Here(term));
        // Each may be dropped at any point; see the module's header.
        tokio::select! {
            () = lead(&desk, node) => {}
            _ = ended => {}
            () = stop.cancelled() => {}
        }
        desk.forwarder.set_local(None);
        desk.set_dispatcher(None);
        tracing::info!(term, "this manager leads no more");
        if stop.is_cancelled() {
            return;
        }
    }
}

/// Leads, for as long as it is driven.
async fn lead(desk: &Arc<Desk>, node: NodeId) {
    // What was acknowledged before must be applied before anything is decided or shown. After a start this manager has what its disk
    // has of the objects, which may be less than its log. What is committed now takes all of that along.
    while let Err(error) = desk.group.commit(Vec::new()).await {
        tracing::debug!(%error, "leadership is not confirmed yet");
        // A majority may answer at any time, and nothing tells when.
        tokio::time::sleep(PAUSE).await;
    }
    let store: Arc<dyn Store> = Arc::clone(&desk.group) as Arc<dyn Store>;
    let newest = desk.group.snapshot().newest_time();
    let clock: Arc<dyn Clock> = Arc::new(LeaderClock::not_before(newest));
    let managers = Arc::clone(&desk.group) as Arc<dyn ManagersView>;
    let dispatcher = Dispatcher::new(Arc::clone(&store), Arc::clone(&clock), managers);
    let control = Arc::new(Control::new(Arc::clone(&store), Arc::clone(&clock), node));
    desk.set_dispatcher(Some(Arc::clone(&dispatcher)));
    desk.forwarder.set_local(Some(LeaderPorts {
        services: control.clone(),
        tasks: control.clone(),
        nodes: Arc::new(LeaderNodes {
            nodes: Arc::clone(&control) as Arc<dyn Nodes>,
            group: Arc::clone(&desk.group),
        }),
        networks: control.clone(),
        secrets: control.clone(),
        configs: control,
        settings: Arc::new(LeaderSettings {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            external: ExternalSigner::new(Arc::clone(&desk.credentials)),
        }),
    }));
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let decide = async {
        loop {
            // It ends when this manager cannot write; whether it leads no more is decided above.
            let error = decisions::run(Arc::clone(&store), Arc::clone(&clock)).await;
            tracing::debug!(%error, "decisions are begun anew");
            clock.sleep(PAUSE).await;
        }
    };
    tokio::join!(
        dispatcher.run(stop),
        roles::run(Arc::clone(&desk.group), Arc::clone(&clock)),
        exchange::run(Arc::clone(&store), Arc::clone(&clock)),
        decide
    );
}
