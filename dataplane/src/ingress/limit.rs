//! How much a client may send: bits and packets per second of a transport and of each producer.
//!
//! What arrives is opened, counted and sealed for everyone who watches, so whoever sends without
//! measure takes a core from all others. The bounds are far above what any camera, screen or
//! microphone sends; what exceeds them is dropped as if the network had, and the client's own
//! congestion control takes it for that.
//!
//! A sender has credit: bytes that it may send now. Each packet takes as many as it has or as its
//! share of the packets is worth, whichever is more. Time is looked at only when credit runs out:
//! what was earned since then is added, up to a burst.
//!
//! Worked trace of 8 Mbit/s (a byte each µs) and 10 000 packets/s (100 bytes each), bursts of a
//! second, 1 000 000 bytes: a packet of 1000 bytes leaves 999 000 of them, and one of 10 bytes
//! 998 900. When 999 of 1000 bytes have come the next finds too little; 1 ms after the beginning of
//! time 1000 are added, which is enough for it.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::codec::MediaKind;
use opencall_wire::time::Time;

/// How far ahead of its rate a sender may be, twice at most: a key frame of a large screen, or what
/// a network held back for a moment and gives out at once.
const BURST: Duration = Duration::from_secs(1);

/// A bound on what is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveLimit {
    nanos_per_byte: u32,
    least_bytes: u32,
    burst_bytes: u32,
}

impl ReceiveLimit {
    /// So many bits and packets per second.
    pub const fn new(bits_per_second: u64, packets_per_second: u64) -> Self {
        let bytes_per_second = bits_per_second / 8;
        ReceiveLimit {
            nanos_per_byte: (1_000_000_000 / bytes_per_second) as u32,
            least_bytes: (bytes_per_second / packets_per_second) as u32,
            burst_bytes: (bytes_per_second * BURST.as_secs()) as u32,
        }
    }
}

/// All of a client: two videos at their bounds, say a camera and a screen. More would let one
/// client take a data core, which opens about a million packets a second, from hundreds.
pub const TRANSPORT_LIMIT: ReceiveLimit = ReceiveLimit::new(50_000_000, 10_000);

/// One video, all its encodings and retransmissions together: browsers send 2 to 8 Mbit/s, a screen
/// of 4K at 60 frames/s some 15. 5000 packets are twice what 25 Mbit/s needs of full ones.
pub const VIDEO_LIMIT: ReceiveLimit = ReceiveLimit::new(25_000_000, 5_000);

/// One voice: Opus has 510 kbit/s at most (RFC 6716), and twice that with redundancy (RFC 2198).
/// Its shortest packets, of 2.5 ms, are 400 a second. Audio is sent on before all video, so whoever
/// calls a video "Opus" gets no further than a voice.
pub const AUDIO_LIMIT: ReceiveLimit = ReceiveLimit::new(1_100_000, 1_000);

/// The bound on a producer.
pub const fn producer_limit(kind: MediaKind) -> ReceiveLimit {
    match kind {
        MediaKind::Audio => AUDIO_LIMIT,
        MediaKind::Video => VIDEO_LIMIT,
    }
}

/// What a sender may send.
#[derive(Debug, Clone, Copy)]
pub struct ReceiveMeter {
    limit: ReceiveLimit,
    credit_bytes: u32,
    counted_at: Time,
}

impl ReceiveMeter {
    /// Of a sender that has sent nothing.
    pub const fn new(limit: ReceiveLimit) -> Self {
        ReceiveMeter { limit, credit_bytes: limit.burst_bytes, counted_at: Time::ZERO }
    }

    /// Counts a packet of `len` bytes and says whether it is within the limit; one that is not does
    /// not count.
    #[inline(always)]
    pub fn admit(&mut self, now: Time, len: usize) -> bool {
        // A datagram has at most 16 bits of them.
        let charge = (len as u32).max(self.limit.least_bytes);
        if charge > self.credit_bytes {
            self.earn(now);
            if charge > self.credit_bytes {
                return false;
            }
        }
        self.credit_bytes -= charge;
        true
    }

    /// Adds what was earned since the last time.
    #[cold]
    fn earn(&mut self, now: Time) {
        let nanos_per_byte = u64::from(self.limit.nanos_per_byte);
        let nanos = now.as_nanos().saturating_sub(self.counted_at.as_nanos());
        let earned = nanos / nanos_per_byte;
        // The rest of a byte counts next time.
        self.counted_at = Time::from_nanos(self.counted_at.as_nanos() + earned * nanos_per_byte);
        let credit = u64::from(self.credit_bytes).saturating_add(earned);
        self.credit_bytes = credit.min(self.limit.burst_bytes.into()) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_worked_trace() {
        let mut meter = ReceiveMeter::new(ReceiveLimit::new(8_000_000, 10_000));
        assert!(meter.admit(Time::ZERO, 1000));
        assert_eq!(meter.credit_bytes, 999_000);
        assert!(meter.admit(Time::ZERO, 10));
        assert_eq!(meter.credit_bytes, 998_900);
        assert!((1..999).all(|_| meter.admit(Time::ZERO, 1000)));
        assert!(!meter.admit(Time::ZERO, 1000) && !meter.admit(Time::from_nanos(99_999), 1000));
        assert!(meter.admit(Time::from_millis(1), 1000));
    }

    /// Packets of `len` bytes, `per_second` of them, that are let in during the tenth second.
    fn let_in(limit: ReceiveLimit, len: usize, per_second: u64) -> u64 {
        let mut meter = ReceiveMeter::new(limit);
        let mut count = 0;
        for packet in 0..10 * per_second {
            let now = Time::from_nanos(packet * 1_000_000_000 / per_second);
            let admitted = meter.admit(now, len);
            count += u64::from(admitted && packet >= 9 * per_second);
        }
        count
    }

    #[test]
    fn what_people_send_goes_through_and_what_nobody_needs_does_not() {
        // (limit, bytes, packets a second, of which are let in)
        let cases = [
            (VIDEO_LIMIT, 1200, 2_000, 2_000),  // 19 Mbit/s
            (VIDEO_LIMIT, 1200, 10_000, 2_604), // 96 Mbit/s
            (VIDEO_LIMIT, 40, 20_000, 5_000),   // many small ones
            (AUDIO_LIMIT, 160, 50, 50),         // Opus as browsers send it
            (AUDIO_LIMIT, 1300, 100, 100),      // all that Opus can, with redundancy
            (AUDIO_LIMIT, 60, 400, 400),        // its shortest packets
            (AUDIO_LIMIT, 1200, 2_000, 114),    // a video that says it is Opus
            (TRANSPORT_LIMIT, 1200, 4_000, 4_000),
            (TRANSPORT_LIMIT, 1200, 20_000, 5_208),
            (TRANSPORT_LIMIT, 30, 50_000, 10_000),
        ];
        for (limit, len, per_second, wanted) in cases {
            let count = let_in(limit, len, per_second);
            let close = wanted / 100 + 1;
            assert!(count.abs_diff(wanted) <= close, "{count} of {per_second}, wanted {wanted}");
        }
    }

    #[test]
    fn survives_extremes() {
        let mut meter = ReceiveMeter::new(VIDEO_LIMIT);
        assert!(!meter.admit(Time::ZERO, u32::MAX as usize));
        assert!(meter.admit(Time::NEVER, 1200));
        assert!((0..10_000).filter(|_| meter.admit(Time::ZERO, 1200)).count() < 6_000);
        assert!(!meter.admit(Time::ZERO, 1200), "a clock that goes back");
    }
}
