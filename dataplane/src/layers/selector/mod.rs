//! What of its producer a consumer gets: one encoding, and of that some temporal layers.
//!
//! | word | what it is |
//! |---|---|
//! | preferred | the most its client wants |
//! | target | what the allocation gave; a key frame of it makes the switch |
//! | hoped | what the allocation would give if every encoding arrived |
//! | current | what goes out |
//! | reported | the current one that control was told last |
//!
//! Worked trace of a simulcast of three encodings:
//!
//! ```text
//!                             target   current   brought
//! new                         0        —         0
//! a key frame of 0 goes out   0        0         0
//! the allocation gives 2      2        0         0, 2
//! a key frame of 2 goes out   2        2         2
//! the source of 2 breaks off  2        2, waits  2
//! no room                     —        —         —
//! ```
#![forbid(unsafe_code)]

mod temporal;

use opencall_wire::rtp::payload::PayloadInfo;

use crate::ingress::source::SourceId;
use crate::layers::EncodingIndex;
use crate::layers::selector::temporal::TemporalLayers;
use crate::message::Layers;

/// The choice of one consumer. What each packet touches lies in it, the rest on the heap.
#[derive(Debug)]
#[repr(C)]
pub struct Selector {
    current: Option<EncodingIndex>,
    /// The source of it that is forwarded; `None` when what came last does not go on with what went
    /// out, and the next key frame has to.
    source: Option<SourceId>,
    target: Option<EncodingIndex>,
    /// Whether every layer of the current encoding goes out.
    takes_all: bool,
    /// The source broke off, and nobody has been asked for a key frame yet.
    key_frame_due: bool,
    rest: Box<Rest>,
}

#[derive(Debug)]
struct Rest {
    /// Highest encoding that the client wants.
    preferred: Option<EncodingIndex>,
    hoped: Option<EncodingIndex>,
    reported: Option<EncodingIndex>,
    temporal: TemporalLayers,
}

impl Selector {
    /// Of a consumer that gets nothing yet; `guess` is what it may well get.
    pub fn new(preferred: Option<Layers>, guess: EncodingIndex) -> Self {
        let rest = Rest {
            preferred: preferred.map(|layers| EncodingIndex(layers.spatial)),
            hoped: None,
            reported: None,
            temporal: TemporalLayers::new(preferred.and_then(|layers| layers.temporal)),
        };
        Selector {
            current: None,
            source: None,
            target: Some(guess),
            takes_all: false,
            key_frame_due: false,
            rest: Box::new(rest),
        }
    }

    /// Takes what the client wants at most.
    pub fn prefer(&mut self, layers: Layers) {
        self.rest.preferred = Some(EncodingIndex(layers.spatial));
        self.rest.temporal.want(layers.temporal);
        self.takes_all = false;
    }

    /// The highest encoding that the client wants.
    pub fn preferred(&self) -> Option<EncodingIndex> {
        self.rest.preferred
    }

    /// The encoding that goes out.
    #[inline]
    pub fn current(&self) -> Option<EncodingIndex> {
        self.current
    }

    /// The encoding that should: a key frame of it makes the switch.
    pub fn target(&self) -> Option<EncodingIndex> {
        self.target
    }

    /// Takes what the allocation gives of what arrives, and would give if all did; returns whether
    /// anything has changed. A `target` of `None` leaves what was given before.
    pub fn give(&mut self, target: Option<EncodingIndex>, hoped: Option<EncodingIndex>) -> bool {
        let target = target.or(self.target).or(Some(EncodingIndex::LOWEST));
        let is_new = (target, hoped) != (self.target, self.rest.hoped);
        (self.target, self.rest.hoped) = (target, hoped);
        is_new
    }

    /// The allocation has no room for anything; returns whether that has changed.
    pub fn leave_out(&mut self, hoped: Option<EncodingIndex>) -> bool {
        let is_new = (None, None, hoped) != (self.target, self.current, self.rest.hoped);
        self.restart();
        (self.target, self.rest.hoped) = (None, hoped);
        is_new
    }

    /// Begins anew at the next key frame.
    pub fn restart(&mut self) {
        (self.current, self.source) = (None, None);
    }

    /// What came last does not go on with what went out: the next key frame has to, and is to be
    /// asked for, if something went on until now.
    pub fn break_off(&mut self) {
        self.key_frame_due |= self.source.take().is_some();
    }

    /// Whether a key frame is to be asked for since the last call.
    pub fn take_key_frame_due(&mut self) -> bool {
        std::mem::take(&mut self.key_frame_due)
    }

    /// Begins an encoding, or a source of it.
    pub fn begin(&mut self, encoding: EncodingIndex, source: SourceId) {
        (self.current, self.source) = (Some(encoding), Some(source));
    }

    /// Whether packets of this encoding may begin something.
    pub fn may_begin(&self, encoding: EncodingIndex) -> bool {
        [self.current, self.target].contains(&Some(encoding))
    }

    /// Whether a source of an encoding is being forwarded.
    #[inline]
    pub fn forwards(&self, encoding: u8, source: SourceId) -> bool {
        Some(EncodingIndex(encoding)) == self.current && Some(source) == self.source
    }

    /// Whether this source of the current encoding is being forwarded.
    pub fn follows(&self, source: SourceId) -> bool {
        self.source == Some(source)
    }

    /// Whether only a key frame helps.
    pub fn waits(&self) -> bool {
        self.target.is_some() && (self.target != self.current || self.source.is_none())
    }

    /// Bit per encoding that the gather phase should bring.
    pub fn wanted_encodings(&self) -> u8 {
        [self.current, self.target].into_iter().flatten().fold(0, |bits, e| bits | 1 << e.0)
    }

    /// How many encodings, from the lowest, the producer should send.
    pub fn wanted_count(&self) -> u8 {
        let highest = [self.current, self.target, self.rest.hoped].into_iter().flatten().max();
        highest.map_or(0, |encoding| encoding.0.saturating_add(1))
    }

    /// What goes out, if control has not been told.
    pub fn take_report(&mut self) -> Option<Option<Layers>> {
        if self.rest.reported == self.current {
            return None;
        }
        self.rest.reported = self.current;
        Some(self.current.map(|encoding| Layers { spatial: encoding.0, temporal: None }))
    }

    /// Whether a packet's layer goes out.
    #[inline]
    pub fn takes(&mut self, info: &PayloadInfo) -> bool {
        if self.takes_all {
            return true;
        }
        let takes = self.rest.temporal.takes(info);
        self.takes_all = self.rest.temporal.takes_all();
        takes
    }

    /// To be called once a second: whether only a key frame still helps to enter a layer.
    pub fn needs_key_frame(&mut self) -> bool {
        self.rest.temporal.needs_key_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SourceId = SourceId::FIRST;

    /// What happens to a selector.
    enum Happens {
        Given(Option<u8>, Option<u8>),
        LeftOut(Option<u8>),
        Begins(u8),
        BreaksOff,
        Restarts,
        Prefers(u8, Option<u8>),
    }

    /// Target, current, what is brought, how much is wanted, whether it waits.
    type Seen = (Option<u8>, Option<u8>, u8, u8, bool);

    fn seen(selector: &Selector) -> Seen {
        let number = |encoding: Option<EncodingIndex>| encoding.map(|encoding| encoding.0);
        let (target, current) = (number(selector.target()), number(selector.current()));
        let (brought, count) = (selector.wanted_encodings(), selector.wanted_count());
        (target, current, brought, count, selector.waits())
    }

    #[test]
    fn follows_the_worked_trace() {
        use Happens::*;
        let mut selector = Selector::new(None, EncodingIndex::LOWEST);
        assert_eq!(seen(&selector), (Some(0), None, 0b1, 1, true));
        let index = |number: Option<u8>| number.map(EncodingIndex);
        for (happens, wanted, report) in [
            (Begins(0), (Some(0), Some(0), 0b1, 1, false), Some(Some(0))),
            (Given(Some(2), Some(2)), (Some(2), Some(0), 0b101, 3, true), None),
            (Given(None, Some(1)), (Some(2), Some(0), 0b101, 3, true), None),
            (Begins(2), (Some(2), Some(2), 0b100, 3, false), Some(Some(2))),
            (Prefers(1, None), (Some(2), Some(2), 0b100, 3, false), None),
            (Given(Some(1), Some(1)), (Some(1), Some(2), 0b110, 3, true), None),
            (Begins(1), (Some(1), Some(1), 0b10, 2, false), Some(Some(1))),
            (BreaksOff, (Some(1), Some(1), 0b10, 2, true), None),
            (Begins(1), (Some(1), Some(1), 0b10, 2, false), None),
            (LeftOut(Some(1)), (None, None, 0, 2, false), Some(None)),
            (LeftOut(None), (None, None, 0, 0, false), None),
            (Given(None, None), (Some(0), None, 0b1, 1, true), None),
            (Restarts, (Some(0), None, 0b1, 1, true), None),
        ] {
            match happens {
                Given(target, hoped) => _ = selector.give(index(target), index(hoped)),
                LeftOut(hoped) => _ = selector.leave_out(index(hoped)),
                Begins(encoding) => selector.begin(EncodingIndex(encoding), SOURCE),
                BreaksOff => {
                    selector.break_off();
                    assert!(selector.take_key_frame_due());
                    selector.break_off();
                    assert!(!selector.take_key_frame_due(), "once");
                }
                Restarts => selector.restart(),
                Prefers(spatial, temporal) => selector.prefer(Layers { spatial, temporal }),
            }
            assert_eq!(seen(&selector), wanted);
            let told = selector.take_report();
            assert_eq!(told.map(|layers| layers.map(|layers| layers.spatial)), report);
        }
        assert_eq!(selector.preferred(), Some(EncodingIndex(1)));
    }

    #[test]
    fn what_changes_nothing_says_so() {
        let mut selector = Selector::new(None, EncodingIndex::LOWEST);
        let one = Some(EncodingIndex(1));
        assert!(selector.give(one, one) && !selector.give(one, one) && !selector.give(None, one));
        assert!(selector.leave_out(one) && !selector.leave_out(one) && selector.leave_out(None));
    }

    #[test]
    fn only_its_own_source_goes_on() {
        let mut selector = Selector::new(None, EncodingIndex::LOWEST);
        selector.begin(EncodingIndex(1), SOURCE);
        assert!(selector.forwards(1, SOURCE) && selector.follows(SOURCE));
        assert!(!selector.forwards(0, SOURCE) && !selector.forwards(1, SOURCE.next()));
        assert!(selector.may_begin(EncodingIndex(0)) && selector.may_begin(EncodingIndex(1)));
        assert!(!selector.may_begin(EncodingIndex(2)));
    }
}
