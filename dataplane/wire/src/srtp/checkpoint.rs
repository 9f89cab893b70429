//! SRTP indexes that outlive the thread that used them: those that may have been sent, and the
//! highest received. Atomics without a lock; what counts packets sent is written ahead, in blocks.
//!
//! Worked trace of a [`Reserve`], a consumer whose first number is 700, with blocks of 32:
//!
//! ```text
//! core              held        mark   sends
//! first  begins     700..732    732    700 … 731
//!        extends    732..764    764    732 … 740, and dies (or stalls)
//! second begins     764..796    796    764 …
//! first  wakes up   732..764    796    741 at most to 763; extending fails: 796 is not 764
//! ```
//!
//! So two cores never hold one number at a time, whatever the first one still does. Nor can it
//! begin once more, which would take the numbers from the second: the mark names the [`Generation`]
//! that began last, and one before that is refused.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use opencall_io::shared::Slot;

use super::StreamCheckpoint;

/// SRTCP indexes reserved at a time, of which there are 2^31 and a few a second.
const RESERVED_RTCP: u64 = 64;

/// SSRCs whose receive indexes are kept in one piece: an ordinary publisher's.
const SSRCS_PER_PIECE: usize = 16;

/// Pieces: as many SSRCs as an SRTP context keeps.
pub const PIECES: usize = super::MAX_SSRCS / SSRCS_PER_PIECE;

const _: () = assert!(PIECES <= 64, "one bit for each");

/// Which of the cores that come one after the other in one place: rises with each, and wraps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Generation(u16);

impl Generation {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Generation(self.0.wrapping_add(1))
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The one with this number.
    pub const fn of_number(number: u16) -> Self {
        Generation(number)
    }

    /// Whether this one came after the other.
    pub const fn is_after(self, other: Generation) -> bool {
        self.0.wrapping_sub(other.0) as i16 > 0
    }
}

/// Bits of a mark that are the number, as many as an SRTP index has; those above are the generation
/// that reserved it.
const NUMBER_BITS: u32 = 48;

/// Numbers that go up and are used once, reserved in blocks by one core at a time: a word that says
/// whose it is, and one above the highest number that any core may have used; 0 before the first.
#[derive(Debug, Clone, Copy)]
pub struct Reserve<'a>(pub &'a AtomicU64);

/// Another core has taken over: this one must not use any further number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenOver;

fn word(generation: Generation, number: u64) -> u64 {
    u64::from(generation.0) << NUMBER_BITS | number
}

fn parts(word: u64) -> (Generation, u64) {
    (Generation((word >> NUMBER_BITS) as u16), word & ((1 << NUMBER_BITS) - 1))
}

impl Reserve<'_> {
    /// Reserves the first block of a core: above all that any core before it may have used. The
    /// very first begins at `first`. Empty, and not to be extended, if a later core has begun.
    pub fn begin(self, generation: Generation, first: u64, block: u64) -> Range<u64> {
        let mut mark = self.0.load(Ordering::Acquire);
        loop {
            let (holder, used) = parts(mark);
            if used != 0 && holder.is_after(generation) {
                return 0..0;
            }
            let start = if used == 0 { first } else { used };
            let end = start.saturating_add(block.max(1));
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            match self.0.compare_exchange(mark, word(generation, end), success, failure) {
                Ok(_) => return start..end,
                Err(newer) => mark = newer,
            }
        }
    }

    /// Reserves all up to `end` for the core of that generation, whose numbers ended at `held`.
    ///
    /// # Errors
    /// Another core has begun since.
    pub fn extend(self, generation: Generation, held: u64, end: u64) -> Result<(), TakenOver> {
        let (held, end) = (word(generation, held), word(generation, end));
        let exchanged = self.0.compare_exchange(held, end, Ordering::AcqRel, Ordering::Relaxed);
        exchanged.map(drop).map_err(|_| TakenOver)
    }

    /// Whether the core of that generation, whose numbers end at `held`, is the one that goes on.
    pub fn is_held(self, generation: Generation, held: u64) -> bool {
        self.0.load(Ordering::Acquire) == word(generation, held)
    }
}

/// The SRTCP indexes of a transport, as one core holds them.
#[derive(Debug)]
pub struct RtcpIndexes {
    checkpoint: Arc<SrtpCheckpoint>,
    generation: Generation,
    /// One above what it holds.
    held: u64,
}

impl RtcpIndexes {
    /// Takes them over; the first index to use.
    pub fn begin(checkpoint: Arc<SrtpCheckpoint>, generation: Generation) -> (Self, u64) {
        let Range { start, end } = checkpoint.rtcp().begin(generation, 0, RESERVED_RTCP);
        (RtcpIndexes { checkpoint, generation, held: end }, start)
    }

    /// Whether `index` may be used.
    #[inline]
    pub fn admit(&mut self, index: u64) -> Result<(), TakenOver> {
        if index < self.held {
            return Ok(());
        }
        let end = index.saturating_add(RESERVED_RTCP);
        self.checkpoint.rtcp().extend(self.generation, self.held, end)?;
        self.held = end;
        Ok(())
    }
}

/// Words of [`SrtpCheckpoint`] that each association has.
pub const SRTP_WORDS: usize = 8;

/// Which of them: the SRTCP indexes sent, and which pieces there are, one bit for each.
const RTCP: usize = 0;
const BEGUN: usize = 1;

/// Words of a piece.
pub const PIECE_WORDS: usize = SSRCS_PER_PIECE * RECEIVED_WORDS;

/// What was received of an SSRC: one more than the SSRC, and the highest indexes of SRTP and SRTCP,
/// each one more than it is; 0 if there is none.
const RECEIVED_WORDS: usize = 3;

/// Where pieces come from: by their number.
type Pieces = Box<dyn Fn(usize) -> Slot<PIECE_WORDS> + Send + Sync>;

/// SRTP and SRTCP indexes of one association.
#[derive(Default)]
pub struct SrtpCheckpoint {
    words: Slot<SRTP_WORDS>,
    /// What was received, per SSRC; an SSRC has a place here while its SRTP context knows it.
    received: [OnceLock<Slot<PIECE_WORDS>>; PIECES],
    /// Of memory that outlives the process.
    pieces: Option<Pieces>,
}

impl SrtpCheckpoint {
    /// In memory that outlives the process: goes on with what these words say. `pieces` gives those
    /// of [`PIECES`] pieces, as they are.
    pub fn in_memory(words: Slot<SRTP_WORDS>, pieces: Pieces) -> Self {
        let begun = words[BEGUN].load(Ordering::Acquire);
        let received: [OnceLock<_>; PIECES] = Default::default();
        for (piece, place) in received.iter().enumerate() {
            if begun & (1 << piece) != 0 {
                place.get_or_init(|| pieces(piece));
            }
        }
        SrtpCheckpoint { words, received, pieces: Some(pieces) }
    }

    fn rtcp(&self) -> Reserve<'_> {
        Reserve(&self.words[RTCP])
    }

    /// A piece in which nothing is.
    fn begin_piece(&self, piece: usize) -> Slot<PIECE_WORDS> {
        let Some(pieces) = &self.pieces else { return Slot::default() };
        let words = pieces(piece);
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.words[BEGUN].fetch_or(1 << piece, Ordering::Release);
        words
    }

    /// Gives a place in the table to an SSRC, of which nothing was received yet.
    pub fn begin_ssrc(&self, slot: u16, ssrc: u32) {
        let piece = usize::from(slot) / SSRCS_PER_PIECE;
        let Some(place) = self.received.get(piece) else { return };
        let words = place.get_or_init(|| self.begin_piece(piece));
        let Some([of, rtp, rtcp]) = received(words, slot) else { return };
        of.store(0, Ordering::Release);
        rtp.store(0, Ordering::Release);
        rtcp.store(0, Ordering::Release);
        of.store(u64::from(ssrc) + 1, Ordering::Release);
    }

    /// Notes that the highest RTP index received is one below `next`.
    #[inline]
    pub fn note_rtp(&self, slot: u16, next: u64) {
        if let Some([_, rtp, _]) = self.received(slot) {
            rtp.store(next, Ordering::Relaxed);
        }
    }

    /// Notes that the highest SRTCP index received is one below `next`.
    pub fn note_rtcp(&self, slot: u16, next: u64) {
        if let Some([_, _, rtcp]) = self.received(slot) {
            rtcp.store(next, Ordering::Relaxed);
        }
    }

    #[inline]
    fn received(&self, slot: u16) -> Option<&[AtomicU64; RECEIVED_WORDS]> {
        received(self.received.get(usize::from(slot) / SSRCS_PER_PIECE)?.get()?, slot)
    }

    /// What was received of every SSRC.
    pub fn streams(&self) -> Vec<StreamCheckpoint> {
        let pieces = self.received.iter().filter_map(OnceLock::get);
        let received = pieces.flat_map(|piece| piece.as_chunks::<RECEIVED_WORDS>().0);
        let stream = |[of, rtp, rtcp]: &[AtomicU64; RECEIVED_WORDS]| {
            let ssrc = of.load(Ordering::Acquire).checked_sub(1)?;
            Some(StreamCheckpoint {
                ssrc: ssrc as u32,
                rtp_index: rtp.load(Ordering::Acquire).checked_sub(1),
                rtcp_index: rtcp.load(Ordering::Acquire).checked_sub(1).map(|i| i as u32),
            })
        };
        received.filter_map(stream).collect()
    }
}

impl std::fmt::Debug for SrtpCheckpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpCheckpoint").field("words", &self.words).finish_non_exhaustive()
    }
}

/// The words of one SSRC in its piece.
#[inline]
fn received(piece: &[AtomicU64; PIECE_WORDS], slot: u16) -> Option<&[AtomicU64; RECEIVED_WORDS]> {
    piece.as_chunks().0.get(usize::from(slot) % SSRCS_PER_PIECE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two cores that come one after the other.
    fn two() -> [Generation; 2] {
        [Generation::default(), Generation::default().next()]
    }

    #[test]
    fn two_cores_never_hold_one_number() {
        let (mark, [one, two]) = (AtomicU64::new(0), two());
        let reserve = Reserve(&mark);
        assert_eq!(reserve.begin(one, 700, 32), 700..732);
        assert_eq!(reserve.extend(one, 732, 764), Ok(()));
        assert!(reserve.is_held(one, 764));
        assert_eq!(reserve.begin(two, 5, 32), 764..796);
        assert_eq!(reserve.extend(one, 764, 796), Err(TakenOver), "the first one wakes up");
        assert_eq!(reserve.extend(two, 796, 828), Ok(()));
        assert!(!reserve.is_held(one, 764) && reserve.is_held(two, 828));
    }

    #[test]
    fn a_core_replaced_before_its_first_packet_may_send_what_it_holds_and_no_more() {
        let (mark, [one, two]) = (AtomicU64::new(0), two());
        let reserve = Reserve(&mark);
        assert_eq!(reserve.begin(one, 0, 32), 0..32);
        assert_eq!(reserve.begin(two, 9, 32), 32..64);
        assert_eq!(reserve.extend(one, 32, 64), Err(TakenOver));
    }

    #[test]
    fn a_core_that_wakes_up_takes_no_numbers_from_the_one_in_its_place() {
        let (mark, [one, two]) = (AtomicU64::new(0), two());
        let reserve = Reserve(&mark);
        assert_eq!(reserve.begin(two, 9, 32), 9..41);
        let numbers = reserve.begin(one, 700, 32);
        assert_eq!(numbers, 0..0, "it begins after the second");
        assert_eq!(reserve.extend(one, numbers.end, 32), Err(TakenOver));
        assert_eq!(reserve.extend(two, 41, 73), Ok(()));
        let mut last = two;
        for _ in 0..70_000 {
            let (used, next) = (reserve.begin(last, 0, 1), last.next());
            assert!(used.start < reserve.begin(next, 0, 1).start && next.is_after(last));
            last = next;
        }
    }

    #[test]
    fn what_outlives_the_process_goes_on_in_the_next() {
        let kept: [Slot<PIECE_WORDS>; PIECES] = Default::default();
        let open = |words: &Slot<SRTP_WORDS>| {
            let kept = kept.clone();
            SrtpCheckpoint::in_memory(words.clone(), Box::new(move |piece| kept[piece].clone()))
        };
        let words = Slot::default();
        // What an association before has left there is not this one's.
        kept[1][0].store(6, Ordering::Relaxed);
        let first = Arc::new(open(&words));
        assert!(first.streams().is_empty());
        let (mut held, index) = RtcpIndexes::begin(Arc::clone(&first), Generation::default());
        assert_eq!((index, held.admit(0)), (0, Ok(())));
        first.begin_ssrc(17, 9);
        first.note_rtp(17, 1 << 40);
        let second = Arc::new(open(&words));
        let stream = StreamCheckpoint { ssrc: 9, rtp_index: Some((1 << 40) - 1), rtcp_index: None };
        assert_eq!(second.streams(), [stream]);
        let (_, index) = RtcpIndexes::begin(second, Generation::default().next());
        assert_eq!(index, RESERVED_RTCP);
    }

    #[test]
    fn what_was_received_is_kept_per_ssrc() {
        let checkpoint = SrtpCheckpoint::default();
        checkpoint.note_rtp(0, 7);
        assert!(checkpoint.streams().is_empty(), "no SSRC has that place");
        checkpoint.begin_ssrc(0, 0);
        checkpoint.begin_ssrc(17, u32::MAX);
        checkpoint.note_rtp(0, 1 << 40);
        checkpoint.note_rtcp(17, 1);
        checkpoint.begin_ssrc(10_000, 5);
        let streams = [
            StreamCheckpoint { ssrc: 0, rtp_index: Some((1 << 40) - 1), rtcp_index: None },
            StreamCheckpoint { ssrc: u32::MAX, rtp_index: None, rtcp_index: Some(0) },
        ];
        assert_eq!(checkpoint.streams(), streams);
        checkpoint.begin_ssrc(0, 3);
        assert_eq!(checkpoint.streams()[0].rtp_index, None, "another SSRC has the place");
    }
}
