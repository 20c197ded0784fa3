//! The nodes a program knows, and how one of them is chosen: the preferred one until it fails, then the next. Channels
//! connect when they are first used and again by themselves. Not here: streams (`publisher`, `consumer`), which calls exist
//! (`admin`).

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use warren_proto::v1::messaging_service_client::MessagingServiceClient;

use crate::{
    address::{AddressError, ServerAddress},
    backoff::Backoff,
    error::{Error, Refusal},
};

const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// The largest message any server can be told to take (128 MiB), and room for what is around it.
pub(crate) const DECODE_BYTES_MAX: usize = (128 << 20) + (64 << 10);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Who a client is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Without a colon.
    pub user: String,
    pub password: String,
}

/// Never with the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, ***)", self.user)
    }
}

impl Credentials {
    /// `authorization` as RFC 7617 has it.
    fn basic(&self) -> MetadataValue<Ascii> {
        let pair = format!("{}:{}", self.user, self.password);
        let text = format!("Basic {}", STANDARD.encode(pair));
        let mut value: MetadataValue<Ascii> = text.parse().expect("base64 is a header's value");
        value.set_sensitive(true);
        value
    }
}

/// Settings of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// `None`: the server decides whether it serves somebody without a name.
    pub credentials: Option<Credentials>,
    /// Name of this program, for listings.
    pub client_id: String,
    /// Longest time one attempt to connect may take.
    pub connect_timeout: Duration,
    /// Longest time a call may take, over all attempts; also to open a stream for the first time.
    pub request_timeout: Duration,
    /// How often the connection is probed; servers accept 10 s and more.
    pub keepalive_interval: Duration,
    /// How long the answer to a probe may take.
    pub keepalive_timeout: Duration,
    /// Whether consumers go to the node that leads their queue, when it is one of the known addresses.
    pub follow_leader_hints: bool,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            client_id: format!("warren-client-{}", std::process::id()),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            follow_leader_hints: false,
        }
    }
}

/// A cluster as a client sees it: several addresses, any of which will do. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    nodes: Vec<Node>,
    preferred: AtomicUsize,
    options: ConnectionOptions,
    /// Owns the tasks of publishers and consumers.
    tasks: TaskTracker,
}

/// One address with its channel.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: ServerAddress,
    pub(crate) channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Node {
    /// A call or stream of this connection's user.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        authorized(message, self.authorization.as_ref())
    }

    pub(crate) fn messaging(&self) -> MessagingServiceClient<Channel> {
        MessagingServiceClient::new(self.channel.clone())
            .max_decoding_message_size(DECODE_BYTES_MAX)
            .max_encoding_message_size(DECODE_BYTES_MAX)
    }
}

impl Connection {
    /// Prepares a connection; nothing is sent before it is used. Needs a tokio runtime.
    ///
    /// # Errors
    /// Without an address, or with one that is no address.
    pub fn new(addresses: &[ServerAddress], options: ConnectionOptions) -> Result<Self, Error> {
        let nodes = addresses
            .iter()
            .map(|address| node(address, &options))
            .collect::<Result<Vec<_>, Error>>()?;
        if nodes.is_empty() {
            return Err(Error::NoAddress);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                nodes,
                preferred: AtomicUsize::new(0),
                options,
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// The settings it was made with.
    #[must_use]
    pub fn options(&self) -> &ConnectionOptions {
        &self.inner.options
    }

    /// The addresses, in the order given.
    pub fn addresses(&self) -> impl Iterator<Item = &ServerAddress> {
        self.inner.nodes.iter().map(|it| &it.address)
    }

    /// Waits until every publisher and consumer of this connection has ended.
    pub async fn closed(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        let nodes = &self.inner.nodes;
        nodes
            .get(index % nodes.len())
            .expect("there is at least one node, and the index is taken modulo their number")
    }

    pub(crate) fn index_of(&self, endpoint: &str) -> Option<usize> {
        let address: ServerAddress = endpoint.parse().ok()?;
        self.addresses().position(|it| *it == address)
    }

    /// Attempts from the preferred node on.
    pub(crate) fn rotation(&self) -> Rotation {
        Rotation {
            index: self.inner.preferred.load(Ordering::Relaxed),
            failures: 0,
            nodes: self.inner.nodes.len(),
            backoff: Backoff::new(),
        }
    }

    /// This node answered well: others start with it too.
    pub(crate) fn prefer(&self, index: usize) {
        self.inner.preferred.store(index, Ordering::Relaxed);
    }

    /// All addresses, for error texts.
    pub(crate) fn addresses_text(&self) -> String {
        let list: Vec<String> = self.addresses().map(ToString::to_string).collect();
        list.join(", ")
    }

    /// What a failed call or stream means.
    pub(crate) fn error_of(&self, status: &tonic::Status) -> Error {
        use std::error::Error as _;
        let refusal = Refusal::from_call(status);
        let from_transport = status.source().is_some() && refusal.is_transient();
        if !from_transport {
            return Error::Refused(refusal);
        }
        let mut cause: &dyn std::error::Error = status;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Error::Unreachable {
            addresses: self.addresses_text(),
            cause: cause.to_string(),
        }
    }

    /// Makes a call that may be repeated, on one node after the other, until one answers for good or the time is over.
    pub(crate) async fn call<T, F, R>(&self, operation: &'static str, call: F) -> Result<T, Error>
    where
        F: Fn(Attempt) -> R,
        R: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.call_within(operation, self.inner.options.request_timeout, call)
            .await
    }

    /// Gets every page of a list: `call` asks for the one of a token, `take` uses it up and gives the token of the next, which is
    /// empty at the end. Each page has the time of a call.
    pub(crate) async fn pages<T, F, R>(
        &self,
        operation: &'static str,
        call: F,
        mut take: impl FnMut(T) -> Result<String, Error>,
    ) -> Result<(), Error>
    where
        F: Fn(Attempt, String) -> R,
        R: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut token = String::new();
        loop {
            let ask = |attempt| call(attempt, token.clone());
            let page = self.call(operation, ask).await?;
            token = take(page)?;
            if token.is_empty() {
                return Ok(());
            }
        }
    }

    /// As [`Self::call`], with a time of its own.
    pub(crate) async fn call_within<T, F, R>(
        &self,
        operation: &'static str,
        within: Duration,
        call: F,
    ) -> Result<T, Error>
    where
        F: Fn(Attempt) -> R,
        R: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let started = Instant::now();
        let deadline = started + within;
        let mut rotation = self.rotation();
        // A node that is frozen takes the connection and says nothing: leave time for the next one.
        let attempt_max = if self.inner.nodes.len() == 1 {
            within
        } else {
            within.div_f64(2.5)
        };
        let mut last = Error::Timeout {
            operation,
            waited_ms: millis(within),
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(last);
            }
            let time = left.min(attempt_max);
            let node = self.node(rotation.index);
            let attempt = Attempt {
                channel: node.channel.clone(),
                authorization: node.authorization.clone(),
                time,
            };
            last = match timeout(time, call(attempt)).await {
                Ok(Ok(response)) => {
                    self.prefer(rotation.index % self.inner.nodes.len());
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => self.error_of(&status),
                Err(_) => Error::Timeout {
                    operation,
                    waited_ms: millis(started.elapsed()),
                },
            };
            if !last.is_transient() {
                return Err(last);
            }
            let wait = rotation.failed(last.retry_after());
            if Instant::now() + wait >= deadline {
                return Err(last);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// One attempt of a call.
pub(crate) struct Attempt {
    pub(crate) channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    /// How long it may take.
    pub(crate) time: Duration,
}

impl Attempt {
    /// The request with its deadline.
    pub(crate) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = authorized(message, self.authorization.as_ref());
        request.set_timeout(self.time);
        request
    }

    /// The request without one: what is opened goes on.
    pub(crate) fn stream_request<T>(&self, message: T) -> tonic::Request<T> {
        authorized(message, self.authorization.as_ref())
    }

    pub(crate) fn messaging(&self) -> MessagingServiceClient<Channel> {
        MessagingServiceClient::new(self.channel.clone())
            .max_decoding_message_size(DECODE_BYTES_MAX)
            .max_encoding_message_size(DECODE_BYTES_MAX)
    }
}

/// Which node is next, and after what wait.
#[derive(Debug)]
pub(crate) struct Rotation {
    index: usize,
    failures: usize,
    nodes: usize,
    backoff: Backoff,
}

impl Rotation {
    pub(crate) fn index(&self) -> usize {
        self.index % self.nodes
    }

    pub(crate) fn worked(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    pub(crate) fn go_to(&mut self, index: usize) {
        self.index = index;
    }

    /// Turns to the next node. Waits only after all of them have failed, one after the other.
    pub(crate) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        self.index = (self.index + 1) % self.nodes;
        self.failures += 1;
        if self.failures.is_multiple_of(self.nodes) {
            self.backoff.after_failure(asked)
        } else {
            Duration::ZERO
        }
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn authorized<T>(message: T, who: Option<&MetadataValue<Ascii>>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(who) = who {
        request.metadata_mut().insert("authorization", who.clone());
    }
    request
}

fn node(address: &ServerAddress, options: &ConnectionOptions) -> Result<Node, Error> {
    let endpoint = Endpoint::from_shared(address.uri())
        .map_err(|_| AddressError::BadHost {
            text: address.to_string(),
        })?
        .connect_timeout(options.connect_timeout)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(false)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .tcp_nodelay(true);
    Ok(Node {
        address: address.clone(),
        authorization: options.credentials.as_ref().map(Credentials::basic),
        channel: endpoint.connect_lazy(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(nodes: usize) -> Rotation {
        Rotation {
            index: 0,
            failures: 0,
            nodes,
            backoff: Backoff::new(),
        }
    }

    #[test]
    fn rotation_tries_every_node_before_it_waits() {
        let mut it = rotation(3);
        assert_eq!(it.failed(None), Duration::ZERO);
        assert_eq!(it.failed(None), Duration::ZERO);
        assert!(it.failed(None) > Duration::ZERO);
        assert_eq!(it.index(), 0);
    }

    #[test]
    fn rotation_with_one_node_waits_each_time() {
        assert!(rotation(1).failed(None) > Duration::ZERO);
    }

    #[tokio::test]
    async fn connection_without_addresses_is_refused() {
        let error = Connection::new(&[], ConnectionOptions::default()).unwrap_err();
        assert_eq!(error, Error::NoAddress);
    }
}
