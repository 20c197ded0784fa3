//! What is wrong with a configuration, each problem with its place. Not here: the rules (the sections).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::setting::Setting;

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    File {
        path: PathBuf,
        line: usize,
    },
    /// The whole file.
    Unread(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Unread(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    place: Option<Place>,
    setting: Option<String>,
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(setting) = &self.setting {
            write!(f, "{setting}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// Why a node does not start with this configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "the configuration has a problem:\n  {one}"),
            many => {
                write!(f, "the configuration has {} problems:", many.len())?;
                many.iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Collects problems, and what is only worth a warning.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    /// Where each setting got the value in force.
    places: BTreeMap<&'static str, Place>,
    /// Settings whose value could not be read: nothing more can be said about them.
    unread: BTreeSet<&'static str>,
}

impl Report {
    pub(super) fn given(&mut self, setting: &'static Setting, place: Place) {
        self.places.insert(setting.name, place);
    }

    /// A setting's value is not of its kind.
    pub(super) fn unreadable(
        &mut self,
        setting: &'static Setting,
        place: Place,
        text: impl Into<String>,
    ) {
        self.unread.insert(setting.name);
        self.given(setting, place.clone());
        self.wrong_at(place, Some(setting.name), text);
    }

    pub(super) fn is_given(&self, setting: &str) -> bool {
        self.places.contains_key(setting)
    }

    /// Something is wrong with the value in force of a setting.
    pub(super) fn wrong(&mut self, setting: &str, text: impl Into<String>) {
        if self.unread.contains(setting) {
            return;
        }
        let place = self.places.get(setting).cloned();
        self.problems.push(Problem {
            place,
            setting: Some(setting.to_owned()),
            text: text.into(),
        });
    }

    pub(super) fn wrong_at(
        &mut self,
        place: Place,
        setting: Option<&str>,
        text: impl Into<String>,
    ) {
        self.problems.push(Problem {
            place: Some(place),
            setting: setting.map(str::to_owned),
            text: text.into(),
        });
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(super) fn into_error(self) -> ConfigError {
        ConfigError {
            problems: self.problems,
        }
    }
}
