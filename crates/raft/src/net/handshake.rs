//! Two nodes prove to each other, before the first HTTP/2 frame, that they know the cluster's secret and who they are.
//!
//! The caller sends its hello, the listener answers with its own and a proof, the caller proves itself, the listener
//! accepts. A proof is an HMAC-SHA-256 under the secret over the prover's role and both hellos; each hello has a fresh
//! nonce, so nothing that was recorded helps later, and neither side's proof can be sent back to it as the other's.
//! What follows is not encrypted by this. Not here: sockets (`connector`, `listener`).

use std::fmt;
use std::io;
use std::time::Duration;

use hmac::{Hmac, Mac};
use rand::RngCore;
use sha2::Sha256;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use warren_types::{Incarnation, NodeId};

use super::lanes::HANDSHAKE_WITHIN_MAX;

const MAGIC: &[u8; 8] = b"warren\x00\x01";
const NONCE_LEN: usize = 32;
const PROOF_LEN: usize = 32;
/// Magic, sender, meant for, incarnation, cluster name's hash, nonce.
const HELLO_LEN: usize = 8 + 8 + 8 + 16 + 32 + NONCE_LEN;
const ACCEPTED: u8 = 1;
const REFUSED: u8 = 2;
/// Followed by the incarnation that the caller's node is known under.
const KNOWN_OTHERWISE: u8 = 3;

/// What all nodes of a cluster know and nobody else. Never shown.
#[derive(Clone)]
pub struct ClusterSecret(std::sync::Arc<[u8]>);

impl ClusterSecret {
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(***)")
    }
}

/// Who is at the other end, as proven in the handshake. A request extension of every call between nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub cluster_name: String,
    pub secret: ClusterSecret,
}

/// Why two nodes do not talk.
#[derive(Debug, Error)]
pub enum HandshakeError {
    #[error("connection failed")]
    Io(#[from] io::Error),
    #[error("the other end does not speak this protocol or version")]
    Protocol,
    #[error("the other end belongs to another cluster")]
    OtherCluster,
    #[error("the other end does not know the cluster's secret")]
    WrongSecret,
    #[error("reached node {found}, wanted node {wanted}")]
    OtherNode { wanted: NodeId, found: NodeId },
    #[error("the call was meant for node {0}")]
    NotMeantForUs(NodeId),
    #[error("the other end refused")]
    Refused,
    /// The data directory of the calling node was replaced.
    #[error("the cluster knows node {node} as incarnation {known}, not as {called}")]
    KnownOtherwise {
        node: NodeId,
        known: Incarnation,
        called: Incarnation,
    },
    #[error("took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
}

struct Hello {
    bytes: [u8; HELLO_LEN],
}

impl Hello {
    fn new(from: &Introduction, to: NodeId) -> Self {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut bytes = Vec::with_capacity(HELLO_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&from.node.0.to_be_bytes());
        bytes.extend_from_slice(&to.0.to_be_bytes());
        bytes.extend_from_slice(&from.incarnation.0.to_be_bytes());
        bytes.extend_from_slice(&cluster_hash(&from.cluster_name));
        bytes.extend_from_slice(&nonce);
        Self {
            bytes: bytes.try_into().expect("the parts add up to HELLO_LEN"),
        }
    }

    async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Self, HandshakeError> {
        let mut bytes = [0; HELLO_LEN];
        io.read_exact(&mut bytes).await?;
        if !bytes.starts_with(MAGIC) {
            return Err(HandshakeError::Protocol);
        }
        Ok(Self { bytes })
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let slice = self
            .bytes
            .get(at..at + N)
            .expect("fields lie within HELLO_LEN");
        slice.try_into().expect("the slice has N bytes")
    }

    fn from(&self) -> NodeId {
        NodeId(u64::from_be_bytes(self.field(8)))
    }

    fn to(&self) -> NodeId {
        NodeId(u64::from_be_bytes(self.field(16)))
    }

    fn identity(&self) -> PeerIdentity {
        let incarnation = Incarnation(u128::from_be_bytes(self.field(24)));
        PeerIdentity {
            node: self.from(),
            incarnation,
        }
    }

    fn cluster(&self) -> [u8; 32] {
        self.field(40)
    }
}

fn cluster_hash(name: &str) -> [u8; 32] {
    use sha2::Digest;
    Sha256::digest(name.as_bytes()).into()
}

#[derive(Clone, Copy)]
enum Role {
    Caller,
    Listener,
}

/// The MAC over role and both hellos.
fn proof(secret: &ClusterSecret, role: Role, caller: &Hello, listener: &Hello) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes a key of any length");
    mac.update(match role {
        Role::Caller => b"warren caller  ",
        Role::Listener => b"warren listener",
    });
    mac.update(&caller.bytes);
    mac.update(&listener.bytes);
    mac
}

/// Calls: returns who answered, within this time.
pub(super) async fn call<S>(
    io: &mut S,
    us: &Introduction,
    wanted: NodeId,
    time: Duration,
) -> Result<PeerIdentity, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within(time, async {
        let ours = Hello::new(us, wanted);
        io.write_all(&ours.bytes).await?;
        let theirs = Hello::read(io).await?;
        let mut proven = [0; PROOF_LEN];
        io.read_exact(&mut proven).await?;
        if theirs.cluster() != cluster_hash(&us.cluster_name) {
            return Err(HandshakeError::OtherCluster);
        }
        // `verify_slice` compares in constant time.
        proof(&us.secret, Role::Listener, &ours, &theirs)
            .verify_slice(&proven)
            .map_err(|_| HandshakeError::WrongSecret)?;
        if theirs.from() != wanted {
            return Err(HandshakeError::OtherNode {
                wanted,
                found: theirs.from(),
            });
        }
        let tag = proof(&us.secret, Role::Caller, &ours, &theirs)
            .finalize()
            .into_bytes();
        io.write_all(&tag).await?;
        match io.read_u8().await? {
            ACCEPTED => Ok(theirs.identity()),
            KNOWN_OTHERWISE => Err(HandshakeError::KnownOtherwise {
                node: us.node,
                known: Incarnation(io.read_u128().await?),
                called: us.incarnation,
            }),
            _ => Err(HandshakeError::Refused),
        }
    })
    .await
}

/// Listens: returns who called. `known` gives the incarnation that alone may speak for a node, if one is known.
pub(super) async fn listen<S>(
    io: &mut S,
    us: &Introduction,
    known: impl Fn(NodeId) -> Option<Incarnation>,
) -> Result<PeerIdentity, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within(HANDSHAKE_WITHIN_MAX, async {
        let theirs = Hello::read(io).await?;
        if theirs.cluster() != cluster_hash(&us.cluster_name) {
            return Err(HandshakeError::OtherCluster);
        }
        if theirs.to() != us.node {
            return Err(HandshakeError::NotMeantForUs(theirs.to()));
        }
        let ours = Hello::new(us, theirs.from());
        let tag = proof(&us.secret, Role::Listener, &theirs, &ours)
            .finalize()
            .into_bytes();
        io.write_all(&ours.bytes).await?;
        io.write_all(&tag).await?;
        let mut proven = [0; PROOF_LEN];
        io.read_exact(&mut proven).await?;
        if proof(&us.secret, Role::Caller, &theirs, &ours)
            .verify_slice(&proven)
            .is_err()
        {
            io.write_u8(REFUSED).await?;
            return Err(HandshakeError::WrongSecret);
        }
        let PeerIdentity { node, incarnation } = theirs.identity();
        if let Some(known) = known(node).filter(|known| *known != incarnation) {
            let mut answer = vec![KNOWN_OTHERWISE];
            answer.extend_from_slice(&known.0.to_be_bytes());
            io.write_all(&answer).await?;
            return Err(HandshakeError::KnownOtherwise {
                node,
                known,
                called: incarnation,
            });
        }
        io.write_u8(ACCEPTED).await?;
        Ok(theirs.identity())
    })
    .await
}

async fn within<T>(
    time: Duration,
    steps: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(time, steps)
        .await
        .unwrap_or(Err(HandshakeError::TimedOut(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64, cluster: &str, secret: &str) -> Introduction {
        Introduction {
            node: NodeId(number),
            incarnation: Incarnation(u128::from(number) << 64),
            cluster_name: cluster.into(),
            secret: ClusterSecret::new(secret.as_bytes()),
        }
    }

    async fn meet(
        caller: Introduction,
        wanted: u64,
        listener: Introduction,
    ) -> (
        Result<PeerIdentity, HandshakeError>,
        Result<PeerIdentity, HandshakeError>,
    ) {
        let (mut a, mut b) = tokio::io::duplex(4096);
        let called =
            async move { call(&mut a, &caller, NodeId(wanted), HANDSHAKE_WITHIN_MAX).await };
        let heard = async move { listen(&mut b, &listener, |_| None).await };
        tokio::join!(called, heard)
    }

    #[tokio::test]
    async fn handshake_same_secret_proves_both() {
        let (called, heard) = meet(node(1, "c", "s"), 2, node(2, "c", "s")).await;
        assert_eq!(called.unwrap().node, NodeId(2));
        assert_eq!(
            heard.unwrap(),
            PeerIdentity {
                node: NodeId(1),
                incarnation: Incarnation(1 << 64)
            }
        );
    }

    #[tokio::test]
    async fn handshake_wrong_secret_is_refused_by_both() {
        let (called, heard) = meet(node(1, "c", "s"), 2, node(2, "c", "other")).await;
        assert!(matches!(called, Err(HandshakeError::WrongSecret)));
        assert!(heard.is_err());
    }

    #[tokio::test]
    async fn handshake_other_cluster_is_refused() {
        let (called, heard) = meet(node(1, "c", "s"), 2, node(2, "d", "s")).await;
        assert!(called.is_err());
        assert!(matches!(heard, Err(HandshakeError::OtherCluster)));
    }

    #[tokio::test]
    async fn handshake_other_node_is_refused() {
        let (called, heard) = meet(node(1, "c", "s"), 3, node(2, "c", "s")).await;
        assert!(called.is_err());
        assert!(matches!(
            heard,
            Err(HandshakeError::NotMeantForUs(NodeId(3)))
        ));
    }

    #[tokio::test]
    async fn handshake_replaced_directory_is_told_what_the_cluster_knows() {
        let (mut a, mut b) = tokio::io::duplex(4096);
        let (caller, listener) = (node(1, "c", "s"), node(2, "c", "s"));
        let known = Incarnation(77);
        let called = async move { call(&mut a, &caller, NodeId(2), HANDSHAKE_WITHIN_MAX).await };
        let heard = async move { listen(&mut b, &listener, |_| Some(known)).await };
        let (called, heard) = tokio::join!(called, heard);
        assert!(
            matches!(called, Err(HandshakeError::KnownOtherwise { node: NodeId(1), known: it, .. }) if it == known)
        );
        assert!(matches!(heard, Err(HandshakeError::KnownOtherwise { .. })));
    }

    #[tokio::test]
    async fn handshake_that_is_not_answered_ends_in_its_time() {
        let (mut a, _silent) = tokio::io::duplex(4096);
        let within = Duration::from_millis(20);
        let called = call(&mut a, &node(1, "c", "s"), NodeId(2), within).await;
        assert!(matches!(called, Err(HandshakeError::TimedOut(it)) if it == within));
    }

    #[tokio::test]
    async fn handshake_replayed_caller_is_refused() {
        // Record what an honest caller sends...
        let (mut a, mut wire) = tokio::io::duplex(4096);
        let (mut relay, mut b) = tokio::io::duplex(4096);
        let caller = node(1, "c", "s");
        let honest = async move { call(&mut a, &caller, NodeId(2), HANDSHAKE_WITHIN_MAX).await };
        let listener = node(2, "c", "s");
        let listening = {
            let listener = listener.clone();
            async move { listen(&mut b, &listener, |_| None).await }
        };
        let record = async move {
            let mut hello = [0; HELLO_LEN];
            wire.read_exact(&mut hello).await.unwrap();
            relay.write_all(&hello).await.unwrap();
            let mut answer = [0; HELLO_LEN + PROOF_LEN];
            relay.read_exact(&mut answer).await.unwrap();
            wire.write_all(&answer).await.unwrap();
            let mut proven = [0; PROOF_LEN];
            wire.read_exact(&mut proven).await.unwrap();
            relay.write_all(&proven).await.unwrap();
            wire.write_u8(relay.read_u8().await.unwrap()).await.unwrap();
            (hello, proven)
        };
        let (called, heard, (hello, proven)) = tokio::join!(honest, listening, record);
        assert!(called.is_ok() && heard.is_ok());

        // ...and say it again.
        let (mut thief, mut b) = tokio::io::duplex(4096);
        let listening = async move { listen(&mut b, &listener, |_| None).await };
        let replay = async move {
            thief.write_all(&hello).await.unwrap();
            let mut answer = [0; HELLO_LEN + PROOF_LEN];
            thief.read_exact(&mut answer).await.unwrap();
            thief.write_all(&proven).await.unwrap();
            thief.read_u8().await.unwrap()
        };
        let (heard, verdict) = tokio::join!(listening, replay);
        assert!(matches!(heard, Err(HandshakeError::WrongSecret)));
        assert_eq!(verdict, REFUSED);
    }
}
