//! Tells the sender of a simulcast which of its encodings anyone would take, so that it need not
//! encode and upload the others.
//!
//! ```text
//! data core 0: 3 wanted ─┐
//! data core 1: 1 wanted ─┴─▶ the most: 3 ──raised: at once────────▶ the sender
//!                                         ──lowered: LOWER_AFTER──▶
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use opencall_dataplane::message::{CoreId, ProducerId};

use crate::api::Notification;
use crate::control::{Control, Timer};

/// An encoding is stopped once nobody has wanted it for so long. It costs a key frame and some
/// hundred milliseconds to have it back, and tiles that change their size or a link that is bad for
/// a moment should not cost that each time.
pub const LOWER_AFTER: Duration = Duration::from_secs(3);

/// What is wanted of one producer, and what its sender was told.
#[derive(Debug)]
pub(crate) struct Demand {
    /// Encodings wanted on each core, counted from the lowest; cores that want none are absent.
    wanted: BTreeMap<CoreId, u8>,
    /// Encodings wanted of each slot of the stage or view that it is on, or about to be.
    on_stage: BTreeMap<ProducerId, u8>,
    /// How many its sender was told to send; at first it sends all.
    told: u8,
}

impl Demand {
    /// Of a producer with so many encodings.
    pub fn new(encodings: usize) -> Self {
        Demand {
            wanted: BTreeMap::new(),
            on_stage: BTreeMap::new(),
            told: u8::try_from(encodings).unwrap_or(u8::MAX),
        }
    }

    fn set(&mut self, core: CoreId, count: u8) {
        match count {
            0 => self.wanted.remove(&core),
            count => self.wanted.insert(core, count),
        };
    }

    /// The most that any core wants.
    pub fn wanted_most(&self) -> u8 {
        self.wanted.values().copied().max().unwrap_or(0)
    }

    /// How many are wanted by way of a slot.
    pub fn set_on_stage(&mut self, stage: ProducerId, count: u8) {
        match count {
            0 => self.on_stage.remove(&stage),
            count => self.on_stage.insert(stage, count),
        };
    }

    /// How many should be sent. The lowest always is: whoever comes next has a picture soon.
    fn count(&self) -> u8 {
        let on_stage = self.on_stage.values().copied().max().unwrap_or(0);
        self.wanted_most().max(on_stage).max(1)
    }
}

impl Control {
    /// A data core says how many encodings of a producer its consumers would take.
    pub(crate) fn encodings_wanted(&mut self, core: CoreId, id: ProducerId, count: u8) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        // What a core said before its pipe was closed may come after that.
        if !producer.reaches(core) {
            return;
        }
        let count = usize::from(count).min(producer.encoding_count());
        producer.demand.set(core, count as u8);
        self.review_demand(id);
    }

    /// A producer no longer reaches a core.
    pub(crate) fn forget_demand(&mut self, core: CoreId, id: ProducerId) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        producer.demand.set(core, 0);
        self.review_demand(id);
    }

    /// A core was replaced: the new one says anew what its consumers would take, and until then
    /// what the old one said is not lowered.
    pub(crate) fn forget_demands_of(&mut self, core: CoreId) {
        let reaching = self.producers.iter().filter(|(_, producer)| producer.reaches(core));
        let reaching: Vec<ProducerId> = reaching.map(|(&id, _)| id).collect();
        for id in reaching {
            self.forget_demand(core, id);
        }
    }

    /// Asks for more at once, and for less in a while.
    pub(crate) fn review_demand(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get(&id) else { return };
        if producer.seat.is_some() {
            return self.share_demand(id);
        }
        let (told, count) = (producer.demand.told, producer.demand.count());
        if producer.encoding_count() < 2 {
            return;
        }
        if count >= told {
            self.timers.cancel(Timer::Demand(id));
        } else if !self.timers.is_set(Timer::Demand(id)) {
            self.timers.set(Timer::Demand(id), self.now + LOWER_AFTER);
        }
        if count > told {
            self.tell_demand(id);
        }
    }

    /// Tells a sender what is wanted of its producer.
    pub(crate) fn tell_demand(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        let count = producer.demand.count();
        producer.demand.told = count;
        let session = producer.session;
        let producer_id = self.ids.text(id.0);
        let spatial_layer = count - 1;
        self.notify(session, Notification::ProducerMaxSpatialLayer { producer_id, spatial_layer });
    }
}
