//! Reads the sources one over the other, then has the whole checked. Not here: the file's syntax (`file`).

use std::path::PathBuf;

use super::report::{ConfigError, Place, Report};
use super::setting::{Kind, Setting};
use super::{
    Config, SECTIONS, advertise, amqp, auth, cluster, file, limits, listen, log, node, raft,
    storage,
};

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    pub file: Option<PathBuf>,
    /// All variables; those of others are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags that were given: their setting's name and value.
    pub flags: Vec<(String, String)>,
    /// The name of this host; `None` = not known.
    pub hostname: Option<String>,
}

impl Inputs {
    /// With the variables of this process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let environment = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        Self {
            file,
            environment,
            flags,
            hostname: hostname.map(|name| name.trim().to_owned()),
        }
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// What should be told once there is a log.
    pub warnings: Vec<String>,
}

pub(super) fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut config = Config::default();
    let mut report = Report::default();
    if let Some(path) = &inputs.file {
        file::read(path, &mut config, &mut report);
    }
    read_environment(&inputs.environment, &mut config, &mut report);
    for (name, value) in &inputs.flags {
        match Config::settings().find(|setting| setting.name == name) {
            Some(setting) => {
                let place = Place::Flag(setting.flag().unwrap_or_else(|| setting.name.to_owned()));
                take(setting, value, place, &mut config, &mut report);
            }
            None => report.wrong_at(Place::Flag(name.clone()), None, "there is no such setting"),
        }
    }
    node::take_hostname(&mut config, inputs.hostname.as_deref(), &mut report);
    cluster::read_secret(&mut config, &mut report);
    auth::read_password(&mut config, &mut report);
    for check in [
        node::check,
        cluster::check,
        listen::check,
        advertise::check,
        log::check,
        raft::check,
        storage::check,
        limits::check,
        amqp::check,
        auth::check,
    ] {
        check(&config, &mut report);
    }
    if report.has_problems() {
        return Err(report.into_error());
    }
    Ok(Loaded {
        config,
        warnings: report.warnings,
    })
}

/// Takes one value, or notes what is wrong with it.
pub(super) fn take(
    setting: &'static Setting,
    value: &str,
    place: Place,
    config: &mut Config,
    report: &mut Report,
) {
    match (setting.set)(config, value) {
        Ok(()) => report.given(setting, place),
        Err(why) => {
            let expected = setting.kind.expected();
            let why = why.unwrap_or_else(|| format!("{value:?} is not {expected}"));
            report.unreadable(setting, place, why);
        }
    }
}

fn read_environment(environment: &[(String, String)], config: &mut Config, report: &mut Report) {
    let mut ours: Vec<_> = environment
        .iter()
        .filter(|(name, _)| section_of(name).is_some())
        .collect();
    ours.sort();
    for (name, value) in ours {
        let known = Config::settings().find(|setting| setting.variable() == *name);
        match known {
            Some(setting) => take(
                setting,
                value,
                Place::Variable(name.clone()),
                config,
                report,
            ),
            // Others write such names, too: Kubernetes does for a service that is called warren-node.
            None => report
                .warnings
                .push(format!("the environment variable {name} is no setting")),
        }
    }
}

/// The section whose variable this could be.
fn section_of(variable: &str) -> Option<&'static str> {
    let rest = variable.strip_prefix("WARREN_")?;
    let section_is = |section: &str| {
        let rest = rest.strip_prefix(&section.to_uppercase());
        rest.is_some_and(|rest| rest.starts_with('_'))
    };
    SECTIONS
        .into_iter()
        .map(|(section, _)| section)
        .find(|section| section_is(section))
}

/// Settings that may stand in a file.
pub(super) fn in_files(setting: &Setting) -> bool {
    setting.kind != Kind::Secret
}
