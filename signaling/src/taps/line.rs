//! What waits for a program: frames, within bounds in bytes and in time.
//!
//! The thread that taps puts frames in each ten milliseconds and never waits; whoever speaks with
//! the program takes them out. A program that is too slow, or not there, misses some.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opencall_control::tap::message::TapProgress;
use opencall_wire::time::Time;
use tokio::sync::Notify;

use super::gauges::{FrameDrop, TapGauges};

/// Bytes that may wait: of 500 voices a second and a half.
pub const MAX_BYTES: usize = 4 << 20;

/// How long a frame may wait: what is older comes too late to be shown with what it is of.
pub const MAX_AGE: Duration = Duration::from_secs(2);

/// Bytes that a frame takes besides its own.
const FRAME_BYTES: usize = 64;

/// Answers that may wait: more pings than that come from whoever wants to have much written.
const MAX_ANSWERS: usize = 8;

/// The longest reason that is kept.
const MAX_ERROR_CHARS: usize = 200;

/// Whose a frame is.
#[derive(Debug, PartialEq, Eq)]
pub struct VoiceName {
    /// The voice's own name in this tap.
    pub tag: String,
    /// The same in JSON, with its quotes.
    pub json: String,
    /// The participant.
    pub participant: Arc<str>,
}

/// A frame of a voice.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose.
    pub voice: Arc<VoiceName>,
    /// Its number among all of the voice.
    pub chunk: u64,
    /// When it was, 1/48,000 s from the tap's beginning.
    pub timestamp: u64,
    /// Opus, as it came.
    pub payload: Box<[u8]>,
    /// When it came.
    pub arrived: Time,
}

/// What goes to the program.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A frame.
    Frame(Frame),
    /// A voice has ended.
    Stop(Arc<VoiceName>),
    /// An answer, as it is.
    Answer(String),
}

/// The way to a program.
pub struct Line {
    gauges: Arc<TapGauges>,
    state: Mutex<State>,
    /// Something waits, or nothing will any more.
    pub news: Notify,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    bytes: usize,
    answers: usize,
    is_over: bool,
    /// The voices there are, by tag.
    voices: HashMap<String, Arc<str>>,
    progress: TapProgress,
}

impl Line {
    /// Nothing waits, and nobody is there.
    pub fn new(gauges: Arc<TapGauges>) -> Self {
        Line { gauges, state: Mutex::default(), news: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A voice is there.
    pub fn add_voice(&self, voice: &VoiceName) {
        let mut state = self.state();
        state.voices.insert(voice.tag.clone(), Arc::clone(&voice.participant));
        state.progress.voices = state.voices.len() as u64;
    }

    /// A voice is gone.
    pub fn remove_voice(&self, voice: Arc<VoiceName>) {
        let mut state = self.state();
        state.voices.remove(&voice.tag);
        state.progress.voices = state.voices.len() as u64;
        if state.progress.connected {
            state.pieces.push_back(Piece::Stop(voice));
            self.news.notify_one();
        }
    }

    /// Frames that have come by now; some packets before them never did.
    pub fn put(&self, now: Time, frames: impl Iterator<Item = Frame>, lost: u64) {
        let mut state = self.state();
        state.progress.packets_lost += lost;
        while let Some(Piece::Frame(first)) = state.pieces.front()
            && now.since(first.arrived) > MAX_AGE
        {
            state.bytes -= FRAME_BYTES + first.payload.len();
            state.pieces.pop_front();
            self.count_dropped(&mut state, FrameDrop::Slow);
        }
        for frame in frames {
            let size = FRAME_BYTES + frame.payload.len();
            if !state.progress.connected {
                self.count_dropped(&mut state, FrameDrop::NotConnected);
            } else if state.bytes + size > MAX_BYTES {
                self.count_dropped(&mut state, FrameDrop::Slow);
            } else {
                state.bytes += size;
                state.pieces.push_back(Piece::Frame(frame));
            }
        }
        if !state.pieces.is_empty() {
            self.news.notify_one();
        }
    }

    fn count_dropped(&self, state: &mut State, reason: FrameDrop) {
        state.progress.frames_dropped += 1;
        self.gauges.count_dropped(reason, 1);
    }

    /// Answers the program, which asks more than it is worth if many answers wait.
    pub fn answer(&self, text: String) {
        let mut state = self.state();
        if state.answers < MAX_ANSWERS {
            state.answers += 1;
            state.pieces.push_back(Piece::Answer(text));
            self.news.notify_one();
        }
    }

    /// Takes so many pieces at most, without those that are too old.
    pub fn take(&self, now: Time, most: usize, pieces: &mut Vec<Piece>) {
        let mut state = self.state();
        let mut frames = 0;
        while pieces.len() < most
            && let Some(piece) = state.pieces.pop_front()
        {
            match &piece {
                Piece::Frame(frame) => {
                    state.bytes -= FRAME_BYTES + frame.payload.len();
                    if now.since(frame.arrived) > MAX_AGE {
                        self.count_dropped(&mut state, FrameDrop::Slow);
                        continue;
                    }
                    frames += 1;
                }
                Piece::Answer(_) => state.answers -= 1,
                Piece::Stop(_) => {}
            }
            pieces.push(piece);
        }
        state.progress.frames += frames;
        self.gauges.count_frames(frames);
    }

    /// The program is there.
    pub fn connected(&self) {
        let mut state = self.state();
        state.progress.connected = true;
        state.progress.connections += 1;
        self.gauges.count_connection();
    }

    /// It is there no more, or was not to be reached: what waits for it is forgotten.
    pub fn failed(&self, error: &str) {
        let mut state = self.state();
        state.progress.connected = false;
        state.progress.error = Some(error.chars().take(MAX_ERROR_CHARS).collect());
        let frames = state.pieces.drain(..).filter(|piece| matches!(piece, Piece::Frame(_)));
        let frames = frames.count() as u64;
        (state.bytes, state.answers) = (0, 0);
        state.progress.frames_dropped += frames;
        self.gauges.count_dropped(FrameDrop::NotConnected, frames);
        self.gauges.count_failure();
    }

    /// Nothing goes to the program any more, not even what waits.
    pub fn end(&self) {
        let mut state = self.state();
        (state.is_over, state.progress.connected) = (true, false);
        state.pieces.clear();
        (state.bytes, state.answers) = (0, 0);
        self.news.notify_one();
    }

    /// Whether nothing goes to the program any more.
    pub fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Whom the program means: a participant, or the one whose voice has this tag.
    pub fn participant(&self, name: String) -> Arc<str> {
        self.state().voices.get(&name).map_or_else(|| name.as_str().into(), Arc::clone)
    }

    /// How far it is.
    pub fn progress(&self) -> TapProgress {
        self.state().progress.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> Arc<VoiceName> {
        let (tag, json, participant) = ("ann-1".into(), "\"ann-1\"".into(), "ann".into());
        Arc::new(VoiceName { tag, json, participant })
    }

    fn frame(ms: u64, chunk: u64, len: usize) -> Frame {
        let (arrived, payload) = (Time::from_millis(ms), vec![0; len].into());
        Frame { voice: voice(), chunk, timestamp: 0, payload, arrived }
    }

    fn chunks(line: &Line, ms: u64) -> Vec<u64> {
        let mut pieces = Vec::new();
        line.take(Time::from_millis(ms), 10, &mut pieces);
        let chunk = |piece| if let Piece::Frame(frame) = piece { frame.chunk } else { 999 };
        pieces.into_iter().map(chunk).collect()
    }

    #[test]
    fn what_is_old_what_is_much_and_what_nobody_waits_for_is_dropped_and_counted() {
        let gauges = Arc::new(TapGauges::default());
        let line = Line::new(Arc::clone(&gauges));
        let put = |ms, frames: &mut dyn Iterator<Item = Frame>, lost| {
            line.put(Time::from_millis(ms), frames, lost);
        };
        put(0, &mut [frame(0, 1, 100)].into_iter(), 0);
        line.connected();
        put(0, &mut [frame(0, 2, 100), frame(20, 3, 100)].into_iter(), 2);
        assert_eq!(chunks(&line, 2_010), [3], "2 has waited too long");
        put(2_100, &mut [frame(100, 4, 1), frame(2_000, 5, 1)].into_iter(), 0);
        put(2_101, &mut [frame(2_101, 6, 1)].into_iter(), 0);
        assert_eq!(chunks(&line, 2_101), [5, 6], "4 is forgotten while nobody takes it");
        put(3_000, &mut (0..5).map(|chunk| frame(3_000, 10 + chunk, 1 << 20)), 0);
        assert_eq!(chunks(&line, 3_000), [10, 11, 12]);
        put(3_000, &mut [frame(3_000, 20, 1)].into_iter(), 0);
        line.failed("gone");
        assert_eq!(chunks(&line, 3_000), [0; 0]);
        let progress = line.progress();
        assert_eq!((progress.frames, progress.frames_dropped, progress.packets_lost), (6, 6, 2));
        let dropped: Vec<u64> = gauges.dropped().map(|(_, count)| count).collect();
        assert_eq!((gauges.counts(), dropped), ((6, 1, 1), vec![4, 2, 0, 0]));
        assert_eq!(progress.error.as_deref(), Some("gone"));
    }

    #[test]
    fn pings_without_end_are_answered_now_and_then() {
        let line = Line::new(Arc::default());
        (0..1_000).for_each(|_| line.answer("pong".into()));
        assert_eq!(chunks(&line, 0).len(), MAX_ANSWERS);
        line.answer("pong".into());
        assert_eq!(chunks(&line, 0).len(), 1);
    }

    #[test]
    fn after_the_end_nothing_is_left() {
        let line = Line::new(Arc::default());
        line.connected();
        line.put(Time::ZERO, [frame(0, 1, 100)].into_iter(), 0);
        line.end();
        line.put(Time::ZERO, [frame(0, 2, 100)].into_iter(), 0);
        assert_eq!((chunks(&line, 0), line.is_over()), (vec![], true));
    }

    #[test]
    fn a_voice_is_known_by_its_tag() {
        let line = Line::new(Arc::default());
        line.add_voice(&voice());
        assert_eq!(&*line.participant("ann-1".into()), "ann");
        assert_eq!(&*line.participant("ann".into()), "ann");
        line.remove_voice(voice());
        assert_eq!(&*line.participant("ann-1".into()), "ann-1");
    }
}
