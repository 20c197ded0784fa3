//! Class tx (90): transactions.

use super::class;

class! { 90;
    Select = 10 [] {} []
    SelectOk = 11 [] {} []
    Commit = 20 [] {} []
    CommitOk = 21 [] {} []
    Rollback = 30 [] {} []
    RollbackOk = 31 [] {} []
}
