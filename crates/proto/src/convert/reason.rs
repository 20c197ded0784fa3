//! Every reason an operation can be refused for, with its gRPC code. Reasons are stable: clients match on them.
//! Not here: texts and details (`error`).

use std::time::Duration;

use tonic::Code;

/// Whether a client should try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// Yes, after the delay that comes with the error.
    AfterDelay,
    /// Yes, with the same producer sequence, attempt id, receipt or request id: the outcome is unknown.
    WithSameIds,
    /// After reading again what it is based on.
    AfterReread,
    /// After renewing the credentials.
    AfterRenewal,
    /// Once; the fault is the server's.
    Once,
    /// No: the same request gives the same answer.
    No,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident, $retry:ident;)*) => {
        /// Why an operation was refused or failed.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The gRPC code it is sent with.
            #[must_use]
            pub const fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                }
            }

            /// Whether a client should try again.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)*
                }
            }
        }
    };
}

reasons! {
    /// The node cannot serve yet, or no longer knows what is true.
    NotReady = "NOT_READY", Unavailable, AfterDelay;
    /// No majority is reachable.
    NoQuorum = "NO_QUORUM", Unavailable, AfterDelay;
    /// The leader changed while the request was under way, and it was not done.
    LeaderChanged = "LEADER_CHANGED", Unavailable, AfterDelay;
    /// The node is about to stop.
    NodeDraining = "NODE_DRAINING", Unavailable, AfterDelay;
    /// The figures of the queue are not known now.
    DepthUnknown = "DEPTH_UNKNOWN", Unavailable, AfterDelay;

    /// It was proposed; whether it was committed is not known.
    OutcomeUnknown = "OUTCOME_UNKNOWN", DeadlineExceeded, WithSameIds;
    /// The deadline passed before anything was done.
    NotStarted = "NOT_STARTED", DeadlineExceeded, WithSameIds;

    /// The queue is at its limit and refuses.
    QueueFull = "QUEUE_FULL", ResourceExhausted, AfterDelay;
    /// A quota of the vhost or user is used up.
    OverQuota = "OVER_QUOTA", ResourceExhausted, AfterDelay;
    /// More was sent than the server had granted.
    OverCredit = "OVER_CREDIT", ResourceExhausted, AfterDelay;
    /// The node is short of memory.
    MemoryLow = "MEMORY_LOW", ResourceExhausted, AfterDelay;
    /// The node is short of disk.
    DiskLow = "DISK_LOW", ResourceExhausted, AfterDelay;
    /// Another limit is reached.
    LimitReached = "LIMIT_REACHED", ResourceExhausted, AfterDelay;

    /// There is no such queue.
    QueueNotFound = "QUEUE_NOT_FOUND", NotFound, No;
    /// There is no such exchange.
    ExchangeNotFound = "EXCHANGE_NOT_FOUND", NotFound, No;
    /// There is no such vhost.
    VhostNotFound = "VHOST_NOT_FOUND", NotFound, No;
    /// There is no such user.
    UserNotFound = "USER_NOT_FOUND", NotFound, No;
    /// There is no such scheduled message.
    ScheduleNotFound = "SCHEDULE_NOT_FOUND", NotFound, No;
    /// There is no such long job: it ended long ago, or with the node that ran it.
    OperationNotFound = "OPERATION_NOT_FOUND", NotFound, No;

    /// No queue takes the message, and it was published as mandatory.
    Unroutable = "UNROUTABLE", FailedPrecondition, No;
    /// No target queue has a consumer, and the publisher asked for one.
    NoResponders = "NO_RESPONDERS", FailedPrecondition, No;
    /// It exists with other settings.
    InequivalentArgument = "INEQUIVALENT_ARGUMENT", FailedPrecondition, No;
    /// It has consumers or bindings.
    InUse = "IN_USE", FailedPrecondition, No;
    /// The queue has messages.
    NotEmpty = "NOT_EMPTY", FailedPrecondition, No;
    /// The queue belongs to another connection.
    ResourceLocked = "RESOURCE_LOCKED", FailedPrecondition, No;
    /// What should be one step spans several shards.
    CrossShard = "CROSS_SHARD", FailedPrecondition, No;
    /// Another message of the atomic batch was refused.
    BatchAborted = "BATCH_ABORTED", FailedPrecondition, No;
    /// The lease of the delivery had ended.
    Expired = "EXPIRED", FailedPrecondition, No;
    /// Another consumer has the message now.
    NotOwner = "NOT_OWNER", FailedPrecondition, No;
    /// The scheduled message is ready or delivered already.
    TooLate = "TOO_LATE", FailedPrecondition, No;
    /// It needs a version that the cluster has not finalised: not all nodes are upgraded, or the upgrade is not finalised.
    NotFinalized = "NOT_FINALIZED", FailedPrecondition, No;
    /// The software of a node does not know the version, or the cluster has finalised a later one.
    VersionMismatch = "VERSION_MISMATCH", FailedPrecondition, No;
    /// The copies of a shard cannot be changed so, as its nodes are.
    CopiesRefused = "COPIES_REFUSED", FailedPrecondition, No;

    /// A newer epoch of the producer has taken over.
    ProducerFenced = "PRODUCER_FENCED", Aborted, AfterReread;
    /// The message group is another consumer's.
    GroupLocked = "GROUP_LOCKED", Aborted, AfterReread;
    /// It was changed since it was read.
    EtagMismatch = "ETAG_MISMATCH", Aborted, AfterReread;

    /// Another message has the same deduplication key.
    DedupConflict = "DEDUP_CONFLICT", AlreadyExists, No;
    /// The delivery was settled before.
    AlreadySettled = "ALREADY_SETTLED", AlreadyExists, No;

    /// The producer's sequence is older than what is remembered.
    SequenceTooOld = "SEQUENCE_TOO_OLD", OutOfRange, No;

    /// The message is larger than the limit.
    MessageTooLarge = "MESSAGE_TOO_LARGE", InvalidArgument, No;
    /// A field of the request makes no sense.
    BadArgument = "BAD_ARGUMENT", InvalidArgument, No;
    /// The receipt is not one of ours.
    BadReceipt = "BAD_RECEIPT", InvalidArgument, No;
    /// The filter does not parse.
    BadFilter = "BAD_FILTER", InvalidArgument, No;

    /// The user may not do this.
    AccessRefused = "ACCESS_REFUSED", PermissionDenied, No;
    /// The message's user-id is not the authenticated user.
    UserIdMismatch = "USER_ID_MISMATCH", PermissionDenied, No;

    /// The credentials are wrong.
    BadCredentials = "BAD_CREDENTIALS", Unauthenticated, AfterRenewal;
    /// The token has expired.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, AfterRenewal;

    /// The server does not have the feature.
    UnsupportedFeature = "UNSUPPORTED_FEATURE", Unimplemented, No;

    /// A stored record is damaged.
    CorruptRecord = "CORRUPT_RECORD", Internal, Once;
    /// A fault of the server.
    Bug = "BUG", Internal, Once;
}

impl Reason {
    /// The reason of that name; `None` for one that this version does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text)
    }

    /// The delay that is sent where none is given; `None` where retrying later does not help.
    #[must_use]
    pub const fn default_retry_delay(self) -> Option<Duration> {
        if !matches!(self.retry(), Retry::AfterDelay) {
            None
        } else if matches!(self.code(), Code::ResourceExhausted) {
            Some(Duration::from_secs(1))
        } else {
            Some(Duration::from_millis(200))
        }
    }
}

#[cfg(test)]
mod tests;
