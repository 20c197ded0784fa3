//! A server of one document over HTTPS, with a certificate of its own. Not here: who asks it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

/// What a request got.
type Answer = Arc<dyn Fn(&str) -> (u16, Vec<u8>) + Send + Sync>;

/// Serves until the test's process ends.
pub struct HttpsServer {
    port: u16,
    certificate: PathBuf,
    requests: Arc<AtomicUsize>,
}

impl HttpsServer {
    /// Answers each request, which `answer` gets as its head, on a free port of loopback.
    ///
    /// # Errors
    /// No port, or the certificate cannot be made or written.
    pub fn start(
        directory: &Path,
        answer: impl Fn(&str) -> (u16, Vec<u8>) + Send + Sync + 'static,
    ) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let certificate = directory.join("certificate.pem");
        std::fs::write(&certificate, made.cert.pem())?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(AtomicUsize::new(0));
        let (config, counted) = (Arc::new(config), Arc::clone(&requests));
        let answer: Answer = Arc::new(answer);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
                // Who ends the connection early has its reasons.
                std::thread::spawn(move || drop(serve(socket, config, &answer)));
            }
        });
        Ok(Self {
            port,
            certificate,
            requests,
        })
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// To be trusted by who asks.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(
    mut socket: std::net::TcpStream,
    config: Arc<ServerConfig>,
    answer: &Answer,
) -> Result<()> {
    let mut connection = ServerConnection::new(config)?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).context("the head of a request")?;
    let (status, body) = answer(&head);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
