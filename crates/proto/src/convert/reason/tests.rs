//! Tests of the conversions of `reason`. Not here: the conversions themselves.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

/// The published table: code, then its reasons. Written out a second time on purpose, since clients depend on it.
const TABLE: &[(Code, &[&str])] = &[
    (
        Code::Unavailable,
        &[
            "NOT_READY",
            "NO_QUORUM",
            "LEADER_CHANGED",
            "NODE_DRAINING",
            "DEPTH_UNKNOWN",
        ],
    ),
    (Code::DeadlineExceeded, &["OUTCOME_UNKNOWN", "NOT_STARTED"]),
    (
        Code::ResourceExhausted,
        &[
            "QUEUE_FULL",
            "OVER_QUOTA",
            "OVER_CREDIT",
            "MEMORY_LOW",
            "DISK_LOW",
            "LIMIT_REACHED",
        ],
    ),
    (
        Code::NotFound,
        &[
            "QUEUE_NOT_FOUND",
            "EXCHANGE_NOT_FOUND",
            "VHOST_NOT_FOUND",
            "USER_NOT_FOUND",
            "SCHEDULE_NOT_FOUND",
            "OPERATION_NOT_FOUND",
        ],
    ),
    (
        Code::FailedPrecondition,
        &[
            "UNROUTABLE",
            "NO_RESPONDERS",
            "INEQUIVALENT_ARGUMENT",
            "IN_USE",
            "NOT_EMPTY",
            "RESOURCE_LOCKED",
            "CROSS_SHARD",
            "EXPIRED",
            "NOT_OWNER",
            "TOO_LATE",
            "BATCH_ABORTED",
            "NOT_FINALIZED",
            "VERSION_MISMATCH",
            "COPIES_REFUSED",
        ],
    ),
    (
        Code::Aborted,
        &["PRODUCER_FENCED", "GROUP_LOCKED", "ETAG_MISMATCH"],
    ),
    (Code::AlreadyExists, &["DEDUP_CONFLICT", "ALREADY_SETTLED"]),
    (Code::OutOfRange, &["SEQUENCE_TOO_OLD"]),
    (
        Code::InvalidArgument,
        &[
            "MESSAGE_TOO_LARGE",
            "BAD_ARGUMENT",
            "BAD_RECEIPT",
            "BAD_FILTER",
        ],
    ),
    (
        Code::PermissionDenied,
        &["ACCESS_REFUSED", "USER_ID_MISMATCH"],
    ),
    (Code::Unauthenticated, &["BAD_CREDENTIALS", "TOKEN_EXPIRED"]),
    (Code::Unimplemented, &["UNSUPPORTED_FEATURE"]),
    (Code::Internal, &["CORRUPT_RECORD", "BUG"]),
];

#[test]
fn every_published_reason_has_its_code() {
    for (code, reasons) in TABLE {
        for text in *reasons {
            let reason = Reason::parse(text).unwrap_or_else(|| panic!("{text} is missing"));
            assert_eq!(reason.code(), *code, "{text}");
            assert_eq!(reason.as_str(), *text);
        }
    }
}

#[test]
fn no_reason_is_unpublished_or_named_twice() {
    let published: BTreeSet<&str> = TABLE
        .iter()
        .flat_map(|(_, it)| it.iter().copied())
        .collect();
    let ours: BTreeSet<&str> = Reason::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(ours, published);
    assert_eq!(ours.len(), Reason::ALL.len());
}

#[test]
fn unknown_reason_is_not_guessed() {
    assert_eq!(Reason::parse("not_ready"), None);
    assert_eq!(Reason::parse(""), None);
}
