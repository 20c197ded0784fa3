//! Tests of the conversions of `error`. Not here: the conversions themselves.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn every_reason_survives_the_status_of_a_call() {
    for &reason in Reason::ALL {
        let error = ApiError::new(reason, "text")
            .with("queue", "orders")
            .with("limit_bytes", 5);
        let status = tonic::Status::from(&error);
        assert_eq!(status.code(), reason.code());
        assert_eq!(status.message(), "text");
        assert_eq!(ApiError::from_tonic(&status), Some(error));
    }
}

#[test]
fn every_detail_survives_in_band() {
    let error = ApiError::new(Reason::BadArgument, "text")
        .retry_after(Duration::from_millis(1_500))
        .field("batch.entries", "more than 1000")
        .resource("queue", "orders");
    let status = error.to_status();
    assert_eq!(status.code, 3);
    assert_eq!(status.details.len(), 4);
    assert_eq!(ApiError::from_status(&status), Some(error));
}

#[test]
fn retry_info_is_always_there_where_a_later_retry_helps() {
    for &reason in Reason::ALL {
        let status = ApiError::new(reason, "text").to_status();
        let delay = status.details.iter().find_map(unpack::<RetryInfo>);
        let expected = matches!(
            reason.code(),
            tonic::Code::Unavailable | tonic::Code::ResourceExhausted
        );
        assert_eq!(delay.is_some(), expected, "{reason:?}");
    }
}

#[test]
fn error_info_names_reason_and_domain() {
    let status = ApiError::new(Reason::NoQuorum, "text").to_status();
    assert_eq!(
        status.details[0].type_url,
        "type.googleapis.com/google.rpc.ErrorInfo"
    );
    let info = unpack::<ErrorInfo>(&status.details[0]).unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("NO_QUORUM", "warren")
    );
}

#[test]
fn foreign_and_damaged_statuses_are_not_ours() {
    assert_eq!(
        ApiError::from_tonic(&tonic::Status::internal("plain")),
        None
    );
    let garbage = tonic::Status::with_details(tonic::Code::Internal, "", vec![0xff, 1].into());
    assert_eq!(ApiError::from_tonic(&garbage), None);
    let mut status = ApiError::new(Reason::Bug, "text").to_status();
    status.details[0] = pack(&ErrorInfo {
        reason: "BUG".to_owned(),
        domain: "elsewhere".to_owned(),
        ..ErrorInfo::default()
    });
    assert_eq!(ApiError::from_status(&status), None);
    status.details[0] = pack(&ErrorInfo {
        reason: "OF_A_LATER_VERSION".to_owned(),
        domain: ERROR_DOMAIN.to_owned(),
        ..ErrorInfo::default()
    });
    assert_eq!(ApiError::from_status(&status), None);
}
