//! A messaging service whose streams the test itself answers, frame by frame, and whose calls it answers from a list.
//! Not here: any behaviour of a broker.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use warren_client::{Connection, ConnectionOptions, ServerAddress};
use warren_proto::v1::{
    self,
    messaging_service_server::{MessagingService, MessagingServiceServer},
};

const PATIENCE: Duration = Duration::from_secs(20);

type Answer<T> = Result<Response<T>, Status>;

/// One end of a stream, in the hands of the test. Dropping it breaks the stream.
pub struct Session<Q, A> {
    requests: Streaming<Q>,
    answers: mpsc::Sender<Result<A, Status>>,
}

impl<Q, A> Session<Q, A> {
    /// The next frame; `None` when the client has ended its side.
    pub async fn recv(&mut self) -> Option<Q> {
        let next = timeout(PATIENCE, self.requests.message()).await;
        next.expect("a frame within 20 s").ok().flatten()
    }

    pub async fn send(&self, answer: A) {
        self.answers
            .send(Ok(answer))
            .await
            .expect("the client reads");
    }

    pub async fn refuse(self, status: Status) {
        self.answers
            .send(Err(status))
            .await
            .expect("the client reads");
    }
}

pub type PublishSession = Session<v1::PublishStreamRequest, v1::PublishStreamResponse>;
pub type ConsumeSession = Session<v1::ConsumeRequest, v1::ConsumeResponse>;

#[derive(Clone)]
struct Service {
    publishes: mpsc::Sender<PublishSession>,
    consumes: mpsc::Sender<ConsumeSession>,
    calls: Arc<Mutex<Vec<v1::PublishRequest>>>,
    answers: Arc<Mutex<VecDeque<Result<v1::PublishResponse, Status>>>>,
    frozen: Arc<AtomicBool>,
    settles: Arc<Notify>,
}

/// A node that listens on a port of its own.
pub struct Node {
    pub address: SocketAddr,
    publishes: mpsc::Receiver<PublishSession>,
    consumes: mpsc::Receiver<ConsumeSession>,
    /// What `Publish` was called with.
    pub calls: Arc<Mutex<Vec<v1::PublishRequest>>>,
    /// What `Publish` answers, in turn.
    pub answers: Arc<Mutex<VecDeque<Result<v1::PublishResponse, Status>>>>,
    /// Calls are taken and not answered.
    pub frozen: Arc<AtomicBool>,
    /// `Settle` was called.
    pub settles: Arc<Notify>,
    server: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Node {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (publishes, publish_sessions) = mpsc::channel(16);
        let (consumes, consume_sessions) = mpsc::channel(16);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(VecDeque::new()));
        let frozen = Arc::new(AtomicBool::new(false));
        let settles = Arc::new(Notify::new());
        let service = Service {
            publishes,
            consumes,
            calls: calls.clone(),
            answers: answers.clone(),
            frozen: frozen.clone(),
            settles: settles.clone(),
        };
        let serve = tonic::transport::Server::builder()
            .add_service(MessagingServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        Self {
            address,
            publishes: publish_sessions,
            consumes: consume_sessions,
            calls,
            answers,
            frozen,
            settles,
            server,
        }
    }

    pub async fn publish_session(&mut self) -> PublishSession {
        let next = timeout(PATIENCE, self.publishes.recv()).await;
        next.expect("a publish stream within 20 s").unwrap()
    }

    pub async fn consume_session(&mut self) -> ConsumeSession {
        let next = timeout(PATIENCE, self.consumes.recv()).await;
        next.expect("a consume stream within 20 s").unwrap()
    }
}

/// A connection to these nodes, in this order.
pub fn connect(nodes: &[&Node]) -> Connection {
    connect_with(nodes, ConnectionOptions::default())
}

pub fn connect_with(nodes: &[&Node], options: ConnectionOptions) -> Connection {
    let address = |it: &&Node| it.address.to_string().parse::<ServerAddress>().unwrap();
    let addresses: Vec<ServerAddress> = nodes.iter().map(address).collect();
    Connection::new(&addresses, options).unwrap()
}

#[tonic::async_trait]
impl MessagingService for Service {
    type PublishStreamStream = ReceiverStream<Result<v1::PublishStreamResponse, Status>>;
    type ConsumeStream = ReceiverStream<Result<v1::ConsumeResponse, Status>>;
    type PeekStream = ReceiverStream<Result<v1::PeekResponse, Status>>;

    async fn publish(&self, request: Request<v1::PublishRequest>) -> Answer<v1::PublishResponse> {
        self.calls.lock().push(request.into_inner());
        let answer = self.answers.lock().pop_front();
        answer
            .unwrap_or_else(|| Err(Status::unavailable("nothing more to say")))
            .map(Response::new)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Answer<Self::PublishStreamStream> {
        let (answers, receiver) = mpsc::channel(64);
        let requests = request.into_inner();
        let session = Session { requests, answers };
        self.publishes.send(session).await.ok();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Answer<Self::ConsumeStream> {
        let (answers, receiver) = mpsc::channel(64);
        let requests = request.into_inner();
        let session = Session { requests, answers };
        self.consumes.send(session).await.ok();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn receive(&self, _: Request<v1::ReceiveRequest>) -> Answer<v1::ReceiveResponse> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn settle(&self, _: Request<v1::SettleRequest>) -> Answer<v1::SettleResponse> {
        self.settles.notify_one();
        if self.frozen.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(v1::SettleResponse::default()))
    }

    async fn peek(&self, _: Request<v1::PeekRequest>) -> Answer<Self::PeekStream> {
        Err(Status::unimplemented("not in these tests"))
    }

    async fn cancel_scheduled(
        &self,
        _: Request<v1::CancelScheduledRequest>,
    ) -> Answer<v1::CancelScheduledResponse> {
        Err(Status::unimplemented("not in these tests"))
    }
}
