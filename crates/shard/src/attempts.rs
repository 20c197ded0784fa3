//! Calls of `Receive` that clients repeat on another node than the first one: asking the others for the answer, and being asked. Not here: the
//! calls and what they hold (`gateway`), which stays where it is: receipts are good on every node.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use parking_lot::RwLock;
use tokio::time::timeout;
use tracing::debug;
use warren_proto::internal_v1 as wire;
use warren_proto::internal_v1::forward_service_client::ForwardServiceClient;
use warren_raft::{Lane, Peers};
use warren_types::NodeId;

/// A node that was not heard within this time is not asked.
const LIVE_WITHIN: Duration = Duration::from_millis(300);
/// How long a node has to say whether it knows an attempt; one that is silent is taken not to.
const WITHIN: Duration = Duration::from_millis(300);
/// An answer holds messages: as many bytes as a frame of them, or one large message.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Answers for this node.
pub type AttemptKeeper = Arc<
    dyn Fn(wire::FindAttemptRequest) -> BoxFuture<'static, wire::FindAttemptResponse> + Send + Sync,
>;

/// Who is asked for attempts of this node. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct AttemptDoor {
    keeper: Arc<RwLock<Option<AttemptKeeper>>>,
}

impl AttemptDoor {
    pub(crate) fn open(&self, keeper: AttemptKeeper) {
        *self.keeper.write() = Some(keeper);
    }

    /// Answers another node; before this one has clients it knows no attempts.
    pub(crate) async fn answer(
        &self,
        request: wire::FindAttemptRequest,
    ) -> wire::FindAttemptResponse {
        let keeper = self.keeper.read().clone();
        match keeper {
            Some(keeper) => keeper(request).await,
            None => wire::FindAttemptResponse::default(),
        }
    }
}

/// Asks all other live nodes. The answer of the one that knows the attempt, which has so long for it; `None`: none knows it.
pub(crate) async fn ask(
    peers: &Peers,
    request: wire::FindAttemptRequest,
    wait: Duration,
) -> Option<wire::FindAttemptResponse> {
    match ask_once(peers, request.clone(), wait).await? {
        Found::Answered(answer) => Some(answer),
        // Whoever had it has passed it on meanwhile, or is silent.
        Found::Lost(known) => match ask_once(peers, request, wait).await {
            Some(Found::Answered(answer)) => Some(answer),
            Some(Found::Lost(_)) | None => Some(known),
        },
    }
}

enum Found {
    Answered(wire::FindAttemptResponse),
    /// It was known a moment ago, without an answer.
    Lost(wire::FindAttemptResponse),
}

async fn ask_once(
    peers: &Peers,
    mut request: wire::FindAttemptRequest,
    wait: Duration,
) -> Option<Found> {
    let nodes = peers.live(LIVE_WITHIN);
    let asked = nodes.iter().map(|&node| {
        let request = request.clone();
        async move { (node, ask_one(peers, node, request, WITHIN).await) }
    });
    let answers = join_all(asked).await.into_iter();
    let told = answers.filter_map(|(node, answer)| Some((node, answer.filter(|it| it.found)?)));
    // One that has an answer, else the lowest: others give way to it.
    let is_open = |it: &wire::FindAttemptResponse| it.answer.is_none() && it.error.is_none();
    let (node, answer) = told.min_by_key(|(node, answer)| (is_open(answer), *node))?;
    if !is_open(&answer) {
        return Some(Found::Answered(answer));
    }
    request.wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let waited = ask_one(peers, node, request, wait + WITHIN).await;
    match waited.filter(|it| it.found) {
        Some(answered) => Some(Found::Answered(answered)),
        None => Some(Found::Lost(answer)),
    }
}

async fn ask_one(
    peers: &Peers,
    node: NodeId,
    request: wire::FindAttemptRequest,
    within: Duration,
) -> Option<wire::FindAttemptResponse> {
    let channel = peers.channel(node, Lane::Forward)?;
    let mut client = ForwardServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    match timeout(within, client.find_attempt(request)).await {
        Ok(Ok(answer)) => Some(answer.into_inner()),
        Ok(Err(status)) => {
            debug!(node_id = %node, error = %status, "attempt not looked for");
            None
        }
        Err(_) => {
            debug!(node_id = %node, "attempt not found in time");
            None
        }
    }
}
