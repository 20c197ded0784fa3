//! The configuration file: TOML, every key known, every problem with its line. Not here: what values mean.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::load::{in_files, take};
use super::report::{Place, Report};
use super::setting::{Kind, Setting};
use super::{Config, SECTIONS};

/// A file larger than this is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn read(path: &Path, config: &mut Config, report: &mut Report) {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(why) => return report.wrong_at(Place::Unread(path.to_owned()), None, why),
    };
    let (document, errors) = DeTable::parse_recoverable(&text);
    let file = File { path, text: &text };
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        report.wrong_at(file.place(at), None, error.message().trim());
    }
    // As they stand in the file, so that problems come in that order.
    let mut tables: Vec<_> = document.get_ref().iter().collect();
    tables.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in tables {
        let at = name.span().start;
        let section = SECTIONS
            .into_iter()
            .find(|(section, _)| section == name.get_ref());
        match (section, value.get_ref()) {
            (Some((section, settings)), DeValue::Table(table)) => {
                file.section(section, settings, table, config, report);
            }
            (Some((section, _)), other) => {
                let kind = other.type_str();
                report.wrong_at(
                    file.place(at),
                    Some(section),
                    format!("is a table, [{section}], not of the type {kind}"),
                );
            }
            (None, _) => {
                let known = SECTIONS
                    .map(|(section, _)| format!("[{section}]"))
                    .join(", ");
                let why = format!("unknown section; there are {known}");
                report.wrong_at(file.place(at), Some(name.get_ref()), why);
            }
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("the file cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "the file has {size} bytes, which is no configuration"
        ));
    }
    std::fs::read_to_string(path).map_err(failed)
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, at: usize) -> Place {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        Place::File {
            path: self.path.to_owned(),
            line,
        }
    }

    fn section(
        &self,
        section: &str,
        settings: &'static [Setting],
        table: &DeTable<'_>,
        config: &mut Config,
        report: &mut Report,
    ) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let place = self.place(name.span().start);
            let full = format!("{section}.{}", name.get_ref());
            match settings
                .iter()
                .find(|setting| setting.key() == name.get_ref())
            {
                Some(setting) if in_files(setting) => {
                    match text_of(setting.kind, value.get_ref()) {
                        Ok(text) => take(setting, &text, place, config, report),
                        Err(found) => {
                            let why = found.unwrap_or_else(|| {
                                let found = value.get_ref().type_str();
                                format!("is {}, not of the type {found}", setting.kind.expected())
                            });
                            report.unreadable(setting, place, why);
                        }
                    }
                }
                Some(setting) => {
                    let why = format!(
                        "a secret does not stand in a configuration file: use {section}.{}_file or the variable {}",
                        setting.key(),
                        setting.variable()
                    );
                    report.wrong_at(place, Some(&full), why);
                }
                None => {
                    let known = settings
                        .iter()
                        .filter(|setting| in_files(setting))
                        .map(Setting::key);
                    let known = known.collect::<Vec<_>>().join(", ");
                    report.wrong_at(
                        place,
                        Some(&full),
                        format!("unknown key; [{section}] has {known}"),
                    );
                }
            }
        }
    }
}

/// The value as the environment would give it. `Err(None)`: it has another type.
fn text_of(kind: Kind, value: &DeValue<'_>) -> Result<String, Option<String>> {
    match (kind, value) {
        (
            Kind::Text
            | Kind::Path
            | Kind::NodeId
            | Kind::Size
            | Kind::Level
            | Kind::Duration
            | Kind::Socket
            | Kind::Endpoint
            | Kind::Choice(_),
            DeValue::String(text),
        ) => Ok(text.clone().into_owned()),
        (Kind::Whole | Kind::NodeId | Kind::Size | Kind::Level, DeValue::Integer(number))
            if number.radix() == 10 =>
        {
            Ok(number.as_str().to_owned())
        }
        (Kind::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::Peers, DeValue::Array(peers)) => {
            let peers = peers.iter().map(|peer| peer_text(peer.get_ref()));
            Ok(peers.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        _ => Err(None),
    }
}

/// `{ id = 1, address = "..." }` as `1=...`.
fn peer_text(peer: &DeValue<'_>) -> Result<String, Option<String>> {
    let table = peer.as_table().ok_or(None)?;
    if let Some((name, _)) = table
        .iter()
        .find(|(name, _)| !["id", "address"].contains(&&**name.get_ref()))
    {
        return Err(Some(format!(
            "a peer has id and address, not {:?}",
            name.get_ref()
        )));
    }
    let field = |key: &str| {
        table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value.get_ref())
    };
    match (field("id"), field("address")) {
        (Some(DeValue::Integer(id)), Some(DeValue::String(address))) => {
            Ok(format!("{}={address}", id.as_str()))
        }
        _ => Err(Some(
            "a peer has a whole number as id and a text as address".to_owned(),
        )),
    }
}
