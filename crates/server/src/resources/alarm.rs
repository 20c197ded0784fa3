//! When an alarm is raised and cleared: it clears a good step beyond where it was raised, so that it does not flutter. Pure.

/// A twentieth of the level lies between raising and clearing.
const STEP: u64 = 20;

/// A value with its level. `None`: not known, which is no alarm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// Whether the alarm is raised already.
    pub(super) before: bool,
    pub(super) value: Option<u64>,
    pub(super) level: Option<u64>,
}

impl Watched {
    pub(super) fn is_too_much(self) -> bool {
        let (Some(value), Some(level)) = (self.value, self.level) else {
            return false;
        };
        let step = if self.before { level / STEP } else { 0 };
        value > level - step
    }

    pub(super) fn is_too_little(self) -> bool {
        let (Some(value), Some(level)) = (self.value, self.level) else {
            return false;
        };
        let step = if self.before { level / STEP } else { 0 };
        value < level.saturating_add(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(before: bool, value: u64) -> Watched {
        Watched {
            before,
            value: Some(value),
            level: Some(1_000),
        }
    }

    #[test]
    fn memory_alarm_rises_above_its_level_and_clears_a_step_below() {
        for (before, value, alarm) in [
            (false, 1_000, false),
            (false, 1_001, true),
            (true, 1_000, true),
            (true, 951, true),
            (true, 950, false),
        ] {
            assert_eq!(
                watched(before, value).is_too_much(),
                alarm,
                "{before} {value}"
            );
        }
    }

    #[test]
    fn disk_alarm_rises_below_its_level_and_clears_a_step_above() {
        for (before, value, alarm) in [
            (false, 1_000, false),
            (false, 999, true),
            (true, 1_000, true),
            (true, 1_049, true),
            (true, 1_050, false),
        ] {
            assert_eq!(
                watched(before, value).is_too_little(),
                alarm,
                "{before} {value}"
            );
        }
    }

    #[test]
    fn unknown_value_raises_nothing() {
        let unknown = Watched {
            value: None,
            ..watched(true, 0)
        };
        assert!(!unknown.is_too_much() && !unknown.is_too_little());
    }
}
