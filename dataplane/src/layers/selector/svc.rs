//! Which frames of a stream with several spatial layers inside (SVC) go out to a consumer.
//!
//! What goes out can always be decoded: each frame says to which others it refers, and a frame
//! that refers to one left out is left out, too. So a layer can be entered at frames that refer to
//! none left out and from which on the sender lets whoever gets the layer switch to it:
//!
//! | modes | up | down |
//! |---|---|---|
//! | L (`L3T3`) | at a key picture, which is asked for | at any picture: lower layers went out |
//! | L with `_KEY` | the same | at a key picture: lower layers did not go out |
//! | S (`S3T3`) | the same | the same |
//!
//! Temporal layers are left at any picture, and entered at a frame that says so.
//!
//! Worked trace of L2T1; picture 2 is a key picture that was asked for:
//!
//! ```text
//! picture         0 (key)   1         2 (key)   3         4
//! spatial         0    1    0    1    0    1    0    1    0    1
//! wanted          0         1         1         1         0
//! goes out        yes  no   yes  no   yes  yes  yes  yes  yes  no
//! ends picture    *         *              *         *    *
//! ```
//!
//! Frames of which nothing has come yet count as going out, for they may come; to enter a layer
//! does not rest on those.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::rtp::dependency_descriptor::Indication;
use opencall_wire::rtp::layers::{LayerFrame, SPATIAL_MAX, TEMPORAL_MAX};
use opencall_wire::rtp::payload::PayloadInfo;
use opencall_wire::time::Time;

use crate::message::Layers;

/// Frames remembered: twice what frames refer back.
const WINDOW: u32 = 64;

/// Time between two changes that are told: a sender may change its layers with each packet, and all
/// who get it would be told each time.
const TOLD_INTERVAL: Duration = Duration::from_millis(200);

/// The highest bit of a frame's references: one that is so far back or further.
const FAR: u32 = 32;

/// A spatial and a temporal layer inside an encoding, with all that they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerLayers {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
}

impl InnerLayers {
    /// All there are.
    pub const ALL: InnerLayers =
        InnerLayers { spatial: SPATIAL_MAX - 1, temporal: TEMPORAL_MAX - 1 };
}

/// The choice among the layers inside one encoding.
#[derive(Debug, Clone)]
pub struct SvcSelector {
    wanted: InnerLayers,
    current: Option<InnerLayers>,
    /// What was current before the last change, to which the frames before belong.
    before: Option<InnerLayers>,
    /// Frames since then; stops counting at [`WINDOW`].
    since_change: u32,
    has_changed: bool,
    /// When that was told last.
    told_at: Time,
    frames: Frames,
    /// RTP timestamp of the newest picture.
    picture: Option<u32>,
    /// Whether that is a key picture.
    is_key: bool,
    /// Whether something of it went out.
    is_begun: bool,
    /// Whether the lower spatial layers go out with the current one.
    is_nested: bool,
    /// Whether the client must be told which layers it gets: it has not got all.
    is_reduced: bool,
    /// Spatial and temporal layers of the stream.
    counts: (u8, u8),
    key_frame_due: bool,
}

impl Default for SvcSelector {
    fn default() -> Self {
        SvcSelector {
            wanted: InnerLayers::ALL,
            current: None,
            before: None,
            since_change: 0,
            has_changed: false,
            told_at: Time::ZERO,
            frames: Frames::default(),
            picture: None,
            is_key: false,
            is_begun: false,
            is_nested: true,
            is_reduced: false,
            counts: (0, 0),
            key_frame_due: false,
        }
    }
}

impl SvcSelector {
    /// Begins anew, with the key picture that comes next.
    pub fn begin(&mut self) {
        let SvcSelector { wanted, told_at, .. } = *self;
        *self = SvcSelector { wanted, told_at, ..SvcSelector::default() };
    }

    /// Takes what the allocation gave.
    pub fn want(&mut self, wanted: InnerLayers) {
        self.wanted = InnerLayers {
            spatial: wanted.spatial.min(SPATIAL_MAX - 1),
            temporal: wanted.temporal.min(TEMPORAL_MAX - 1),
        };
    }

    /// What goes out; `None` where the stream has no such layers, or nothing goes out.
    pub fn current(&self) -> Option<InnerLayers> {
        self.current
    }

    /// The same as clients are told.
    pub fn layers(&self) -> Option<Layers> {
        let highest = self.counts.1.saturating_sub(1);
        self.current.map(|InnerLayers { spatial, temporal }| Layers {
            spatial,
            temporal: Some(temporal.min(highest)),
        })
    }

    /// Whether what goes out has changed since the last time that this was told.
    pub fn take_changed(&mut self, now: Time) -> bool {
        if !self.has_changed || now.since(self.told_at) < TOLD_INTERVAL {
            return false;
        }
        self.told_at = now;
        std::mem::take(&mut self.has_changed)
    }

    /// Whether a key picture is to be asked for since the last call.
    pub fn take_key_frame_due(&mut self) -> bool {
        std::mem::take(&mut self.key_frame_due)
    }

    /// The spatial layer whose last packet ends a picture for the client.
    pub fn top(&self) -> Option<u8> {
        let current = self.current?.spatial;
        // In a key picture higher ones may follow, each with a frame of its own.
        Some(if self.is_key { self.goal().spatial.max(current) } else { current })
    }

    /// The mask of decode targets for the frame's descriptor to tell the client, if it needs one.
    pub fn active_targets(&self, frame: &LayerFrame) -> Option<u32> {
        let current = self.current.filter(|_| self.is_reduced)?;
        frame.active_targets(current.spatial, current.temporal, self.is_nested)
    }

    /// Whether a packet's frame goes out.
    pub fn takes(&mut self, info: &PayloadInfo, frame: &LayerFrame, timestamp: u32) -> bool {
        self.has_changed |= self.current.is_some() && self.counts.1 != frame.temporal_layers;
        self.counts = (frame.spatial_layers, frame.temporal_layers);
        let place = self.frames.place(frame.number, info.key_frame);
        let back = match place {
            // It brings the structure of all that follows.
            Place::Known(back, false) if info.key_frame => {
                self.frames.note(back, true);
                return true;
            }
            Place::Known(_, goes) => return goes,
            Place::Forgotten => return false,
            Place::Late(back) => back,
            Place::Newest(steps) => {
                self.since_change = self.since_change.saturating_add(steps).min(WINDOW);
                self.follow(info, frame, timestamp);
                0
            }
        };
        let layers = if back > self.since_change { self.before } else { self.current };
        let belongs = layers.is_some_and(|of| is_part(frame, of));
        let goes = info.key_frame || belongs && !self.frames.lacks(frame.references, back);
        self.frames.note(back, goes);
        self.is_begun |= goes;
        goes
    }

    /// What is wanted of what is sent at present.
    fn goal(&self) -> InnerLayers {
        let highest = self.counts.0.saturating_sub(1);
        InnerLayers { spatial: self.wanted.spatial.min(highest), ..self.wanted }
    }

    /// Changes layers with a frame that is newer than all before, if it allows that.
    fn follow(&mut self, info: &PayloadInfo, frame: &LayerFrame, timestamp: u32) {
        let begins = self.picture != Some(timestamp);
        self.picture = Some(timestamp);
        self.is_begun &= !begins;
        self.is_key = info.key_frame || self.is_key && !begins;
        if info.key_frame {
            self.is_reduced = false;
        }
        let goal = self.goal();
        let spatial = match self.current {
            Some(current) if current.spatial == goal.spatial => None,
            Some(current) if current.spatial > goal.spatial => {
                self.step_down(current, goal, begins, frame)
            }
            current => self.step_up(current, goal, frame),
        };
        let next = spatial.or_else(|| self.change_temporal(goal, begins, frame));
        if let Some(next) = next.filter(|&next| Some(next) != self.current) {
            self.before = self.current.replace(next);
            self.since_change = 0;
            self.has_changed = true;
        }
        if let Some(current) = self.current {
            self.is_reduced |=
                current.spatial + 1 < self.counts.0 || current.temporal + 1 < self.counts.1;
            let is_lowest = info.temporal == 0;
            if is_lowest && !self.is_key && info.spatial < current.spatial {
                self.is_nested = is_part(frame, current);
            }
            self.key_frame_due |= is_lowest
                && !self.is_key
                && current.spatial != goal.spatial
                && info.spatial == goal.spatial;
        }
    }

    fn change_temporal(
        &self,
        goal: InnerLayers,
        begins: bool,
        frame: &LayerFrame,
    ) -> Option<InnerLayers> {
        let current = self.current.filter(|current| current.temporal != goal.temporal)?;
        let next = InnerLayers { temporal: goal.temporal, ..current };
        let is_less = goal.temporal < current.temporal;
        let may_change = if is_less { begins } else { self.may_enter(next, frame) };
        may_change.then_some(next)
    }

    /// Down at once where the lower layers went out, else where they can be entered.
    fn step_down(
        &self,
        current: InnerLayers,
        goal: InnerLayers,
        begins: bool,
        frame: &LayerFrame,
    ) -> Option<InnerLayers> {
        let within = InnerLayers { spatial: goal.spatial, ..current };
        if begins && is_part(frame, current) && is_part(frame, within) {
            let temporal = current.temporal.min(goal.temporal);
            return Some(InnerLayers { temporal, ..goal });
        }
        self.may_enter(goal, frame).then_some(goal)
    }

    /// Up with a picture of which nothing is marked as its end yet.
    fn step_up(
        &self,
        current: Option<InnerLayers>,
        goal: InnerLayers,
        frame: &LayerFrame,
    ) -> Option<InnerLayers> {
        if self.is_begun && !self.is_key {
            return None;
        }
        let lowest = current.map_or(0, |current| current.spatial + 1);
        let steps = (lowest..=goal.spatial).rev();
        let steps = steps.map(|spatial| InnerLayers { spatial, ..goal });
        steps.into_iter().find(|&step| self.may_enter(step, frame))
    }

    fn may_enter(&self, layers: InnerLayers, frame: &LayerFrame) -> bool {
        let indication = frame.indications.of(layers.spatial, layers.temporal);
        indication == Indication::Switch && self.frames.has_all(frame.references)
    }
}

/// Whether a frame is part of what someone needs who gets these layers.
fn is_part(frame: &LayerFrame, layers: InnerLayers) -> bool {
    frame.indications.of(layers.spatial, layers.temporal) != Indication::NotPresent
}

/// What became of the newest frames.
#[derive(Debug, Clone, Copy, Default)]
struct Frames {
    newest: Option<u16>,
    /// Bit n: something of the frame n before the newest has come.
    known: u64,
    /// Bit n: it was left out.
    left_out: u64,
}

/// Where a frame lies.
enum Place {
    /// So many after the newest before, which it is from now on.
    Newest(u32),
    /// Something of it has come before, so far back; whether it goes out.
    Known(u32, bool),
    /// Nothing of it has come, and it lies so far back.
    Late(u32),
    /// Too far back.
    Forgotten,
}

impl Frames {
    /// Looks a frame up. One that begins a key picture may begin anew anywhere.
    fn place(&mut self, number: u16, is_key: bool) -> Place {
        let Some(newest) = self.newest else { return self.begin(number) };
        let ahead = number.wrapping_sub(newest) as i16;
        if ahead > 0 {
            let steps = ahead.unsigned_abs().into();
            self.known = self.known.checked_shl(steps).unwrap_or(0);
            self.left_out = self.left_out.checked_shl(steps).unwrap_or(0);
            self.newest = Some(number);
            return Place::Newest(steps);
        }
        match u32::from(ahead.unsigned_abs()) {
            back if back >= WINDOW && is_key => self.begin(number),
            back if back >= WINDOW => Place::Forgotten,
            back if self.known >> back & 1 == 1 => {
                Place::Known(back, self.left_out >> back & 1 == 0)
            }
            back => Place::Late(back),
        }
    }

    fn begin(&mut self, number: u16) -> Place {
        *self = Frames { newest: Some(number), known: 0, left_out: 0 };
        Place::Newest(WINDOW)
    }

    fn note(&mut self, back: u32, goes: bool) {
        let bit = 1 << back.min(WINDOW - 1);
        self.known |= bit;
        self.left_out = if goes { self.left_out & !bit } else { self.left_out | bit };
    }

    /// Whether one of the frames that a frame so far `back` refers to was left out.
    fn lacks(&self, references: u32, back: u32) -> bool {
        let near = u64::from(references & !(1 << (FAR - 1)));
        near.checked_shl(back + 1).unwrap_or(0) & self.left_out != 0
    }

    /// Whether all frames that the newest refers to are known to go out.
    fn has_all(&self, references: u32) -> bool {
        let near = u64::from(references) << 1;
        references >> (FAR - 1) == 0 && near & !(self.known & !self.left_out) == 0
    }
}

#[cfg(test)]
mod tests {
    use opencall_wire::codec::Codec;
    use opencall_wire::rtp::payload::{LayerTracker, inspect_tracked};

    use super::*;

    /// How the spatial layers of a mode depend on each other: always, at key pictures, never.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Between {
        Always,
        AtKeys,
        Never,
    }

    const SPATIAL: u8 = 3;

    /// Temporal layers of the pictures of a period, and how far back each refers.
    const L3: [(u8, u8); 4] = [(0, 4), (2, 1), (1, 2), (2, 1)];

    /// A stream as VP9 tells of it, frame by frame.
    struct Stream {
        between: Between,
        tracker: LayerTracker,
        picture: u16,
        /// The last key picture.
        key: u16,
    }

    /// A frame: what the selector is told, and the numbers it refers to.
    #[derive(Clone)]
    struct Frame {
        info: PayloadInfo,
        refers: Vec<u16>,
        picture: u16,
    }

    impl Stream {
        fn new(between: Between) -> Self {
            Stream { between, tracker: LayerTracker::default(), picture: 100, key: 100 }
        }

        /// The frames of the next picture.
        fn next(&mut self, key: bool) -> Vec<Frame> {
            if key {
                self.key = self.picture;
            }
            let frames = (0..SPATIAL).map(|spatial| self.frame(spatial)).collect();
            self.picture += 1;
            frames
        }

        fn frame(&mut self, spatial: u8) -> Frame {
            let after_key = self.picture - self.key;
            let (temporal, back) = L3[usize::from(after_key % 4)];
            let inter = after_key > 0;
            let needs_lower = spatial > 0
                && (self.between == Between::Always || self.between == Between::AtKeys && !inter);
            let is_alone = spatial + 1 == SPATIAL
                || self.between == Between::Never
                || self.between == Between::AtKeys && inter;
            let brings = !inter && spatial == 0;
            let flags = [true, inter, true, true, true, true, brings, is_alone];
            let first = flags.iter().fold(0, |byte, &flag| byte << 1 | u8::from(flag));
            let [high, low] = (self.picture | 0x8000).to_be_bytes();
            let layers = temporal << 5 | spatial << 1 | u8::from(needs_lower);
            let mut payload = vec![first, high, low, layers];
            if inter {
                payload.push(back << 1);
            }
            if brings {
                payload.push((SPATIAL - 1) << 5);
            }
            payload.push(0);
            let marker = spatial + 1 == SPATIAL;
            let info = inspect_tracked(Codec::Vp9, &payload, marker, None, &mut self.tracker);
            let number = info.layers.unwrap().number;
            let mut refers = Vec::new();
            if inter {
                refers.push(number.wrapping_sub(4 * u16::from(back)));
            }
            if needs_lower {
                refers.push(number.wrapping_sub(1));
            }
            Frame { info, refers, picture: self.picture }
        }
    }

    fn takes(selector: &mut SvcSelector, frame: &Frame) -> bool {
        let layers = frame.info.layers.unwrap();
        selector.takes(&frame.info, &layers, u32::from(frame.picture) * 3000)
    }

    /// The spatial layers of a picture that go out, and the one that ends it.
    fn spatial(selector: &mut SvcSelector, frames: &[Frame]) -> (Vec<u8>, Option<u8>) {
        let mut out = Vec::new();
        let mut ends = None;
        for frame in frames {
            if takes(selector, frame) {
                out.push(frame.info.spatial);
                if selector.top() == Some(frame.info.spatial) {
                    assert_eq!(ends.replace(frame.info.spatial), None, "ended twice");
                }
            }
        }
        (out, ends)
    }

    const fn layers(spatial: u8, temporal: u8) -> InnerLayers {
        InnerLayers { spatial, temporal }
    }

    /// A step of a table: whether the picture is a key picture, what is wanted from it on, what of
    /// it goes out, and whether a key picture is asked for.
    type Step = (bool, (u8, u8), &'static [u8], bool);

    #[test]
    fn layers_by_mode() {
        use Between::*;
        let tables: [(Between, &[Step]); 3] = [
            (
                Always,
                &[
                    (true, (0, 2), &[0], false),
                    (false, (2, 2), &[0], false),
                    (false, (2, 2), &[0], false),
                    (false, (2, 2), &[0], false),
                    (false, (2, 2), &[0], true),
                    (true, (2, 2), &[0, 1, 2], false),
                    (false, (2, 2), &[0, 1, 2], false),
                    (false, (1, 2), &[0, 1], false),
                    (false, (0, 2), &[0], false),
                    (false, (1, 2), &[0], true),
                ],
            ),
            (
                AtKeys,
                &[
                    (true, (2, 2), &[0, 1, 2], false),
                    (false, (2, 2), &[2], false),
                    (false, (2, 2), &[2], false),
                    (false, (2, 2), &[2], false),
                    (false, (2, 2), &[2], false),
                    (false, (0, 2), &[2], false),
                    (false, (0, 2), &[2], false),
                    (false, (0, 0), &[], false),
                    (false, (0, 0), &[2], true),
                    (false, (0, 0), &[], false),
                    (true, (0, 0), &[0], false),
                    (false, (0, 1), &[], false),
                    (false, (0, 1), &[], false),
                    (false, (0, 1), &[], false),
                    (false, (0, 1), &[0], false),
                    (false, (0, 1), &[], false),
                    (false, (0, 1), &[0], false),
                ],
            ),
            (
                Never,
                &[
                    (true, (2, 2), &[0, 1, 2], false),
                    (false, (2, 2), &[2], false),
                    (true, (2, 2), &[0, 2], false),
                    (true, (0, 2), &[0], false),
                    (false, (1, 2), &[0], false),
                    (true, (1, 2), &[0, 1], false),
                    (false, (1, 2), &[1], false),
                ],
            ),
        ];
        for (between, table) in tables {
            let mut stream = Stream::new(between);
            let mut selector = SvcSelector::default();
            for (n, &(key, (s, t), expected, asks)) in table.iter().enumerate() {
                selector.want(layers(s, t));
                let (out, ends) = spatial(&mut selector, &stream.next(key));
                assert_eq!(out, expected, "{between:?}, picture {n}");
                assert_eq!(ends, expected.last().copied(), "{between:?}, picture {n}");
                assert_eq!(selector.take_key_frame_due(), asks, "{between:?}, picture {n}");
            }
        }
    }

    #[test]
    fn changes_are_told_once_and_as_far_as_there_are_layers() {
        let mut stream = Stream::new(Between::Always);
        let mut selector = SvcSelector::default();
        assert_eq!(selector.layers(), None);
        spatial(&mut selector, &stream.next(true));
        let at = Time::from_millis;
        assert!(selector.take_changed(at(1_000)) && !selector.take_changed(at(2_000)));
        for _ in 0..3 {
            spatial(&mut selector, &stream.next(false));
        }
        assert!(selector.take_changed(at(3_000)), "it has more temporal layers than one knew");
        assert_eq!(selector.layers(), Some(Layers { spatial: 2, temporal: Some(2) }));
        selector.want(layers(1, 0));
        spatial(&mut selector, &stream.next(false));
        assert!(!selector.take_changed(at(3_199)), "not so often");
        assert!(selector.take_changed(at(3_200)));
        assert_eq!(selector.layers(), Some(Layers { spatial: 1, temporal: Some(0) }));
    }

    /// Not secret, and the same each time.
    struct Random(u32);

    impl Random {
        fn below(&mut self, below: u32) -> u32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) % below
        }
    }

    /// Random wishes, key pictures when asked for and without, losses, and frames that come late.
    fn wander(between: Between, seed: u32) -> (usize, usize) {
        let mut random = Random(seed);
        let mut stream = Stream::new(between);
        let mut selector = SvcSelector::default();
        let mut line: Vec<Frame> = Vec::new();
        let (mut out, mut lost) = (Vec::<u16>::new(), Vec::<u16>::new());
        let (mut sent, mut reached, mut asked) = (0, 0, true);
        for n in 0..400 {
            if random.below(12) == 0 {
                selector.want(layers(random.below(3) as u8, random.below(4) as u8));
            }
            let key = asked && random.below(3) == 0 || random.below(60) == 0;
            asked &= !key;
            for frame in stream.next(key) {
                match random.below(40) {
                    0 if n > 0 && !frame.info.key_frame => {
                        lost.push(frame.info.layers.unwrap().number)
                    }
                    // It comes after some others.
                    1 if n > 0 && !frame.info.key_frame => {
                        line.insert(line.len().saturating_sub(2), frame);
                    }
                    _ => line.push(frame),
                }
            }
            let hold = random.below(4) as usize;
            while line.len() > hold {
                let frame = line.remove(0);
                let number = frame.info.layers.unwrap().number;
                let goes = takes(&mut selector, &frame);
                assert_eq!(takes(&mut selector, &frame), goes, "its second packet");
                asked |= selector.take_key_frame_due();
                if goes {
                    for back in &frame.refers {
                        let comes = |frame: &Frame| frame.info.layers.unwrap().number == *back;
                        let may_come = lost.contains(back) || line.iter().any(comes);
                        assert!(out.contains(back) || may_come, "{between:?} {seed}: {number}");
                    }
                    out.push(number);
                    sent += 1;
                }
            }
            let goal = selector.goal();
            reached += usize::from(selector.current().is_some_and(|c| c.spatial == goal.spatial));
        }
        (sent, reached)
    }

    #[test]
    fn whatever_is_wanted_lost_or_late_what_goes_out_can_be_decoded() {
        for between in [Between::Always, Between::AtKeys, Between::Never] {
            for seed in 0..60 {
                let (sent, reached) = wander(between, seed);
                assert!(sent > 100, "{between:?} {seed}: {sent} frames");
                assert!(reached > 200, "{between:?} {seed}: {reached} of 400 pictures");
            }
        }
    }

    #[test]
    fn frames_of_before_a_change_that_come_late_belong_to_what_went_out_then() {
        let mut stream = Stream::new(Between::Always);
        let mut selector = SvcSelector::default();
        spatial(&mut selector, &stream.next(true));
        let before = stream.next(false);
        assert!(takes(&mut selector, &before[0]) && takes(&mut selector, &before[1]));
        selector.want(layers(0, 3));
        assert_eq!(spatial(&mut selector, &stream.next(false)).0, [0]);
        assert!(takes(&mut selector, &before[2]), "it would be missed");
    }

    #[test]
    fn what_is_too_old_stays_out_and_numbers_may_begin_anew_at_a_key_picture() {
        let mut stream = Stream::new(Between::Always);
        let mut selector = SvcSelector::default();
        let first = stream.next(true);
        spatial(&mut selector, &first);
        let old = stream.next(false);
        stream.picture += 40;
        spatial(&mut selector, &stream.next(false));
        assert!(!takes(&mut selector, &old[0]));
        stream.picture -= 30;
        assert_eq!(spatial(&mut selector, &stream.next(true)).0, [0, 1, 2]);
    }
}
