//! The data directory's manifest: a few lines of text that say whose directory it is. Not here: reading and replacing the file (`data_dir`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use warren_types::{ClusterId, Incarnation, NodeId, Run};

use crate::data_dir::DataDirError;
use crate::files::checksum;

/// Format of the data directory as a whole. A directory of a newer format is refused.
pub const FORMAT_VERSION: u32 = 1;

const TITLE: &str = "warren data directory";

/// Names a disk, so that one taken from another directory is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskId(pub u128);

/// Which engine a directory's log was made by. Neither reads the other's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogEngineKind {
    #[default]
    Segments,
    /// What the first versions had; for comparison.
    Rocks,
}

impl LogEngineKind {
    pub const ALL: [Self; 2] = [Self::Segments, Self::Rocks];

    /// As it stands in manifests and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Rocks => "rocks",
        }
    }

    /// The engine of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) disk: DiskId,
    pub(crate) run: Run,
    pub(crate) log_engine: LogEngineKind,
}

impl Manifest {
    pub(crate) fn new(
        node: NodeId,
        incarnation: Incarnation,
        disk: DiskId,
        log_engine: LogEngineKind,
    ) -> Self {
        Self {
            cluster: None,
            node,
            incarnation,
            disk,
            run: Run(0),
            log_engine,
        }
    }

    pub(crate) fn encode(&self) -> String {
        let mut text = format!(
            "{TITLE}\nformat_version = {FORMAT_VERSION}\ncluster = {}\nnode = {}\nincarnation = {}\ndisk = {:032x}\nrun = {}\nlog_engine = {}\n",
            self.cluster.unwrap_or_default(),
            self.node,
            self.incarnation,
            self.disk.0,
            self.run,
            self.log_engine.name(),
        );
        let sum = checksum(&[text.as_bytes()]);
        writeln!(text, "crc32c = {sum:08x}").expect("a string takes all that is written to it");
        text
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, DataDirError> {
        let damaged = |detail: &str| DataDirError::Damaged {
            path: path.to_owned(),
            detail: detail.to_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        let content_bytes = text
            .rfind("crc32c = ")
            .ok_or_else(|| damaged("it has no checksum"))?;
        let (content, sum) = text.split_at(content_bytes);
        if sum != format!("crc32c = {:08x}\n", checksum(&[content.as_bytes()])) {
            return Err(damaged("it does not match its checksum"));
        }
        let mut lines = content.lines();
        if lines.next() != Some(TITLE) {
            return Err(damaged("its first line is not known"));
        }
        let fields: BTreeMap<&str, &str> =
            lines.filter_map(|line| line.split_once(" = ")).collect();
        let field = |name: &str| {
            fields
                .get(name)
                .copied()
                .ok_or_else(|| damaged(&format!("it has no {name}")))
        };
        let number = |name: &str| {
            field(name)?
                .parse::<u64>()
                .map_err(|_| damaged(&format!("{name} is no number")))
        };
        let hex = |name: &str| {
            u128::from_str_radix(field(name)?, 16)
                .map_err(|_| damaged(&format!("{name} is no identity")))
        };
        let format = number("format_version")?;
        if format > u64::from(FORMAT_VERSION) {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            return Err(DataDirError::NewerFormat {
                path: path.to_owned(),
                found,
            });
        }
        // Before there were two it was not written down.
        let log_engine = fields
            .get("log_engine")
            .map_or(Some(LogEngineKind::Rocks), |name| {
                LogEngineKind::named(name)
            });
        let cluster = ClusterId(hex("cluster")?);
        Ok(Self {
            cluster: (cluster != ClusterId::default()).then_some(cluster),
            node: NodeId(number("node")?),
            incarnation: Incarnation(hex("incarnation")?),
            disk: DiskId(hex("disk")?),
            run: Run(number("run")?),
            log_engine: log_engine.ok_or_else(|| damaged("its log engine is not known"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_format_is_named_not_called_damaged() {
        let text = Manifest::new(
            NodeId(1),
            Incarnation(2),
            DiskId(3),
            LogEngineKind::Segments,
        )
        .encode();
        let content = text[..text.rfind("crc32c").unwrap()]
            .replace("format_version = 1", "format_version = 2");
        let newer = format!(
            "{content}crc32c = {:08x}\n",
            checksum(&[content.as_bytes()])
        );
        let refused = Manifest::decode(Path::new("MANIFEST"), newer.as_bytes()).unwrap_err();
        assert!(matches!(
            refused,
            DataDirError::NewerFormat { found: 2, .. }
        ));
    }
}
