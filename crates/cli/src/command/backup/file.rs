//! The file of a backup: a title, then parts, each with length, checksum and kind; the last one says how many messages there were, so that a
//! file that was cut off is known for one. Read by every later version. Not here: where the parts come from and go to (`backup`).

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

const TITLE: &[u8] = b"warren backup 1\n";
/// A message has at most 128 MiB, and room for what is around it; definitions of a large cluster have less.
const PART_BYTES_MAX: u32 = 160 << 20;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What is declared, as JSON in RabbitMQ's form, in one vhost or (empty) everywhere; the first part.
    Definitions {
        vhost: String,
        json: Bytes,
    },
    /// The messages that follow were in this queue.
    Queue(QueueName),
    Message {
        /// Milliseconds since the Unix epoch; 0 = ready.
        due_ms: u64,
        /// `warren.v1.Message`.
        message: Bytes,
    },
    End {
        messages: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueueName {
    pub(super) vhost: String,
    pub(super) name: String,
}

impl Part {
    fn encode(&self) -> Result<Bytes> {
        let mut out = BytesMut::new();
        match self {
            Self::Definitions { vhost, json } => {
                out.put_u8(b'D');
                out.put_u16(u16::try_from(vhost.len())?);
                out.put_slice(vhost.as_bytes());
                out.put_slice(json);
            }
            Self::Queue(name) => {
                out.put_u8(b'Q');
                out.put_slice(&serde_json::to_vec(name)?);
            }
            Self::Message { due_ms, message } => {
                out.put_u8(b'M');
                out.put_u64(*due_ms);
                out.put_slice(message);
            }
            Self::End { messages } => {
                out.put_u8(b'E');
                out.put_u64(*messages);
            }
        }
        Ok(out.freeze())
    }

    fn decode(mut bytes: Bytes) -> Result<Self> {
        let kind = bytes.try_get_u8().context("a part is empty")?;
        Ok(match kind {
            b'D' => {
                let length = usize::from(bytes.try_get_u16().context("no vhost")?);
                ensure!(length <= bytes.len(), "the vhost's name is too short");
                let vhost = String::from_utf8(bytes.split_to(length).to_vec())?;
                Self::Definitions { vhost, json: bytes }
            }
            b'Q' => Self::Queue(serde_json::from_slice(&bytes)?),
            b'M' => Self::Message {
                due_ms: bytes.try_get_u64().context("a message is too short")?,
                message: bytes,
            },
            b'E' => Self::End {
                messages: bytes.try_get_u64().context("the end is too short")?,
            },
            other => bail!("a part is of kind {other}, which this version does not know"),
        })
    }
}

/// Under another name until it is whole.
pub(super) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    messages: u64,
}

impl Writer {
    /// Only for its owner: it has the users' hashes and all messages.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let temporary = PathBuf::from(name);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .with_context(|| format!("cannot write {}", temporary.display()))?;
        let mut file = BufWriter::new(file);
        file.write_all(TITLE)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            temporary,
            messages: 0,
        })
    }

    pub(super) fn add(&mut self, part: &Part) -> Result<()> {
        let bytes = part.encode()?;
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|it| *it <= PART_BYTES_MAX);
        let length = length.context("a part is larger than any message may be")?;
        self.file.write_all(&length.to_be_bytes())?;
        self.file.write_all(&crc32c::crc32c(&bytes).to_be_bytes())?;
        self.file.write_all(&bytes)?;
        self.messages += u64::from(matches!(part, Part::Message { .. }));
        Ok(())
    }

    /// The end, synced, under its own name.
    pub(super) fn finish(mut self) -> Result<u64> {
        let messages = self.messages;
        self.add(&Part::End { messages })?;
        let file = self.file.into_inner().map_err(|it| it.into_error())?;
        file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        Ok(messages)
    }
}

/// Gives part after part; whether the file is whole is known when it has given the end.
pub(super) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    messages: u64,
    at_end: bool,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut file = BufReader::new(file);
        let mut title = [0; TITLE.len()];
        let is_one = file.read_exact(&mut title).is_ok() && title == TITLE;
        ensure!(is_one, "{} is no backup", path.display());
        Ok(Self {
            file,
            path: path.to_owned(),
            messages: 0,
            at_end: false,
        })
    }

    /// `None`: the end was given before.
    pub(super) fn next(&mut self) -> Result<Option<Part>> {
        if self.at_end {
            return Ok(None);
        }
        let part = self.read_part();
        let part =
            part.with_context(|| format!("{} is damaged or not whole", self.path.display()))?;
        self.messages += u64::from(matches!(part, Part::Message { .. }));
        if let Part::End { messages } = part {
            let found = self.messages;
            ensure!(
                messages == found,
                "{found} messages of {messages} are there"
            );
            self.at_end = true;
        }
        Ok(Some(part))
    }

    fn read_part(&mut self) -> Result<Part> {
        let mut head = [0; 8];
        self.file.read_exact(&mut head).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                anyhow::anyhow!("it ends too early")
            } else {
                error.into()
            }
        })?;
        let mut head = &head[..];
        let (length, checksum) = (head.get_u32(), head.get_u32());
        ensure!(length <= PART_BYTES_MAX, "a part is far too long");
        let mut bytes = vec![0; usize::try_from(length)?];
        self.file.read_exact(&mut bytes)?;
        ensure!(
            crc32c::crc32c(&bytes) == checksum,
            "a checksum does not match"
        );
        Part::decode(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        let name = QueueName {
            vhost: "/".to_owned(),
            name: "orders".to_owned(),
        };
        let message = |due_ms, text: &'static [u8]| Part::Message {
            due_ms,
            message: Bytes::from_static(text),
        };
        vec![
            Part::Definitions {
                vhost: "shop".to_owned(),
                json: Bytes::from_static(b"{}"),
            },
            Part::Queue(name),
            message(0, b"one"),
            message(9, b""),
        ]
    }

    fn read(path: &Path) -> Result<Vec<Part>> {
        let mut reader = Reader::open(path)?;
        let mut found = Vec::new();
        while let Some(part) = reader.next()? {
            found.push(part);
        }
        Ok(found)
    }

    #[test]
    fn file_gives_back_what_was_written_and_any_damage_is_found() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("b");
        let mut writer = Writer::create(&path).unwrap();
        for part in parts() {
            writer.add(&part).unwrap();
        }
        assert!(!path.exists(), "not whole yet");
        assert_eq!(writer.finish().unwrap(), 2);
        let mut wanted = parts();
        wanted.push(Part::End { messages: 2 });
        assert_eq!(read(&path).unwrap(), wanted);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(read(&path).is_err(), "length {at}");
        }
    }
}
