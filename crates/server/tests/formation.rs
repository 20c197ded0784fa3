//! Nodes meet and form a cluster once, and only then. Not here: configuration, clients.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::fs;

use common::{Home, stop, within};
use tokio_util::sync::CancellationToken;
use warren_raft::{ClusterSecret, HandshakeError, Lane, PeerOptions, Peers};
use warren_server::{FormationError, ListenError, Node, StartError};
use warren_storage::DataDirError;
use warren_types::{Incarnation, NodeId};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_started_in_any_order_form_one_cluster_and_come_back_to_it() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let home = Home::new(3);
        let nodes = home.start(&order).await;
        let cluster = nodes[0].cluster();
        for node in &nodes {
            assert_eq!(node.cluster(), cluster);
            let topology = node.broker().topology().current();
            assert_eq!(topology.cluster().unwrap().id, cluster);
            assert_eq!((topology.nodes().len(), topology.shards().count()), (3, 16));
        }
        stop(nodes).await;

        // The ports of gRPC differ now: the topology is told.
        let nodes = home.start(&order).await;
        for node in &nodes {
            assert_eq!(node.cluster(), cluster);
            let id = node.broker().node();
            let own = node.addresses();
            let mut view = nodes[0].broker().topology().watch();
            within(view.wait_for(|topology| topology.node(id).unwrap().addresses == *own))
                .await
                .unwrap();
        }
        stop(nodes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_alone_forms_at_once() {
    let home = Home::new(1);
    let nodes = home.start(&[1]).await;
    assert_eq!(nodes[0].broker().topology().current().nodes().len(), 1);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wiped_node_gets_new_replicas_and_its_old_directory_is_refused() {
    let home = Home::new(3);
    let mut nodes = home.start(&[1, 2, 3]).await;
    let cluster = nodes[0].cluster();
    let replicas = |node: &Node| -> Vec<u64> {
        let topology = node.broker().topology().current();
        let own = topology.placements().filter_map(|it| it.on(NodeId(3)));
        own.map(|it| it.replica.0).collect()
    };
    let before = replicas(&nodes[0]);
    assert_eq!(before.len(), 17);
    within(nodes.remove(2).shutdown()).await;
    let aside = home.root.path().join("aside");
    fs::rename(home.data_dir(3), &aside).unwrap();

    nodes.extend(home.start(&[3]).await);
    assert_eq!(nodes[2].cluster(), cluster);
    let highest = before.iter().max().unwrap();
    let after = replicas(&nodes[0]);
    assert_eq!(after.len(), 17);
    assert!(after.iter().all(|it| it > highest), "{before:?} {after:?}");
    let mut view = nodes[0].broker().topology().watch();
    within(view.wait_for(|it| it.placements().all(|it| it.settled)))
        .await
        .unwrap();

    within(nodes.remove(2).shutdown()).await;
    fs::remove_dir_all(home.data_dir(3)).unwrap();
    fs::rename(&aside, home.data_dir(3)).unwrap();
    let refused = within(home.begin(3)).await.unwrap().err().unwrap();
    assert!(
        matches!(
            refused,
            StartError::Formation(FormationError::Outnumbered { .. })
        ),
        "{refused}"
    );
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_the_cluster_was_formed_without_joins_it() {
    let home = Home::with_more(3, 1);
    let mut nodes = home.start(&[1, 2, 3]).await;
    let cluster = nodes[0].cluster();
    nodes.extend(home.start(&[4]).await);
    assert_eq!(nodes[3].cluster(), cluster);
    for node in &nodes {
        let mut view = node.broker().topology().watch();
        within(view.wait_for(|it| it.nodes().len() == 4))
            .await
            .unwrap();
    }
    let mut view = nodes[0].broker().topology().watch();
    let even = |it: &std::sync::Arc<warren_topology::Topology>| {
        let shards = it.placements().filter(|it| it.group.0 > 0);
        let on_new = shards.filter(|it| it.on(NodeId(4)).is_some()).count();
        on_new == 12 && it.placements().all(|it| it.settled)
    };
    within(view.wait_for(even)).await.unwrap();
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_of_another_cluster_ends_the_node_that_has_it() {
    let (home, other) = (Home::new(3), Home::new(3));
    stop(other.start(&[1, 2, 3]).await).await;
    let mut nodes = home.start(&[1, 2, 3]).await;
    within(nodes.remove(2).shutdown()).await;
    fs::remove_dir_all(home.data_dir(3)).unwrap();
    fs::rename(other.data_dir(3), home.data_dir(3)).unwrap();

    let refused = within(home.begin(3)).await.unwrap().err().unwrap();
    assert!(
        refused.to_string().contains("directory of another cluster"),
        "{refused}"
    );
    let StartError::Formation(FormationError::Outnumbered { others, .. }) = &refused else {
        panic!("{refused}")
    };
    assert_eq!(others, "1, 2");
    for node in &nodes {
        within(node.ready()).await;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_without_the_secret_is_not_heard() {
    let home = Home::new(1);
    let nodes = home.start(&[1]).await;
    let peers = Peers::new(PeerOptions {
        node: NodeId(2),
        incarnation: Incarnation(5),
        cluster_name: "test".into(),
        secret: ClusterSecret::new(b"another secret, long enough"),
        addresses: vec![(NodeId(1), home.node_address(1))],
        connect_within: std::time::Duration::from_secs(5),
    });
    let channel = peers.channel(NodeId(1), Lane::Control).unwrap();
    let mut client =
        warren_proto::internal_v1::node_service_client::NodeServiceClient::new(channel);
    let status = within(client.hello(warren_proto::internal_v1::HelloRequest::default()))
        .await
        .unwrap_err();
    let mut source = std::error::Error::source(&status);
    while let Some(error) = source {
        if let Some(HandshakeError::WrongSecret) = error.downcast_ref() {
            return stop(nodes).await;
        }
        source = error.source();
    }
    panic!("{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_in_use_or_of_another_node_is_refused() {
    let home = Home::new(1);
    let nodes = home.start(&[1]).await;
    let refused = home.begin(1).await.unwrap().err().unwrap();
    assert!(
        matches!(refused, StartError::DataDir(DataDirError::InUse { .. })),
        "{refused}"
    );
    stop(nodes).await;

    let other = Home::new(2);
    fs::rename(home.data_dir(1), other.data_dir(2)).unwrap();
    let refused = other.begin(2).await.unwrap().err().unwrap();
    assert!(
        matches!(
            refused,
            StartError::DataDir(DataDirError::OtherNode {
                found: NodeId(1),
                ..
            })
        ),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn port_in_use_is_named_with_its_setting() {
    let home = Home::new(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in [
        "listen.grpc",
        "listen.amqp",
        "listen.node",
        "listen.http",
        "listen.metrics",
    ] {
        let config = home.config_with(1, &[(setting, &address)]);
        let refused = Box::pin(Node::start(config, CancellationToken::new()))
            .await
            .err()
            .unwrap();
        assert!(
            matches!(refused, StartError::Listen(ListenError::InUse { .. })),
            "{refused}"
        );
        assert_eq!(
            refused.to_string(),
            format!("{setting}: {address} is in use by another process")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_that_lost_its_log_or_state_or_record_is_refused() {
    let home = Home::new(1);
    stop(home.start(&[1]).await).await;
    let aside = home.root.path().join("aside");
    for (part, says) in [
        ("log", "missing or empty"),
        ("state", "missing or empty"),
        ("FORMATION", "restore the directory"),
    ] {
        let path = home.data_dir(1).join(part);
        fs::rename(&path, &aside).unwrap();
        let refused = home.begin(1).await.unwrap().err().unwrap();
        assert!(
            refused.to_string().contains(says) && refused.to_string().contains(part),
            "{refused}"
        );
        fs::rename(&aside, &path).unwrap();
    }
    let record = home.data_dir(1).join("FORMATION");
    let mut bytes = fs::read(&record).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&record, &bytes).unwrap();
    let refused = home.begin(1).await.unwrap().err().unwrap();
    assert!(
        refused
            .to_string()
            .contains("FORMATION is damaged: its checksum does not match"),
        "{refused}"
    );
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&record, &bytes).unwrap();
    stop(home.start(&[1]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_that_waits_for_others_is_ended_by_its_token() {
    let home = Home::new(3);
    let stop = CancellationToken::new();
    let starting = tokio::spawn(Box::pin(Node::start(home.config(1), stop.clone())));
    // It cannot form a cluster: the others are not there.
    within(async {
        while tokio::net::TcpStream::connect(home.node_address(1))
            .await
            .is_err()
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    stop.cancel();
    let ended = within(starting).await.unwrap().err().unwrap();
    assert!(ended.is_stopped(), "{ended}");
    // Directory and port are free again.
    let stop = CancellationToken::new();
    stop.cancel();
    let ended = within(Box::pin(Node::start(home.config(1), stop)))
        .await
        .err()
        .unwrap();
    assert!(ended.is_stopped(), "{ended}");
}
