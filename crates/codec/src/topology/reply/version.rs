//! Refusals about versions. Not here: other refusals (`refusal`).

use warren_proto::internal_v1 as pb;
use warren_proto::internal_v1::CommandRefusalKind as Kind;
use warren_topology::Refusal;
use warren_types::{ClusterVersion, KnownVersions, NodeId};

/// Empty for any other refusal.
pub(super) fn encode(refusal: &Refusal) -> pb::CommandRefusal {
    let of = |kind: Kind, version: ClusterVersion| pb::CommandRefusal {
        kind: kind.into(),
        version: version.0,
        ..pb::CommandRefusal::default()
    };
    let known = |it: pb::CommandRefusal, node: NodeId, knows: KnownVersions| pb::CommandRefusal {
        number: node.0,
        oldest_version: knows.oldest.0,
        newest_version: knows.newest.0,
        ..it
    };
    if let Refusal::VersionNotKnown {
        version,
        node,
        knows,
    } = *refusal
    {
        return known(of(Kind::VersionNotKnown, version), node, knows);
    }
    if let Refusal::SoftwareNotFit {
        node,
        knows,
        finalised,
    } = *refusal
    {
        return known(of(Kind::SoftwareNotFit, finalised), node, knows);
    }
    if let Refusal::VersionGoesBack { version, finalised } = *refusal {
        return pb::CommandRefusal {
            newest_version: finalised.0,
            ..of(Kind::VersionGoesBack, version)
        };
    }
    pb::CommandRefusal::default()
}

fn knows(it: &pb::CommandRefusal) -> KnownVersions {
    KnownVersions {
        oldest: ClusterVersion(it.oldest_version),
        newest: ClusterVersion(it.newest_version),
    }
}

pub(super) fn decode_not_known(it: &pb::CommandRefusal) -> Refusal {
    Refusal::VersionNotKnown {
        version: ClusterVersion(it.version),
        node: NodeId(it.number),
        knows: knows(it),
    }
}

pub(super) fn decode_goes_back(it: &pb::CommandRefusal) -> Refusal {
    Refusal::VersionGoesBack {
        version: ClusterVersion(it.version),
        finalised: ClusterVersion(it.newest_version),
    }
}

pub(super) fn decode_not_fit(it: &pb::CommandRefusal) -> Refusal {
    Refusal::SoftwareNotFit {
        node: NodeId(it.number),
        knows: knows(it),
        finalised: ClusterVersion(it.version),
    }
}
