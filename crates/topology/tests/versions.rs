//! Finalising versions: never what a member does not know, never backwards, whatever came before (guarantee G23). Not here: when it is
//! done (`shard`).
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::*;
use warren_topology::{
    AdmitNode, Batch, FinaliseVersion, ForgetNode, Node, PlacementCommand, Refusal, SetLeaving,
    Software, Topology, TopologyCommand, TopologyReply, UpdateNode,
};
use warren_types::{ClusterVersion, KnownVersions, NodeId};

const NODES: u64 = 5;

fn software(oldest: u32, newest: u32) -> Software {
    Software {
        versions: KnownVersions {
            oldest: ClusterVersion(oldest),
            newest: ClusterVersion(newest),
        },
        name: format!("0.{newest}.0").into(),
    }
}

fn named(number: u64) -> Node {
    form(number, 1).nodes.pop().unwrap()
}

fn update(number: u64, software: Software) -> TopologyCommand {
    let node = named(number);
    TopologyCommand::UpdateNode(UpdateNode {
        node: node.id,
        incarnation: node.incarnation,
        addresses: node.addresses,
        zone: node.zone,
        software,
    })
}

fn finalise(version: u32) -> TopologyCommand {
    let version = ClusterVersion(version);
    TopologyCommand::FinaliseVersion(FinaliseVersion { version })
}

fn done(changed: bool) -> TopologyReply {
    TopologyReply::Done { changed }
}

#[test]
fn version_is_finalised_when_the_last_member_knows_it_and_never_goes_back() {
    let mut topology = formed();
    for node in 1..=2 {
        run(&mut topology, update(node, software(1, 2)));
    }
    assert_eq!(topology.version_to_finalise(), None);
    let refused = Refusal::VersionNotKnown {
        version: ClusterVersion(2),
        node: NodeId(3),
        knows: KnownVersions::FIRST,
    };
    assert_eq!(
        refused.to_string(),
        "version 2 cannot be finalised: the software of node 3 knows version 1 only"
    );
    assert_eq!(
        run(&mut topology, finalise(2)),
        TopologyReply::Refused(refused)
    );
    // Until then every node may go back.
    assert_eq!(
        run(&mut topology, update(1, software(1, 1))),
        TopologyReply::NodeUpdated
    );
    for node in 1..=3 {
        run(&mut topology, update(node, software(1, 2)));
    }
    assert_eq!(topology.version_to_finalise(), Some(ClusterVersion(2)));
    assert_eq!(run(&mut topology, finalise(2)), done(true));
    assert_eq!(run(&mut topology, finalise(2)), done(false));
    assert_eq!(topology.version(), ClusterVersion(2));
    let backwards = Refusal::VersionGoesBack {
        version: ClusterVersion(1),
        finalised: ClusterVersion(2),
    };
    assert_eq!(
        run(&mut topology, finalise(1)),
        TopologyReply::Refused(backwards)
    );
    let unfit = Refusal::SoftwareNotFit {
        node: NodeId(1),
        knows: KnownVersions::FIRST,
        finalised: ClusterVersion(2),
    };
    assert_eq!(
        run(&mut topology, update(1, software(1, 1))),
        TopologyReply::Refused(unfit)
    );
}

#[test]
fn node_that_does_not_know_the_finalised_version_is_not_taken_in() {
    let mut topology = formed();
    for node in 1..=3 {
        run(&mut topology, update(node, software(1, 3)));
    }
    run(&mut topology, finalise(2));
    let mut admit = |versions: Software| {
        let node = Node {
            software: versions,
            ..named(4)
        };
        let admit = PlacementCommand::AdmitNode(AdmitNode {
            node,
            replaces: None,
        });
        run(&mut topology, TopologyCommand::Placement(admit))
    };
    for unfit in [software(1, 1), software(3, 4)] {
        let reply = admit(unfit);
        assert!(
            matches!(
                reply,
                TopologyReply::Refused(Refusal::SoftwareNotFit { .. })
            ),
            "{reply:?}"
        );
    }
    assert_eq!(admit(software(2, 2)), done(true));
}

#[test]
fn command_needs_the_newest_version_that_something_in_it_needs() {
    let batch = Batch {
        commands: vec![finalise(2), declare_queue("q")],
    };
    assert_eq!(TopologyCommand::Batch(batch).since(), ClusterVersion::FIRST);
    let nothing = Batch {
        commands: Vec::new(),
    };
    assert_eq!(
        TopologyCommand::Batch(nothing).since(),
        ClusterVersion::FIRST
    );
}

fn command() -> impl Strategy<Value = TopologyCommand> {
    let node = 1..=NODES;
    let versions =
        || (1_u32..4, 0_u32..3).prop_map(|(oldest, more)| software(oldest, oldest + more));
    let placement = |it| TopologyCommand::Placement(it);
    prop_oneof![
        6 => (node.clone(), versions()).prop_map(|(node, it)| update(node, it)),
        4 => (0_u32..6).prop_map(finalise),
        2 => (node.clone(), versions()).prop_map(move |(number, software)| {
            let node = Node { software, ..named(number) };
            placement(PlacementCommand::AdmitNode(AdmitNode { node, replaces: None }))
        }),
        1 => (node.clone(), any::<bool>()).prop_map(move |(node, leaving)| {
            let node = NodeId(node);
            placement(PlacementCommand::SetLeaving(SetLeaving { node, leaving }))
        }),
        1 => node.prop_map(move |node| {
            placement(PlacementCommand::ForgetNode(ForgetNode { node: NodeId(node) }))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// What was finalised is known to every member, and never goes back; what waits to be finalised can be.
    #[test]
    fn finalised_version_is_known_to_every_member(commands in prop::collection::vec(command(), 1..40)) {
        let mut topology = formed();
        for command in commands {
            let before = topology.clone();
            let reply = run(&mut topology, command);
            if let TopologyReply::Refused(_) = reply {
                let mut advanced = before.clone();
                advanced.advance(topology.index());
                prop_assert_eq!(&topology, &advanced, "a refusal changes nothing");
            }
            let finalised = topology.version();
            prop_assert!(finalised >= before.version());
            for node in topology.nodes() {
                prop_assert!(node.software.versions.knows(finalised), "{node:?} in {finalised}");
            }
            if let Some(next) = topology.version_to_finalise() {
                prop_assert!(next > finalised);
                let mut copy: Topology = topology.clone();
                prop_assert_eq!(run(&mut copy, finalise(next.0)), done(true));
                prop_assert_eq!(copy.version_to_finalise(), None);
            }
        }
    }
}
