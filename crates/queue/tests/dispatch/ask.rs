//! What a line of a script asks of deliveries. Not here: what is done with it (`script`).

use std::sync::Arc;

use warren_queue::dispatch::io::{
    End, OutputsId, ReturnRequest, SettleRequest, TogetherPart, TogetherRequest, Token, Wait,
};
use warren_queue::entry::{AttemptOutcome, ReturnKind, Said, SettleReason};
use warren_types::{QueueId, ShardTime};

use crate::line::Line;

fn said(line: &Line<'_>, outcome: AttemptOutcome) -> Option<Arc<Said>> {
    let said = Said::new(outcome, line.text("said")?, "", "worker")?;
    Some(Arc::new(said))
}

pub(crate) fn settle(line: &Line<'_>) -> SettleRequest {
    let (node, token) = (line.node(), Token(line.number("token", 1)));
    SettleRequest {
        node,
        token,
        queue: line.queue(),
        items: line.held("items"),
        reason: if line.has("rejected") {
            SettleReason::Rejected
        } else {
            SettleReason::Acked
        },
        outputs: line.outputs(),
        said: said(line, AttemptOutcome::Rejected),
    }
}

/// `items` of `queue` end as the words say, `also` of `also_queue` are acked.
pub(crate) fn together(line: &Line<'_>) -> TogetherRequest {
    let (settle, give_back) = (settle(line), give_back(line));
    let end = if line.has("return") || line.has("park") {
        End::Return(give_back.kind, give_back.wait)
    } else {
        End::Settle(settle.reason)
    };
    let mut parts = vec![TogetherPart {
        queue: settle.queue,
        items: settle.items,
        end,
    }];
    if line.has("also") {
        parts.push(TogetherPart {
            queue: QueueId(line.number("also_queue", 1)),
            items: line.held("also"),
            end: End::Settle(SettleReason::Acked),
        });
    }
    TogetherRequest {
        node: settle.node,
        token: settle.token,
        outputs: line.outputs().unwrap_or(OutputsId(0)),
        parts,
        said: give_back.said,
    }
}

pub(crate) fn give_back(line: &Line<'_>) -> ReturnRequest {
    let (node, token) = (line.node(), Token(line.number("token", 1)));
    ReturnRequest {
        node,
        token,
        queue: line.queue(),
        items: line.held("items"),
        kind: line.kind().unwrap_or(ReturnKind::Failed),
        wait: if line.has("park") {
            Wait::Parked
        } else if line.has("not_before") {
            Wait::Until(ShardTime(line.number("not_before", 0)))
        } else if line.has("by_policy") {
            Wait::ByPolicy
        } else {
            Wait::Not
        },
        said: said(line, AttemptOutcome::Failed),
    }
}
