//! What the probes say, from one look at the node. Pure. Not here: looking (`overview`), HTTP (`http`).
//!
//! Live: the process answers; nothing else counts. Started: what is stored has been read. Ready: the node has been in touch with
//! every leader once since its start, is near those it knows now, and is not leaving. Losing a quorum, or an alarm, makes no
//! node unready: all would be at once, and clients would have nobody who tells them why.

/// A replica so many entries behind what its leader has committed is far from it.
const LAG_MAX: u64 = 5_000;

/// Yes, or why not, one reason per line.
pub(crate) type Verdict = Result<(), Vec<String>>;

/// A replica of this node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replica {
    pub(crate) topology: bool,
    /// A leader is known.
    pub(crate) led: bool,
    /// The highest index that is known to be committed.
    pub(crate) committed: u64,
    pub(crate) applied: u64,
}

/// One look at the node.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) opened: bool,
    pub(crate) joined: bool,
    pub(crate) rejoined: bool,
    pub(crate) leaving: bool,
    pub(crate) replicas: Vec<Replica>,
}

impl Look {
    pub(crate) fn startup(&self) -> Verdict {
        verdict(self.opened, || "what is stored is being read".to_owned())
    }

    pub(crate) fn ready(&self) -> Verdict {
        self.startup()?;
        verdict(!self.leaving, || "the node is being drained".to_owned())?;
        verdict(self.joined, || {
            "the node is not part of a cluster yet".to_owned()
        })?;
        verdict(self.rejoined, || {
            "the node has not been in touch with every leader since its start".to_owned()
        })?;
        let behind = self.replicas.iter().filter(|it| it.is_far_behind());
        let (topology, shards): (Vec<&Replica>, Vec<&Replica>) = behind.partition(|it| it.topology);
        let mut reasons = Vec::new();
        if !topology.is_empty() {
            reasons.push("the topology is far behind its leader".to_owned());
        }
        if !shards.is_empty() {
            reasons.push(format!(
                "{} replicas are far behind their leaders",
                shards.len()
            ));
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(reasons)
        }
    }
}

impl Replica {
    fn is_far_behind(&self) -> bool {
        self.led && self.committed.saturating_sub(self.applied) > LAG_MAX
    }
}

fn verdict(good: bool, why: impl FnOnce() -> String) -> Verdict {
    if good { Ok(()) } else { Err(vec![why()]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near() -> Replica {
        Replica {
            topology: false,
            led: true,
            committed: 10_000,
            applied: 10_000 - LAG_MAX,
        }
    }

    fn good() -> Look {
        Look {
            opened: true,
            joined: true,
            rejoined: true,
            leaving: false,
            replicas: vec![near(), near()],
        }
    }

    fn why(look: &Look) -> String {
        look.ready().unwrap_err().join("; ")
    }

    #[test]
    fn startup_ends_when_the_disk_is_read_whether_others_are_there_or_not() {
        let mut look = good();
        (look.joined, look.rejoined) = (false, false);
        assert!(look.startup().is_ok());
        look.opened = false;
        assert!(look.startup().is_err());
    }

    #[test]
    fn node_is_ready_once_it_has_joined_and_met_its_leaders() {
        assert_eq!(good().ready(), Ok(()));
        let mut look = good();
        look.rejoined = false;
        assert!(why(&look).contains("every leader"));
        look.joined = false;
        assert!(why(&look).contains("not part of a cluster"));
        look.opened = false;
        assert!(why(&look).contains("being read"));
    }

    #[test]
    fn lost_quorum_leaves_the_node_ready() {
        let mut look = good();
        for replica in &mut look.replicas {
            replica.led = false;
            replica.applied = 0; // whatever it was behind, nobody says so now
        }
        assert_eq!(look.ready(), Ok(()));
    }

    #[test]
    fn replica_far_behind_its_leader_is_not_ready() {
        let mut look = good();
        look.replicas[1].applied -= 1;
        assert_eq!(why(&look), "1 replicas are far behind their leaders");
        look.replicas[0].applied -= 1;
        look.replicas[0].topology = true;
        assert!(why(&look).contains("topology"));
    }

    #[test]
    fn leaving_node_is_not_ready() {
        let mut look = good();
        look.leaving = true;
        assert!(why(&look).contains("drained"));
    }
}
