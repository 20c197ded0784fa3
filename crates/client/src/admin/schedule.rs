//! Taking scheduled messages back. Not here: scheduling them (`Message::after`), their handles (`publisher::Outcome`).

use warren_proto::v1;

use crate::{
    connection::{Attempt, Connection},
    error::{Error, Refusal},
};

/// What became of a message that was to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancellation {
    /// It will not be delivered.
    Cancelled,
    /// It is ready, was handed out, or has left its queue.
    TooLate,
    /// No such scheduled message.
    NotFound,
    /// Not allowed, or not known: asking again is safe.
    Failed(Box<Refusal>),
}

impl Connection {
    /// Takes up to 1,000 scheduled messages back by their handles, answered after commit; outcomes in their order. Asking again gives
    /// the same answer.
    ///
    /// # Errors
    /// No node answers in time.
    pub async fn cancel_scheduled(
        &self,
        vhost: &str,
        handles: &[String],
    ) -> Result<Vec<Cancellation>, Error> {
        let request = v1::CancelScheduledRequest {
            vhost: vhost.to_owned(),
            schedule_handles: handles.to_vec(),
        };
        let call = |attempt: Attempt| {
            let request = attempt.request(request.clone());
            async move { attempt.messaging().cancel_scheduled(request).await }
        };
        let response = self.call("cancelling", call).await?;
        if response.results.len() != handles.len() {
            return Err(Error::BadAnswer {
                operation: "cancelling",
                detail: format!(
                    "{} results for {} handles",
                    response.results.len(),
                    handles.len()
                ),
            });
        }
        Ok(response.results.iter().map(plain).collect())
    }
}

fn plain(result: &v1::CancelResult) -> Cancellation {
    match v1::CancelOutcome::try_from(result.outcome) {
        Ok(v1::CancelOutcome::Cancelled) => Cancellation::Cancelled,
        Ok(v1::CancelOutcome::TooLate) => Cancellation::TooLate,
        Ok(v1::CancelOutcome::NotFound) => Cancellation::NotFound,
        // An outcome that this version does not know counts as an error.
        Ok(v1::CancelOutcome::Unspecified) | Err(_) => {
            Cancellation::Failed(Box::new(Refusal::from_in_band(result.error.as_ref())))
        }
    }
}
