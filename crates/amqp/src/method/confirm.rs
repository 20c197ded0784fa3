//! Class confirm (85): publisher confirms.

use super::class;

class! { 85;
    Select = 10 [] { no_wait: bool } []
    SelectOk = 11 [] {} []
}
