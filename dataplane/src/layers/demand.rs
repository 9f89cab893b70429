//! How many of a producer's encodings its consumers on this core would take, for control to tell
//! the sender.
#![forbid(unsafe_code)]

use crate::core::Core;
use crate::message::Event;
use crate::store::ProducerKey;

impl Core {
    /// Has control told in this turn how many of a producer's encodings are wanted, if that has
    /// changed; once, however many consumers have changed their mind.
    pub(crate) fn count_demand_later(&mut self, producer: ProducerKey) {
        let source = &mut self.producers[producer];
        if source.encodings.len() > 1 && !std::mem::replace(&mut source.demand_stale, true) {
            self.turn.stale_demands.push(producer);
        }
    }

    /// Does what [`Core::count_demand_later`] noted.
    pub(crate) fn count_stale_demands(&mut self) {
        while let Some(key) = self.turn.stale_demands.pop() {
            let Some(source) = self.producers.get_mut(key) else { continue };
            if !std::mem::replace(&mut source.demand_stale, false) {
                continue;
            }
            let wanted = source.subscriptions.iter().map(|subscription| subscription.wanted);
            let count = wanted.max().unwrap_or(0).min(source.encodings.len() as u8);
            if std::mem::replace(&mut source.demand, count) != count {
                self.events.push_back(Event::EncodingsWanted { producer: source.id, count });
            }
        }
    }
}
