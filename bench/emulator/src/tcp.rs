//! A TCP sender, as far as others behind the same queue notice: Reno (RFC 5681) with selective
//! acknowledgements.
//!
//! It is clocked by what is acknowledged, so that a queue that grows slows it down, and a drop
//! halves its window once in a round trip. Each packet is acknowledged on its own and at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::cross::CROSS_PACKET_BYTES;

/// The window at the beginning (RFC 6928) and at most, packets: 3 MB are a second of 24 Mbit/s.
const FIRST_WINDOW: f64 = 10.0;
const WINDOW_MAX: f64 = 2_000.0;

/// A packet is lost when so many after it were acknowledged.
const REORDERING: u64 = 3;

/// A timeout is never shorter.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// The same until a round trip was measured.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// A short transfer, bytes, and the mean of the pauses between two (RFC 8867 section 5.7).
const SHORT_BYTES: std::ops::Range<usize> = 100_000..1_000_000;
const MEAN_PAUSE: Duration = Duration::from_secs(10);

/// Transfers of a flow that pauses between them.
#[derive(Debug, Clone)]
struct Transfers {
    random: SmallRng,
    /// When the next one begins.
    begins: Duration,
}

/// A sender.
#[derive(Debug, Clone)]
pub(crate) struct Tcp {
    /// How long an acknowledgement takes.
    back: Duration,
    window: f64,
    threshold: f64,
    next_number: u64,
    /// Number of each packet under way, and when it was sent.
    under_way: VecDeque<(u64, Duration)>,
    /// When which packet will be acknowledged.
    acknowledgements: BinaryHeap<Reverse<(Duration, u64)>>,
    /// What is lost below this number was answered already.
    recovered_at: u64,
    round_trip: Option<Duration>,
    /// When anything was acknowledged last, or sent with nothing under way.
    progress_at: Duration,
    /// Packets that are left of a transfer; without transfers there is no end.
    left: u64,
    transfers: Option<Transfers>,
    arrived: u64,
}

impl Tcp {
    /// One with no end of data.
    pub fn long(back: Duration) -> Self {
        Tcp {
            back,
            window: FIRST_WINDOW,
            threshold: f64::INFINITY,
            next_number: 0,
            under_way: VecDeque::new(),
            acknowledgements: BinaryHeap::new(),
            recovered_at: 0,
            round_trip: None,
            progress_at: Duration::ZERO,
            left: u64::MAX / 2,
            transfers: None,
            arrived: 0,
        }
    }

    /// One that sends for a while, and pauses.
    pub fn short(back: Duration, seed: u64) -> Self {
        let mut transfers =
            Transfers { random: SmallRng::seed_from_u64(seed), begins: Duration::ZERO };
        transfers.pause(Duration::ZERO);
        Tcp { left: 0, transfers: Some(transfers), ..Tcp::long(back) }
    }

    /// Packets that came through.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// When it has something to do.
    pub fn next_due(&self) -> Option<Duration> {
        if self.can_send() > 0 {
            return Some(self.progress_at);
        }
        let acknowledged = self.acknowledgements.peek().map(|Reverse((at, _))| *at);
        let timeout = (!self.under_way.is_empty()).then(|| self.progress_at + self.timeout());
        let begins = self.transfers.as_ref().filter(|_| self.is_done()).map(|next| next.begins);
        [acknowledged, timeout, begins].into_iter().flatten().min()
    }

    /// How many packets it sends now.
    pub fn poll(&mut self, now: Duration) -> usize {
        while let Some(&Reverse((at, number))) = self.acknowledgements.peek()
            && at <= now
        {
            self.acknowledgements.pop();
            self.on_acknowledged(now, number);
        }
        if !self.under_way.is_empty() && now >= self.progress_at + self.timeout() {
            self.on_timeout(now);
        }
        if self.is_done()
            && let Some(transfers) = self.transfers.as_mut().filter(|next| next.begins <= now)
        {
            let bytes = transfers.random.random_range(SHORT_BYTES);
            self.left = bytes.div_ceil(CROSS_PACKET_BYTES) as u64;
            (self.window, self.threshold) = (FIRST_WINDOW, f64::INFINITY);
        }
        self.can_send()
    }

    /// A packet was sent: when it will arrive, if it does.
    pub fn on_sent(&mut self, now: Duration, arrival: Option<Duration>) {
        if self.under_way.is_empty() {
            self.progress_at = now;
        }
        self.under_way.push_back((self.next_number, now));
        if let Some(arrival) = arrival {
            self.acknowledgements.push(Reverse((arrival + self.back, self.next_number)));
        }
        self.next_number += 1;
        self.left -= 1;
    }

    fn is_done(&self) -> bool {
        self.left == 0 && self.under_way.is_empty()
    }

    fn can_send(&self) -> usize {
        let room = (self.window as usize).saturating_sub(self.under_way.len());
        room.min(usize::try_from(self.left).unwrap_or(usize::MAX))
    }

    fn timeout(&self) -> Duration {
        self.round_trip.map_or(FIRST_TIMEOUT, |round_trip| MIN_TIMEOUT + round_trip * 2)
    }

    fn on_acknowledged(&mut self, now: Duration, number: u64) {
        let found = self.under_way.binary_search_by_key(&number, |(number, _)| *number);
        let Some((_, sent)) = found.ok().and_then(|index| self.under_way.remove(index)) else {
            return;
        };
        self.arrived += 1;
        self.progress_at = now;
        let sample = now - sent;
        self.round_trip = Some(self.round_trip.map_or(sample, |mean| (mean * 7 + sample) / 8));
        if number >= self.recovered_at {
            self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            self.window = self.window.min(WINDOW_MAX);
        }
        while let Some(&(oldest, _)) = self.under_way.front()
            && oldest + REORDERING <= number
        {
            self.under_way.pop_front();
            self.left += 1;
            if oldest >= self.recovered_at {
                self.threshold = (self.window / 2.0).max(2.0);
                self.window = self.threshold;
                self.recovered_at = self.next_number;
            }
        }
        if self.is_done()
            && let Some(transfers) = &mut self.transfers
        {
            transfers.pause(now);
        }
    }

    fn on_timeout(&mut self, now: Duration) {
        self.left += self.under_way.len() as u64;
        self.under_way.clear();
        self.threshold = (self.window / 2.0).max(2.0);
        self.window = 1.0;
        self.recovered_at = self.next_number;
        self.progress_at = now;
    }
}

impl Transfers {
    fn pause(&mut self, now: Duration) {
        let unit: f64 = self.random.random();
        self.begins = now + MEAN_PAUSE.mul_f64(-(1.0 - unit).ln());
    }
}
