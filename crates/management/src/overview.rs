//! What the pages know of the node: filled by `server` as it starts, joins and stops. Not here: what follows from it (`health`,
//! `metrics`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use warren_gateway::Gateway;
use warren_types::{GroupId, NodeId};

use crate::figures::ProcessFigures;
use crate::health::{Look, Replica, Verdict};
use crate::totals::Totals;

/// Fixed while the process runs.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub node: NodeId,
    pub version: &'static str,
}

/// The node as its pages see it. Cheap to clone.
#[derive(Clone)]
pub struct Overview {
    inner: Arc<Inner>,
}

struct Inner {
    facts: NodeFacts,
    started: Duration,
    opened: AtomicBool,
    gateway: OnceLock<Gateway>,
    /// Has been in touch with every leader once in this run.
    rejoined: AtomicBool,
    stopping: AtomicBool,
    figures: watch::Sender<ProcessFigures>,
    totals: Totals,
}

impl Overview {
    #[must_use]
    pub fn new(facts: NodeFacts) -> Self {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            inner: Arc::new(Inner {
                facts,
                started,
                opened: AtomicBool::new(false),
                gateway: OnceLock::new(),
                rejoined: AtomicBool::new(false),
                stopping: AtomicBool::new(false),
                figures: watch::Sender::default(),
                totals: Totals::default(),
            }),
        }
    }

    /// What is stored has been read: what is left of the start depends on other nodes, too.
    pub fn opened(&self) {
        self.inner.opened.store(true, Ordering::Release);
    }

    /// The node is part of its cluster and takes clients.
    pub fn joined(&self, gateway: Gateway) {
        let first = self.inner.gateway.set(gateway).is_ok();
        debug_assert!(first, "a node joins once");
    }

    /// The node has begun to stop.
    pub fn stopping(&self) {
        self.inner.stopping.store(true, Ordering::Release);
    }

    /// Tells what was measured last.
    pub fn measured(&self, figures: ProcessFigures) {
        self.inner.figures.send_replace(figures);
    }

    pub(crate) fn facts(&self) -> &NodeFacts {
        &self.inner.facts
    }

    /// Since the epoch.
    pub(crate) fn started(&self) -> Duration {
        self.inner.started
    }

    pub(crate) fn gateway(&self) -> Option<&Gateway> {
        self.inner.gateway.get()
    }

    pub(crate) fn figures(&self) -> ProcessFigures {
        *self.inner.figures.borrow()
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.inner.totals
    }

    pub(crate) fn startup(&self) -> Verdict {
        self.look().startup()
    }

    pub(crate) fn ready(&self) -> Verdict {
        self.look().ready()
    }

    fn look(&self) -> Look {
        let inner = &self.inner;
        let broker = self.gateway().map(Gateway::broker);
        if broker.is_some_and(warren_shard::Broker::is_ready) {
            inner.rejoined.store(true, Ordering::Release);
        }
        let replica = |status: warren_shard::GroupStatus| Replica {
            topology: status.group == GroupId::TOPOLOGY,
            led: status.leadership.leader.is_some(),
            committed: status
                .committed
                .max(status.heard_commit)
                .map_or(0, |it| it.0),
            applied: status.applied.map_or(0, |it| it.0),
        };
        Look {
            opened: inner.opened.load(Ordering::Acquire),
            joined: broker.is_some(),
            rejoined: inner.rejoined.load(Ordering::Acquire),
            leaving: inner.stopping.load(Ordering::Acquire)
                || self.gateway().is_some_and(Gateway::is_draining),
            replicas: broker
                .map(|broker| broker.status().into_iter().map(replica).collect())
                .unwrap_or_default(),
        }
    }
}
