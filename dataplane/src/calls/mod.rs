//! Calls that outlive the process: the [`checkpoint`](crate::checkpoint)s, and what control told
//! the data cores, in memory that a supervisor holds. The next process opens it
//! ([`CallMemory::open`]) and has its cores go on from there, as a new core does in a dead one's
//! place.
//!
//! ```text
//! header │ SRTP │ transports │ producers │ consumers │ SSRCs received │ journal │ journal
//! ```
//!
//! Checkpoints have places of fixed sizes, of which only those in use take memory. What was told is
//! a `journal`, whose entries name places. `codec` is what is in them, `slab` which places are
//! free.
//!
//! The header says which build and which layout wrote all this. Another one reads nothing of it.
#![forbid(unsafe_code)]

mod codec;
mod journal;
mod slab;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use opencall_io::shared::{self, Region, Slot, WORD};
use opencall_wire::srtp::checkpoint::{PIECE_WORDS, PIECES, SRTP_WORDS, SrtpCheckpoint};

use self::codec::Entry;
use self::journal::{Journal, Place};
use self::slab::{Slab, Ticket};
use crate::checkpoint::{
    CONSUMER_WORDS, ConsumerCheckpoint, Lease, PRODUCER_WORDS, ProducerCheckpoint, TRANSPORT_WORDS,
    TransportCheckpoint,
};
use crate::message::{Command, CoreId};

/// Transports at most whose calls outlive the process; one host serves fewer. Further ones do not.
const TRANSPORTS: usize = 1 << 15;

/// The same of producers.
const PRODUCERS: usize = 1 << 16;

/// The same of consumers.
const CONSUMERS: usize = 1 << 19;

/// Words of each half of the journal, 192 MiB: what is said of all those consumers.
const JOURNAL_WORDS: usize = 24 << 20;

/// Words of the header, a page.
const HEADER_WORDS: usize = 512;

/// Which of its words are what.
mod header_word {
    /// [`MAGIC`](super::MAGIC), once the others are written.
    pub const MAGIC: usize = 0;
    /// Of which build and layout all of it is.
    pub const LAYOUT: usize = 1;
    /// `CLOCK_MONOTONIC` at the origin of everyone's time, nanoseconds.
    pub const ORIGIN: usize = 2;
    /// Whether the journal says all that holds; 0 if it had no place for something.
    pub const IS_WHOLE: usize = 3;
    /// Which half of the journal counts.
    pub const EPOCH: usize = 8;
}

/// That there is something: "opencall" as bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"opencall");

const SRTP_AT: usize = HEADER_WORDS;
const TRANSPORTS_AT: usize = SRTP_AT + TRANSPORTS * SRTP_WORDS;
const PRODUCERS_AT: usize = TRANSPORTS_AT + TRANSPORTS * TRANSPORT_WORDS;
const CONSUMERS_AT: usize = PRODUCERS_AT + PRODUCERS * PRODUCER_WORDS;
const PIECES_AT: usize = CONSUMERS_AT + CONSUMERS * CONSUMER_WORDS;
const JOURNAL_AT: usize = PIECES_AT + PIECES * TRANSPORTS * PIECE_WORDS;
const WORDS: usize = JOURNAL_AT + 2 * JOURNAL_WORDS;

/// Bytes of the memory.
const CALL_MEMORY_BYTES: usize = WORDS * WORD;

/// Told commands, or one that has no place, between two attempts to write the journal anew.
const ATTEMPT_INTERVAL: u32 = 4096;

/// Which build wrote the memory, in what layout: those of another are not read.
fn layout() -> u64 {
    let sizes = [codec::LAYOUT, WORDS as u64, SRTP_WORDS as u64, TRANSPORT_WORDS as u64];
    let version = env!("CARGO_PKG_VERSION").bytes().map(u64::from);
    // FNV-1a.
    let mix = |hash: u64, value: u64| (hash ^ value).wrapping_mul(0x100_0000_01b3);
    sizes.into_iter().chain(version).fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Where checkpoints are: in memory that outlives the process, or (by default) on the heap.
#[derive(Clone, Default)]
pub struct CallMemory(Option<Arc<Inner>>);

struct Inner {
    region: Region,
    transports: Arc<Slab>,
    producers: Arc<Slab>,
    consumers: Arc<Slab>,
}

/// What a process finds.
pub struct Found {
    /// Where checkpoints are.
    pub memory: CallMemory,
    /// What control told the cores, to be read before anything else is told.
    pub told: Told,
    /// `CLOCK_MONOTONIC` at the origin of everyone's time.
    pub origin: Duration,
    /// Why what was there is not taken up.
    pub refused: Option<&'static str>,
}

/// The journal, before it is read.
pub struct Told(Region);

impl CallMemory {
    /// New memory, for a supervisor to hold, of which what is in use is taken from the system.
    ///
    /// # Errors
    /// The system's.
    pub fn create() -> std::io::Result<OwnedFd> {
        shared::create(CALL_MEMORY_BYTES)
    }

    /// Opens the memory: with what the process before has left, or empty. `now` is
    /// `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// The system's; or it is not such memory.
    pub fn open(memory: BorrowedFd<'_>, now: Duration) -> std::io::Result<Found> {
        let region = Region::map(memory, CALL_MEMORY_BYTES)?;
        let header = &region.words()[..HEADER_WORDS];
        let is = |word: usize, value| header[word].load(Acquire) == value;
        let refused = if !is(header_word::MAGIC, MAGIC) {
            None
        } else if !is(header_word::LAYOUT, layout()) {
            Some("another build has left them")
        } else if is(header_word::IS_WHOLE, 0) {
            Some("there were more than there is memory for")
        } else {
            let origin = Duration::from_nanos(header[header_word::ORIGIN].load(Relaxed));
            return Ok(Self::found(region, origin, None));
        };
        header[header_word::MAGIC].store(0, Release);
        region.discard(0..WORDS);
        header[header_word::LAYOUT].store(layout(), Relaxed);
        let origin = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        header[header_word::ORIGIN].store(origin, Relaxed);
        header[header_word::IS_WHOLE].store(1, Relaxed);
        header[header_word::MAGIC].store(MAGIC, Release);
        Ok(Self::found(region, now, refused))
    }

    fn found(region: Region, origin: Duration, refused: Option<&'static str>) -> Found {
        let slab = |count: usize| Slab::new(count as u32);
        let inner = Inner {
            region,
            transports: slab(TRANSPORTS),
            producers: slab(PRODUCERS),
            consumers: slab(CONSUMERS),
        };
        let memory = CallMemory(Some(Arc::new(inner)));
        Found { memory, told: Told(region), origin, refused }
    }

    /// The checkpoint of a new transport.
    pub fn transport(&self) -> Lease<TransportCheckpoint> {
        let new = self.0.as_ref().and_then(|inner| {
            let ticket = inner.transports.take()?;
            let place = ticket.place() as usize;
            wipe(inner.words::<SRTP_WORDS>(SRTP_AT, place)?);
            wipe(inner.words::<TRANSPORT_WORDS>(TRANSPORTS_AT, place)?);
            inner.transport(ticket)
        });
        new.unwrap_or_default()
    }

    /// The checkpoint of a new producer.
    pub fn producer(&self) -> ProducerCheckpoint {
        let new = self.0.as_ref().and_then(|inner| {
            let ticket = inner.producers.take()?;
            wipe(inner.words::<PRODUCER_WORDS>(PRODUCERS_AT, ticket.place() as usize)?);
            inner.producer(ticket)
        });
        new.unwrap_or_default()
    }

    /// The checkpoint of a new consumer.
    pub fn consumer(&self) -> Lease<ConsumerCheckpoint> {
        let new = self.0.as_ref().and_then(|inner| {
            let ticket = inner.consumers.take()?;
            wipe(inner.words::<CONSUMER_WORDS>(CONSUMERS_AT, ticket.place() as usize)?);
            inner.consumer(ticket)
        });
        new.unwrap_or_default()
    }

    fn open_transport(&self, place: u32) -> Option<Lease<TransportCheckpoint>> {
        let inner = self.0.as_ref()?;
        inner.transport(inner.transports.open(place)?)
    }

    fn open_producer(&self, place: u32) -> Option<ProducerCheckpoint> {
        let inner = self.0.as_ref()?;
        inner.producer(inner.producers.open(place)?)
    }

    fn open_consumer(&self, place: u32) -> Option<Lease<ConsumerCheckpoint>> {
        let inner = self.0.as_ref()?;
        inner.consumer(inner.consumers.open(place)?)
    }

    fn place_of_transport(&self, of: &TransportCheckpoint) -> Option<u32> {
        self.0.as_ref()?.place_of(of.words(), TRANSPORTS_AT, TRANSPORTS)
    }

    fn place_of_producer(&self, of: &ProducerCheckpoint) -> Option<u32> {
        self.0.as_ref()?.place_of(of.words(), PRODUCERS_AT, PRODUCERS)
    }

    fn place_of_consumer(&self, of: &ConsumerCheckpoint) -> Option<u32> {
        self.0.as_ref()?.place_of(of.words(), CONSUMERS_AT, CONSUMERS)
    }
}

fn wipe(words: &[AtomicU64]) {
    words.iter().for_each(|word| word.store(0, Relaxed));
}

impl Inner {
    /// The words of one place of an array.
    fn words<const N: usize>(&self, array: usize, place: usize) -> Option<&'static [AtomicU64; N]> {
        self.region.words().get(array + place * N..)?.first_chunk()
    }

    fn slot<const N: usize>(
        &self,
        array: usize,
        place: usize,
        lease: impl Send + Sync + 'static,
    ) -> Option<Slot<N>> {
        Some(Slot::in_region(self.words(array, place)?, Box::new(lease)))
    }

    /// Which place of an array these words are.
    fn place_of<const N: usize>(
        &self,
        words: &[AtomicU64; N],
        array: usize,
        count: usize,
    ) -> Option<u32> {
        let begin = self.region.words().get(array..)?.as_ptr().addr();
        let place = words.as_ptr().addr().checked_sub(begin)? / (N * WORD);
        u32::try_from(place).ok().filter(|_| place < count)
    }

    fn transport(&self, ticket: Ticket) -> Option<Lease<TransportCheckpoint>> {
        let (region, place) = (self.region, ticket.place() as usize);
        let ticket = Arc::new(ticket);
        let srtp = self.slot(SRTP_AT, place, Arc::clone(&ticket))?;
        let words = self.slot(TRANSPORTS_AT, place, Arc::clone(&ticket))?;
        // Pieces of one number lie together: most transports have the first one only.
        let piece = move |piece: usize| {
            let at = PIECES_AT + (piece * TRANSPORTS + place) * PIECE_WORDS;
            let words = region.words().get(at..).and_then(|words| words.first_chunk());
            words.map_or_else(Slot::default, |words| {
                Slot::in_region(words, Box::new(Arc::clone(&ticket)))
            })
        };
        let srtp = SrtpCheckpoint::in_memory(srtp, Box::new(piece));
        Some(Lease::of(TransportCheckpoint::in_memory(words, srtp)))
    }

    fn producer(&self, ticket: Ticket) -> Option<ProducerCheckpoint> {
        let place = ticket.place() as usize;
        Some(ProducerCheckpoint::in_memory(self.slot(PRODUCERS_AT, place, ticket)?))
    }

    fn consumer(&self, ticket: Ticket) -> Option<Lease<ConsumerCheckpoint>> {
        let place = ticket.place() as usize;
        Some(Lease::of(ConsumerCheckpoint::in_memory(self.slot(CONSUMERS_AT, place, ticket)?)))
    }
}

/// Keeps what control tells the cores in the memory.
pub(crate) struct Keeper {
    memory: CallMemory,
    journal: Journal,
    is_whole: &'static AtomicU64,
    /// How often something was told since it had no place.
    attempts: u32,
    scratch: Vec<u8>,
}

impl Keeper {
    /// Reads what was told, each thing by `each`, and keeps what is told from now on.
    pub(crate) fn open(
        memory: CallMemory,
        Told(region): Told,
        mut each: impl FnMut(CoreId, Option<Command>),
    ) -> Self {
        let half = |begin: usize| Range { start: begin, end: begin + JOURNAL_WORDS };
        let halves = [half(JOURNAL_AT), half(JOURNAL_AT + JOURNAL_WORDS)];
        let place = Place { epoch: header_word::EPOCH, halves };
        let journal = Journal::open(region, place, |entry| match codec::take(entry, &memory) {
            Some(Entry::Told(core, command)) => each(core, Some(command)),
            Some(Entry::Forgotten(core)) => each(core, None),
            None => {}
        });
        let is_whole = &region.words()[header_word::IS_WHOLE];
        Keeper { memory, journal, is_whole, attempts: 0, scratch: Vec::new() }
    }

    /// Where checkpoints are.
    pub(crate) fn memory(&self) -> &CallMemory {
        &self.memory
    }

    /// Keeps what a core is told, or (`None`) that it is gone. `false` if it is time to write all
    /// anew: [`Keeper::rewrite`].
    pub(crate) fn keep(&mut self, core: CoreId, command: Option<&Command>) -> bool {
        self.scratch.clear();
        match command {
            Some(command) => codec::put(core, command, &self.memory, &mut self.scratch),
            None => codec::put_forgotten(core, &mut self.scratch),
        }
        if self.scratch.is_empty() {
            return true;
        }
        let is_whole = self.is_whole.load(Relaxed) != 0;
        if !is_whole {
            self.attempts += 1;
            return !self.attempts.is_multiple_of(ATTEMPT_INTERVAL);
        }
        self.journal.append(&self.scratch).is_ok() && !self.journal.is_due()
    }

    /// Replaces all by what `tell` tells.
    pub(crate) fn rewrite(&mut self, tell: impl FnOnce(&mut dyn FnMut(CoreId, &Command))) {
        let Keeper { memory, journal, scratch, .. } = self;
        let rewritten = journal.rewrite(|add| {
            tell(&mut |core, command| {
                scratch.clear();
                codec::put(core, command, memory, scratch);
                add(scratch);
            });
        });
        let was_whole = self.is_whole.swap(rewritten.is_ok().into(), Release) != 0;
        match (was_whole, rewritten.is_ok()) {
            (true, false) => tracing::warn!(
                "more calls than there is memory for: if the process dies now, they end"
            ),
            (false, true) => tracing::info!("there is memory for all calls again"),
            _ => {}
        }
    }
}
