//! The two ends of a run, before it begins: both clusters answer, and the target is not the source. Not here: what an exchange leads to
//! (`back`), the run (`take`, `copy`).

use anyhow::{Context as _, Result};
use warren_client::{
    BindingFilter, Cluster, Connection, ConnectionOptions, Credentials, Error, ErrorKind,
};

use super::back::leads_to;
use super::carry::Names;
use super::outflow::Numbers;
use super::{Route, ShovelArgs};
use crate::args::{Global, read_password_file};
use crate::exit::Failure;

/// Another cluster's, with its own login; else the source's.
///
/// # Errors
/// A password is missing, or an address is none.
pub(super) fn target_connection(
    global: &Global,
    connection: &Connection,
    args: &ShovelArgs,
) -> Result<Connection> {
    if args.to_server.is_none() && args.to_login.is_none() {
        return Ok(connection.clone());
    }
    let servers = args.to_server.as_ref().unwrap_or(&global.server);
    let credentials = match &args.to_login {
        Some(user) => Some(Credentials {
            user: user.clone(),
            password: match &args.to_password_file {
                Some(path) => read_password_file(path)?,
                None => std::env::var("WARREN_TO_PASSWORD").context(
                    "give the password of --to-login in WARREN_TO_PASSWORD or --to-password-file",
                )?,
            },
        }),
        None => None,
    };
    let options = ConnectionOptions {
        credentials,
        ..global.connection_options()?
    };
    Ok(Connection::new(&servers.0, options)?)
}

/// # Errors
/// One of them is not there or not to be looked at; messages would come back to where they were taken.
pub(super) async fn numbers(
    global: &Global,
    from: &Connection,
    to: &Connection,
    to_vhost: &str,
    args: &ShovelArgs,
) -> Result<Numbers> {
    let queue = from.queue(&global.vhost, &args.name).await?;
    let cluster = looked_at(from.cluster().await, "the source")?;
    let target = looked_at(to.cluster().await, "the target")?;
    let route = Route::of(args);
    if to_vhost == global.vhost && target.cluster_id == cluster.cluster_id {
        leads_on(&route, to, to_vhost, args).await?;
    }
    if let Route::Queue(name) = route {
        match to.queue(to_vhost, &name).await {
            Ok(_) => {}
            // Who may publish there need not be allowed to look.
            Err(error) if error.kind() == ErrorKind::Denied => {}
            Err(error) => return Err(anyhow::Error::from(error).context("the target")),
        }
    }
    if args.copy {
        return Ok(Numbers::Fresh);
    }
    if !args.filter.filter.is_empty() {
        let what = "--filter is for --copy: `warren queue move` puts a selection into a queue of its own first";
        return Err(Failure::Usage(what.to_owned()).into());
    }
    Ok(Numbers::Of(Names::of(&cluster.cluster_id, queue.queue_id)))
}

/// A cluster tells its id to who has the tag for it.
fn looked_at(cluster: Result<Cluster, Error>, whose: &str) -> Result<Cluster> {
    cluster.map_err(|error| {
        let is_denied = error.kind() == ErrorKind::Denied;
        let error = anyhow::Error::from(error);
        if is_denied {
            let what =
                format!("{whose}: its user needs the tag monitoring (`warren user set-tags`)");
            error.context(what)
        } else {
            error.context(whose.to_owned())
        }
    })
}

/// Whether a route within the source's vhost leads away from the source.
async fn leads_on(route: &Route, to: &Connection, vhost: &str, args: &ShovelArgs) -> Result<()> {
    let (exchange, key) = match route {
        Route::Queue(name) if *name == args.name => {
            let what = "source and target are the same queue: give --to-server, --to-vhost, --to-queue or --to-exchange";
            return Err(Failure::Usage(what.to_owned()).into());
        }
        Route::Queue(_) => return Ok(()),
        Route::Exchange(exchange, key) => (exchange, key),
    };
    if args.limit.is_some() {
        return Ok(());
    }
    // What this user may not see is not known: it is not listed.
    let exchanges = to.exchanges(vhost).await?;
    let filter = BindingFilter {
        vhost: vhost.to_owned(),
        ..BindingFilter::default()
    };
    let bindings = to.bindings(&filter).await?;
    if leads_to(&args.name, exchange, key.as_deref(), &exchanges, &bindings) {
        let what = format!(
            "exchange '{exchange}' leads back to queue {}: the run might not end; with --limit it does",
            args.name
        );
        return Err(Failure::Usage(what).into());
    }
    Ok(())
}
