//! Tables: what peers mean, and that changes and the whole never disagree.

use proptest::prelude::*;

use super::*;
use crate::overlay::spec::{Encryption, OverlayRole, OverlaySubnet};
use crate::spec::Reach;

const OWN: &str = "192.0.2.1";

fn spec() -> OverlaySpec {
    let subnet = |subnet: &str, vni| OverlaySubnet { subnet: subnet.parse().unwrap(), gateway: None, vni };
    OverlaySpec {
        subnets: vec![subnet("10.0.1.0/24", 4096), subnet("fd00:1::/64", 4097)],
        underlay_mtu: None,
        vtep: OWN.parse().unwrap(),
        port: 4789,
        encryption: Encryption::Off,
        reach: Reach::External,
        role: OverlayRole::Containers,
        container_iface_prefix: "eth".to_owned(),
    }
}

fn peer(address: &str, mac: u8, vtep: &str) -> Peer {
    let mac = MacAddr([2, 0x42, 0, 0, 0, mac]);
    Peer { address: address.parse().unwrap(), mac, vtep: vtep.parse().unwrap() }
}

#[test]
fn peers_of_this_node_and_of_no_subnet_are_programmed_nowhere() {
    let tables = Tables::new(&spec(), &[peer("10.0.1.2", 1, OWN), peer("10.9.9.9", 2, "192.0.2.2")]);
    assert_eq!(tables.program(), Program::default());
}

#[test]
fn both_families_of_one_peer_share_the_forwarding_entry_of_the_first_subnet() {
    let peers = [peer("fd00:1::2", 1, "192.0.2.2"), peer("10.0.1.2", 1, "192.0.2.2")];
    let program = Tables::new(&spec(), &peers).program();
    let forwards: Vec<_> = program.forwards.iter().collect();
    assert_eq!(forwards, [(&(0, peers[0].mac), &peers[0].vtep)]);
    assert_eq!(program.neighbours.len(), 2);
}

#[test]
fn the_other_family_keeps_a_peer_reachable_when_one_goes() {
    let peers = [peer("10.0.1.2", 1, "192.0.2.2"), peer("fd00:1::2", 1, "192.0.2.2")];
    let mut tables = Tables::new(&spec(), &peers);
    let ops = tables.change(&TableChange::Remove(peers[0].address));
    let mac = peers[0].mac;
    assert_eq!(
        ops,
        [
            Op::SetForward(1, mac, peers[1].vtep),
            Op::RemoveForward(0, mac),
            Op::RemoveNeighbour(0, peers[0].address)
        ]
    );
}

#[test]
fn a_task_that_moved_is_two_entries_set_again() {
    let mut tables = Tables::new(&spec(), &[peer("10.0.1.2", 1, "192.0.2.2")]);
    let moved = peer("10.0.1.2", 1, "192.0.2.3");
    assert_eq!(tables.change(&TableChange::Set(moved)), [Op::SetForward(0, moved.mac, moved.vtep)]);
    assert_eq!(tables.change(&TableChange::Set(moved)), []);
    let here = peer("10.0.1.2", 1, OWN);
    assert_eq!(
        tables.change(&TableChange::Set(here)),
        [Op::RemoveForward(0, here.mac), Op::RemoveNeighbour(0, here.address)]
    );
}

fn any_change() -> impl Strategy<Value = TableChange> {
    let address = prop_oneof![
        (2u8..6).prop_map(|last| format!("10.0.1.{last}")),
        (2u8..6).prop_map(|last| format!("fd00:1::{last}")),
    ];
    (address, 1u8..5, 1u8..4, any::<bool>()).prop_map(|(address, mac, node, set)| {
        let peer = peer(&address, mac, &format!("192.0.2.{node}"));
        if set { TableChange::Set(peer) } else { TableChange::Remove(peer.address) }
    })
}

fn execute(program: &mut Program, op: Op) {
    match op {
        Op::SetNeighbour(tunnel, address, mac) => drop(program.neighbours.insert((tunnel, address), mac)),
        Op::RemoveNeighbour(tunnel, address) => drop(program.neighbours.remove(&(tunnel, address))),
        Op::SetForward(tunnel, mac, vtep) => drop(program.forwards.insert((tunnel, mac), vtep)),
        Op::RemoveForward(tunnel, mac) => drop(program.forwards.remove(&(tunnel, mac))),
    }
}

proptest! {
    #[test]
    fn changes_lead_to_what_the_whole_would_be(changes in proptest::collection::vec(any_change(), 0..40)) {
        let mut tables = Tables::new(&spec(), &[]);
        let mut kernel = Program::default();
        for change in &changes {
            for op in tables.change(change) {
                execute(&mut kernel, op);
            }
            prop_assert_eq!(&kernel, &tables.program());
        }
    }

    #[test]
    fn a_difference_leads_from_anything_to_what_is_wanted(
        before in proptest::collection::vec(any_change(), 0..20),
        after in proptest::collection::vec(any_change(), 0..20),
    ) {
        let whole = |changes: &[TableChange]| {
            let mut tables = Tables::new(&spec(), &[]);
            changes.iter().for_each(|change| drop(tables.change(change)));
            tables.program()
        };
        let (mut kernel, wanted) = (whole(&before), whole(&after));
        let ops = difference(&kernel, &wanted);
        ops.into_iter().for_each(|op| execute(&mut kernel, op));
        prop_assert_eq!(kernel, wanted);
    }
}
