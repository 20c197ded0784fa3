//! `warren backup`: what is declared and what is in the queues of a running cluster into a file, and from there into another cluster. Not
//! here: the file's form (`file`), what definitions hold (the server says).

mod file;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use warren_client::{Connection, Message, PeekOptions, Publisher, PublisherOptions, Target};

use crate::args::Global;
use crate::exit::Failure;
use crate::output;
use file::{Part, QueueName, Reader, Writer};

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write what is declared and all messages of durable queues to a file; the cluster serves meanwhile
    #[command(after_help = "\
Each queue is read from its oldest message to its newest, one after the other: what is acknowledged or published meanwhile may be in the
file or not, and a message that moves from one queue to another meanwhile may be missed or be there twice. To have one moment for all,
let publishers and consumers rest. Messages with consumers, delayed and parked ones are among them. The file is readable for its owner
only.

Example:
  warren backup create monday.backup --login admin")]
    Create {
        file: PathBuf,
        /// Only this vhost
        #[arg(long, value_name = "VHOST")]
        only: Option<String>,
    },
    /// Read all of a backup and check every checksum in it
    Check { file: PathBuf },
    /// Declare what a backup has, then publish its messages to their queues
    #[command(after_help = "\
All of the file is checked first. What is declared already stays as it is. Messages keep their order, properties and due times; they come
from the default exchange with their queue's name as routing key, begin their time to live anew, and are ready even if they were parked.
Queues that hold messages already end the command before anything is done, unless --add is given: when a restore was interrupted, purge
the queues and repeat it.

Example:
  warren backup restore monday.backup --server 10.1.0.1:7101 --login admin")]
    Restore {
        file: PathBuf,
        /// Although queues hold messages
        #[arg(long)]
        add: bool,
    },
}

#[derive(Serialize)]
struct BackupView {
    queues: u64,
    messages: u64,
}

pub(crate) async fn run(global: &Global, command: BackupCommand) -> Result<()> {
    let view = match command {
        BackupCommand::Create { file, only } => create(global, &file, only.as_deref()).await?,
        BackupCommand::Check { file } => check(&file)?.view,
        BackupCommand::Restore { file, add } => restore(global, &file, add).await?,
    };
    output::result(global.output, &view, |it| {
        format!("{} queues, {} messages\n", it.queues, it.messages)
    })?;
    Ok(())
}

/// What this program looks at in definitions.
#[derive(Deserialize)]
struct Definitions {
    #[serde(default)]
    queues: Vec<NamedQueue>,
}

#[derive(Deserialize)]
struct NamedQueue {
    name: String,
    /// Not there where a document is of one vhost.
    vhost: Option<String>,
}

async fn create(global: &Global, path: &Path, only: Option<&str>) -> Result<BackupView> {
    let connection = global.connect()?;
    let json = connection.export_definitions(only).await?;
    let definitions: Definitions =
        serde_json::from_slice(&json).context("the cluster's definitions make no sense")?;
    let mut writer = Writer::create(path)?;
    writer.add(&Part::Definitions {
        vhost: only.unwrap_or_default().to_owned(),
        json: json.into(),
    })?;
    let mut queues = 0;
    for queue in definitions.queues {
        let vhost = queue.vhost.or_else(|| only.map(str::to_owned));
        let name = QueueName {
            vhost: vhost.unwrap_or_else(|| "/".to_owned()),
            name: queue.name,
        };
        queues += 1;
        save_queue(&connection, &mut writer, name).await?;
    }
    let messages = writer.finish()?;
    Ok(BackupView { queues, messages })
}

async fn save_queue(connection: &Connection, writer: &mut Writer, name: QueueName) -> Result<()> {
    let mut options = PeekOptions {
        vhost: name.vhost.clone(),
        queue: name.name.clone(),
        ..PeekOptions::default()
    };
    let shown = format!("queue {} in {}", name.name, name.vhost);
    writer.add(&Part::Queue(name))?;
    loop {
        let page = connection.peek(&options).await;
        let page = page.with_context(|| shown.clone())?;
        for it in page.messages {
            let due = it.due.unwrap_or_default().as_millis();
            writer.add(&Part::Message {
                due_ms: u64::try_from(due).unwrap_or(u64::MAX),
                message: it.message.to_bytes(),
            })?;
        }
        if page.next_cursor.is_empty() {
            return Ok(());
        }
        options.cursor = page.next_cursor;
    }
}

/// A file that was read to its end.
struct Checked {
    vhost: String,
    definitions: Bytes,
    queues: Vec<QueueName>,
    view: BackupView,
}

fn check(path: &Path) -> Result<Checked> {
    let mut reader = Reader::open(path)?;
    let mut checked = Checked {
        vhost: String::new(),
        definitions: Bytes::new(),
        queues: Vec::new(),
        view: BackupView {
            queues: 0,
            messages: 0,
        },
    };
    while let Some(part) = reader.next()? {
        match part {
            Part::Definitions { vhost, json } => {
                (checked.vhost, checked.definitions) = (vhost, json);
            }
            Part::Queue(name) => checked.queues.push(name),
            Part::Message { message, .. } => {
                Message::from_bytes(message)?;
            }
            Part::End { messages } => checked.view.messages = messages,
        }
    }
    checked.view.queues = u64::try_from(checked.queues.len())?;
    Ok(checked)
}

async fn restore(global: &Global, path: &Path, add: bool) -> Result<BackupView> {
    let checked = check(path)?;
    let connection = global.connect()?;
    if !add {
        for name in &checked.queues {
            refuse_if_filled(&connection, name).await?;
        }
    }
    let vhost = (!checked.vhost.is_empty()).then_some(&*checked.vhost);
    let document = checked.definitions.to_vec();
    let imported = connection
        .import_definitions(document, vhost, false)
        .await?;
    if !imported.refused.is_empty() {
        let what = format!(
            "not declared: {}; no message was restored",
            imported.refused.join("; ")
        );
        return Err(Failure::Failed(what).into());
    }
    let mut reader = Reader::open(path)?;
    let mut filling = None;
    while let Some(part) = reader.next()? {
        match part {
            Part::Definitions { .. } => {}
            Part::Queue(name) => {
                end(filling.take()).await?;
                filling = Some(Filling::new(&connection, name));
            }
            Part::Message { due_ms, message } => {
                let filling = filling.as_mut().context("a message of no queue")?;
                filling.add(due_ms, Message::from_bytes(message)?).await?;
            }
            Part::End { .. } => end(filling.take()).await?,
        }
    }
    Ok(checked.view)
}

async fn end(filling: Option<Filling>) -> Result<()> {
    match filling {
        Some(filling) => filling.end().await,
        None => Ok(()),
    }
}

async fn refuse_if_filled(connection: &Connection, name: &QueueName) -> Result<()> {
    let options = PeekOptions {
        vhost: name.vhost.clone(),
        queue: name.name.clone(),
        limit: 1,
        ..PeekOptions::default()
    };
    match connection.peek(&options).await {
        Ok(page) if page.messages.is_empty() => Ok(()),
        Ok(_) => {
            let what = format!(
                "nothing was done: queue {} in {} holds messages already; purge it, or --add to them",
                name.name, name.vhost
            );
            Err(Failure::Precondition(what).into())
        }
        // It, or its vhost, is yet to be declared.
        Err(error) if error.kind() == warren_client::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One queue that is being filled.
struct Filling {
    publisher: Publisher,
    target: Target,
    name: QueueName,
    confirms: Vec<warren_client::Confirm>,
}

/// Confirms that are waited for together.
const AT_ONCE: usize = 500;

impl Filling {
    fn new(connection: &Connection, name: QueueName) -> Self {
        let publisher = connection.publisher(PublisherOptions {
            vhost: name.vhost.clone(),
            ..PublisherOptions::default()
        });
        Self {
            publisher,
            target: Target::queue(&name.name),
            name,
            confirms: Vec::new(),
        }
    }

    async fn add(&mut self, due_ms: u64, message: Message) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let due = (due_ms != 0).then(|| Duration::from_millis(due_ms).saturating_sub(now));
        let confirm = self.publisher.publish(&self.target, message.due_in(due)?);
        self.confirms.push(confirm.await?);
        if self.confirms.len() < AT_ONCE {
            return Ok(());
        }
        self.confirmed().await
    }

    async fn confirmed(&mut self) -> Result<()> {
        for confirm in self.confirms.drain(..) {
            let outcome = confirm.await?;
            if !outcome.is_success() || outcome == warren_client::Outcome::Unrouted {
                let (queue, vhost) = (&self.name.name, &self.name.vhost);
                let what =
                    format!("a message of queue {queue} in {vhost} was not stored: {outcome:?}");
                return Err(Failure::Failed(what).into());
            }
        }
        Ok(())
    }

    async fn end(mut self) -> Result<()> {
        self.confirmed().await
    }
}
