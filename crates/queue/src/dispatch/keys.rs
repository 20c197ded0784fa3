//! Who holds which group key: counts over what is in flight. Not here: the messages themselves (`in_flight`), who may get more (`groups`).

use std::collections::BTreeMap;

use super::consumer::Holder;

/// What is in flight of one key.
#[derive(Debug)]
pub(super) struct KeyFlights {
    holder: Holder,
    count: u32,
    /// Further holders: only while a consumer takes over from another, or a settle came without its consumer.
    others: Vec<(Holder, u32)>,
    /// Of all: messages that failed, or are failing.
    stops: u32,
}

impl KeyFlights {
    /// The only one who may get more of the key.
    pub(super) fn holder(&self) -> Option<Holder> {
        (self.others.is_empty() && self.holder != Holder::NOBODY).then_some(self.holder)
    }

    /// A message of the key failed, and has not left its queue.
    pub(super) fn has_failed(&self) -> bool {
        self.stops > 0
    }

    fn add(&mut self, holder: Holder) {
        if self.holder == holder {
            self.count += 1;
            return;
        }
        match self.others.iter_mut().find(|(it, _)| *it == holder) {
            Some((_, count)) => *count += 1,
            None => self.others.push((holder, 1)),
        }
    }

    /// True: nothing is left.
    fn take(&mut self, holder: Holder) -> bool {
        if self.holder == holder {
            self.count -= 1;
            if self.count > 0 {
                return false;
            }
            return match self.others.pop() {
                Some((holder, count)) => {
                    (self.holder, self.count) = (holder, count);
                    false
                }
                None => true,
            };
        }
        if let Some((_, count)) = self.others.iter_mut().find(|(it, _)| *it == holder) {
            *count -= 1;
        }
        self.others.retain(|(_, count)| *count > 0);
        false
    }
}

/// The keys of a queue that have something in flight.
#[derive(Debug, Default)]
pub(super) struct Keys {
    all: BTreeMap<u64, KeyFlights>,
    /// Changed since they were last asked for; emptied in each step.
    touched: Vec<u64>,
}

impl Keys {
    pub(super) fn get(&self, group: u64) -> Option<&KeyFlights> {
        self.all.get(&group)
    }

    pub(super) fn take_touched(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn add(&mut self, group: u64, holder: Holder, failed: bool) {
        let key = self.all.entry(group).or_insert(KeyFlights {
            holder,
            count: 0,
            others: Vec::new(),
            stops: 0,
        });
        key.add(holder);
        key.stops += u32::from(failed);
        self.touched.push(group);
    }

    pub(super) fn take(&mut self, group: u64, holder: Holder, failed: bool) {
        if let Some(key) = self.all.get_mut(&group) {
            key.stops -= u32::from(failed);
            if key.take(holder) {
                self.all.remove(&group);
            }
        }
        self.touched.push(group);
    }

    pub(super) fn stop(&mut self, group: u64) {
        if let Some(key) = self.all.get_mut(&group) {
            key.stops += 1;
        }
        self.touched.push(group);
    }
}
