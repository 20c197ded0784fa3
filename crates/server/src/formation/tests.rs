//! A cluster that was being formed when nodes ended. Not here: what `tests/formation.rs` can see from outside.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use warren_storage::DataDir;
use warren_topology::{Addresses, FormCluster};
use warren_types::{ClusterId, ClusterVersion, Member, NodeId, ReplicaId};

use super::{Adopted, Formation, FormationError, Record, renew};
use crate::Node;
use crate::config::{Config, Inputs};
use crate::identity::Identity;
use crate::storage::Storage;

fn config(root: &Path, node: u64, ports: &[u16]) -> Config {
    let peers: Vec<String> = ports
        .iter()
        .zip(1..)
        .map(|(port, id)| format!("{id}=127.0.0.1:{port}"))
        .collect();
    let listen = peers[usize::try_from(node).unwrap() - 1]
        .split_once('=')
        .unwrap()
        .1
        .to_owned();
    let flags = [
        ("node.id", node.to_string()),
        (
            "node.data_dir",
            root.join(node.to_string()).display().to_string(),
        ),
        ("cluster.peers", peers.join(",")),
        ("listen.node", listen),
        ("listen.grpc", "127.0.0.1:0".to_owned()),
        ("listen.amqp", String::new()),
        ("listen.http", String::new()),
        ("listen.metrics", String::new()),
    ];
    let flags = flags.map(|(name, value)| (name.to_owned(), value)).to_vec();
    Config::load(&Inputs {
        flags,
        ..Inputs::default()
    })
    .unwrap()
    .config
}

fn record_of(config: &Config, nodes: &[Identity]) -> Record {
    let members = nodes.iter().zip(1..).map(|(it, number)| Member {
        replica: ReplicaId(number),
        node: it.node,
    });
    Record {
        former: NodeId(1),
        cluster: FormCluster {
            cluster: ClusterId(0xc1),
            name: config.cluster.name.as_str().into(),
            version: ClusterVersion::FIRST,
            nodes: nodes.iter().map(Identity::as_node).collect(),
            topology_members: members.collect(),
            shards: 2,
            replication_factor: 3,
        },
    }
}

/// Node 1 has written the record and ended before it told anyone.
#[tokio::test(flavor = "multi_thread")]
async fn formation_cut_off_after_the_record_goes_on_with_the_same_cluster() {
    let root = tempfile::tempdir().unwrap();
    let held: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports: Vec<u16> = held
        .iter()
        .map(|it| it.local_addr().unwrap().port())
        .collect();
    drop(held);
    let configs: Vec<Config> = (1..=3)
        .map(|node| config(root.path(), node, &ports))
        .collect();
    let dirs: Vec<Arc<DataDir>> = configs
        .iter()
        .map(|config| Arc::new(DataDir::open(&config.node.data_dir, config.node.id).unwrap()))
        .collect();
    let identity = |config: &Config, dir: &Arc<DataDir>| {
        let node = config.listen.node.to_string().into();
        Identity::new(
            config,
            dir,
            Addresses {
                node,
                ..Addresses::default()
            },
        )
    };
    let identities: Vec<Identity> = configs
        .iter()
        .zip(&dirs)
        .map(|(config, dir)| identity(config, dir))
        .collect();
    let record = record_of(&configs[0], &identities);
    Storage::open(&dirs[0], &configs[0].storage)
        .unwrap()
        .close();
    let formation = Formation::open(&dirs[0], Arc::new(identities[0].clone())).unwrap();
    assert_eq!(formation.adopt(record.clone()).unwrap(), Adopted::Joined);
    drop(dirs);

    let starting = configs.into_iter().map(|config| {
        tokio::spawn(async move {
            Box::pin(Node::start(config, CancellationToken::new()))
                .await
                .unwrap()
        })
    });
    let started = futures::future::join_all(starting).await;
    let nodes: Vec<Node> = started.into_iter().map(Result::unwrap).collect();
    for node in &nodes {
        node.ready().await;
        assert_eq!(node.cluster(), record.cluster.cluster);
        assert_eq!(node.broker().topology().current().shards().count(), 2);
    }
    for node in nodes {
        node.shutdown().await;
    }
}

#[test]
fn record_is_taken_once_and_only_if_it_names_this_directory() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), 1, &[1, 2, 3]);
    let dir = Arc::new(DataDir::open(&config.node.data_dir, NodeId(1)).unwrap());
    let us = Identity::new(&config, &dir, Addresses::default());
    let record = record_of(&config, std::slice::from_ref(&us));
    let open = || Formation::open(&dir, Arc::new(us.clone())).unwrap();

    let mut stranger = record.clone();
    stranger.cluster.nodes[0].incarnation.0 ^= 1;
    assert!(matches!(
        open().adopt(stranger),
        Err(FormationError::Damaged { .. })
    ));
    let mut renamed = record.clone();
    renamed.cluster.name = "other".into();
    assert!(matches!(
        open().adopt(renamed),
        Err(FormationError::OtherName { .. })
    ));
    let mut later = record.clone();
    later.cluster.version = ClusterVersion(9);
    let refused = open().adopt(later.clone()).err().unwrap();
    assert!(refused.cannot_start_so(), "{refused}");
    let says = "has finalised version 9, and this software knows version";
    assert!(refused.to_string().contains(says), "{refused}");
    assert_eq!(open().record(), None);

    let formation = open();
    assert_eq!(formation.adopt(record.clone()).unwrap(), Adopted::Joined);
    assert_eq!(formation.adopt(record.clone()).unwrap(), Adopted::Already);
    let mut other = record.clone();
    other.cluster.cluster = ClusterId(0xc2);
    assert_eq!(
        formation.adopt(other).unwrap(),
        Adopted::OtherCluster(record.cluster.cluster)
    );
    assert_eq!(formation.members(), BTreeSet::from([NodeId(1)]));
    // Nothing of log and state is there: a start is refused.
    let refused = Formation::open(&dir, Arc::new(us.clone())).err().unwrap();
    assert!(
        matches!(refused, FormationError::StorageMissing { .. }),
        "{refused}"
    );
    // A version that this software does not know is the first thing that is found.
    later.write(&dir).unwrap();
    let refused = Formation::open(&dir, Arc::new(us.clone())).err().unwrap();
    assert!(
        matches!(refused, FormationError::Version { .. }),
        "{refused}"
    );
}

#[test]
fn version_that_is_kept_never_goes_back() {
    let root = tempfile::tempdir().unwrap();
    let config = config(root.path(), 1, &[1, 2, 3]);
    let dir = Arc::new(DataDir::open(&config.node.data_dir, NodeId(1)).unwrap());
    let us = Identity::new(&config, &dir, Addresses::default());
    let of_the_past = record_of(&config, std::slice::from_ref(&us));
    let mut kept = of_the_past.clone();
    kept.cluster.version = ClusterVersion(2);
    assert_eq!(renew::changed(&kept, of_the_past.clone(), &us), None);
    assert_eq!(
        renew::changed(&of_the_past, kept.clone(), &us),
        Some(kept.clone())
    );
    // Other members are a reason to write; an older version is not a reason to forget the later one.
    let mut more = of_the_past;
    let mut second = us.as_node();
    second.id = NodeId(2);
    more.cluster.nodes.push(second);
    let written = renew::changed(&kept, more.clone(), &us).unwrap();
    assert_eq!(written.cluster.version, ClusterVersion(2));
    assert_eq!(written.cluster.nodes, more.cluster.nodes);
}
