//! What of its producer a consumer gets: one encoding, and of that some temporal and, where there
//! are several inside (SVC), spatial layers.
//!
//! | word | what it is |
//! |---|---|
//! | preferred | the most its client wants |
//! | target | what the allocation gave; a key frame of it makes the switch |
//! | hoped | what the allocation would give if every encoding arrived |
//! | current | what goes out |
//! | reported | the current one that this core told control last, if it did |
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

mod svc;
mod temporal;

use opencall_wire::time::Time;

use crate::ingress::packet::MediaPacket;
use crate::ingress::source::SourceId;
use crate::layers::EncodingIndex;
pub use crate::layers::selector::svc::InnerLayers;
use crate::layers::selector::svc::SvcSelector;
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
    mode: Mode,
    /// The source broke off, and nobody has been asked for a key frame yet.
    key_frame_due: bool,
    rest: Box<Rest>,
}

/// How the packets of the current encoding are looked at; in one byte, for which there is room in
/// the consumer's cache lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode(u8);

impl Mode {
    /// One spatial layer: temporal layers are chosen.
    const TEMPORAL: Mode = Mode(0);

    /// One spatial layer, and every temporal layer goes out.
    const ALL: Mode = Mode(1);

    /// Several spatial layers, of which this one ends a picture.
    const fn svc(top: u8) -> Self {
        Mode(2 + top)
    }

    /// The spatial layer that ends a picture, where there are several.
    const fn top(self) -> Option<u8> {
        self.0.checked_sub(2)
    }
}

#[derive(Debug)]
struct Rest {
    /// The most that the client wants.
    preferred: Option<Layers>,
    hoped: Option<EncodingIndex>,
    reported: Option<Option<Layers>>,
    temporal: TemporalLayers,
    svc: SvcSelector,
}

impl Selector {
    /// Of a consumer that gets nothing yet; `guess` is what it may well get.
    pub fn new(preferred: Option<Layers>, guess: EncodingIndex) -> Self {
        let rest = Rest {
            preferred,
            hoped: None,
            reported: None,
            temporal: TemporalLayers::new(preferred.and_then(|layers| layers.temporal)),
            svc: SvcSelector::default(),
        };
        Selector {
            current: None,
            source: None,
            target: Some(guess),
            mode: Mode::TEMPORAL,
            key_frame_due: false,
            rest: Box::new(rest),
        }
    }

    /// Takes what the client wants at most.
    pub fn prefer(&mut self, layers: Layers) {
        self.rest.preferred = Some(layers);
        self.rest.temporal.want(layers.temporal);
        if self.mode == Mode::ALL {
            self.mode = Mode::TEMPORAL;
        }
    }

    /// Lets only the lowest temporal layer out of encodings with one spatial layer, or again all
    /// that the client wants: for a while, in which too much waits for it.
    pub fn spare(&mut self, is_spared: bool) {
        self.rest.temporal.spare(is_spared);
        if self.mode == Mode::ALL {
            self.mode = Mode::TEMPORAL;
        }
    }

    /// The most that the client wants. Its spatial layer is an encoding of a simulcast, else a
    /// layer inside the one encoding.
    pub fn preferred(&self) -> Option<Layers> {
        self.rest.preferred
    }

    /// Takes what the allocation gives of the layers inside an encoding.
    pub fn give_inner(&mut self, layers: InnerLayers) {
        self.rest.svc.want(layers);
    }

    /// What goes out of the layers inside the encoding, where it has several spatial ones.
    pub fn current_inner(&self) -> Option<InnerLayers> {
        self.rest.svc.current()
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
        self.rest.svc.begin();
    }

    /// What came last does not go on with what went out: the next key frame has to, and is to be
    /// asked for, if something went on until now.
    pub fn break_off(&mut self) {
        self.key_frame_due |= self.source.take().is_some();
    }

    /// The key frame that came cannot be had whole: another is to be asked for.
    pub fn await_another(&mut self) {
        self.key_frame_due = true;
    }

    /// Whether a key frame is to be asked for since the last call.
    pub fn take_key_frame_due(&mut self) -> bool {
        let is_due = std::mem::take(&mut self.key_frame_due);
        is_due || self.mode.top().is_some() && self.rest.svc.take_key_frame_due()
    }

    /// Begins an encoding, or a source of it.
    pub fn begin(&mut self, encoding: EncodingIndex, source: SourceId) {
        (self.current, self.source) = (Some(encoding), Some(source));
        self.rest.svc.begin();
        if self.mode.top().is_some() {
            self.mode = Mode::TEMPORAL;
        }
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

    /// What goes out, if this core has not told control. The first time it tells in any case: what
    /// control knows may be what a core before this one has sent.
    pub fn take_report(&mut self) -> Option<Option<Layers>> {
        let whole = || self.current.map(|e| Layers { spatial: e.0, temporal: None });
        let layers = self.rest.svc.layers().or_else(whole);
        let is_new = self.rest.reported != Some(layers);
        self.rest.reported = Some(layers);
        is_new.then_some(layers)
    }

    /// Whether a packet's layers go out.
    #[inline]
    pub fn takes(&mut self, packet: &MediaPacket) -> bool {
        if self.mode == Mode::ALL && packet.info.layers.is_none() {
            return true;
        }
        self.looks_at(packet)
    }

    fn looks_at(&mut self, packet: &MediaPacket) -> bool {
        let info = &packet.info;
        let Some(frame) = &info.layers else {
            if self.mode.top().is_some() {
                // Its layers cannot be told yet: what it lacks comes again, and then it counts.
                return true;
            }
            let takes = self.rest.temporal.takes(info);
            let takes_all = self.rest.temporal.takes_all();
            self.mode = if takes_all { Mode::ALL } else { Mode::TEMPORAL };
            return takes;
        };
        let takes = self.rest.svc.takes(info, frame, packet.header.timestamp);
        self.mode = Mode::svc(self.rest.svc.top().unwrap_or(0));
        takes
    }

    /// The spatial layer inside the encoding whose last packet ends a picture for the client.
    #[inline]
    pub fn top(&self) -> Option<u8> {
        self.mode.top()
    }

    /// Whether the layers inside the encoding that go out have changed since the last call.
    #[inline]
    pub fn take_inner_changed(&mut self, now: Time) -> bool {
        self.mode.top().is_some() && self.rest.svc.take_changed(now)
    }

    /// The mask of decode targets that a packet is to tell the client: those that begin a frame of
    /// the lowest temporal layer do, once the client does not get all.
    pub fn active_targets(&self, packet: &MediaPacket) -> Option<u32> {
        let frame = packet.info.layers.as_ref()?;
        let tells = packet.info.starts_picture && packet.info.temporal == 0;
        if tells { self.rest.svc.active_targets(frame) } else { None }
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
        assert_eq!(selector.preferred(), Some(Layers { spatial: 1, temporal: None }));
    }

    #[test]
    fn who_is_left_out_from_the_start_is_told_so_once() {
        let mut selector = Selector::new(None, EncodingIndex::LOWEST);
        selector.leave_out(None);
        assert_eq!([selector.take_report(), selector.take_report()], [Some(None), None]);
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
