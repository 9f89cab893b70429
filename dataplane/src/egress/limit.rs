//! How much a client is sent: its budget, and what may be sent again.
//!
//! The budget is kept by the allocation, which sends no more than fits
//! ([`crate::layers::allocation`]).
//! This is the last resort, for what comes between two looks at the rates: whatever the sources do,
//! a client is sent no more than a twentieth above its budget, but for a burst.
//!
//! One time says how far it is: when all that was sent has drained at that rate. What would take it
//! more than a burst ahead is dropped, and asked for again by the client when there is room; a
//! voice may go further ahead than a picture, and so comes first.
//!
//! Worked trace of 3 Mbit/s, so 3.15 Mbit/s or 2540 ns for a byte, and 95 ms ahead: after a pause
//! 37 406 bytes may leave at once. 10 ms later there is room for 3937 more, and for a packet of a
//! voice at any time.
#![forbid(unsafe_code)]

use opencall_wire::codec::MediaKind;
use opencall_wire::mtu::OUTGOING_PACKET_MAX;
use opencall_wire::time::Time;

/// Above the budget so much may be sent for long, percent: rates that the allocation took for what
/// they were a second ago may have risen by so much.
pub(super) const ABOVE_BUDGET_PERCENT: u64 = 105;

/// How far ahead of the rate pictures may be. With the twentieth above it makes a tenth in any two
/// seconds. A key frame takes about so long to arrive from a sender that paces it; less would break
/// every one, more would be a queue in the client's network.
pub(super) const BURST_NANOS: u64 = 95_000_000;

/// The same in bytes at least: of a small budget a tenth of a second would be less than a picture.
pub(super) const BURST_BYTES: u64 = 32 << 10;

/// How much further ahead a voice may be: some tens of packets, from all who speak.
const VOICE_BURST_BYTES: u64 = 8 << 10;

/// Parts of a nanosecond in which the time of a byte is kept: at 1 Gbit/s a byte takes 8 ns.
pub(super) const FRACTIONS: u64 = 256;

/// Bytes that may be sent again before anything has been sent.
const RESEND_CREDIT_FIRST_BYTES: u32 = 16 << 10;

/// Most that may be sent again at once, however much was sent before: more than a history holds of
/// one encoding (400 KiB), so that a burst of loss is repaired whole.
const RESEND_CREDIT_MAX_BYTES: u32 = 512 << 10;

/// How far a transport is.
#[derive(Debug, Clone)]
pub struct SendLimit {
    drained_at: Time,
    /// In 1/[`FRACTIONS`] of a nanosecond.
    time_per_byte: u32,
    /// Bytes that may be sent again: one for each that was sent, so that NACKs double what a client
    /// is sent at most.
    resend_credit_bytes: u32,
}

impl SendLimit {
    /// Of a client with so many bits per second.
    pub fn new(budget_bps: u32) -> Self {
        let mut limit = SendLimit {
            drained_at: Time::ZERO,
            time_per_byte: 0,
            resend_credit_bytes: RESEND_CREDIT_FIRST_BYTES,
        };
        limit.set_budget(budget_bps);
        limit
    }

    /// From now on so many bits per second.
    pub fn set_budget(&mut self, budget_bps: u32) {
        let bytes_per_second = u64::from(budget_bps) * ABOVE_BUDGET_PERCENT / 100 / 8;
        let time = (1_000_000_000 * FRACTIONS).div_ceil(bytes_per_second.max(1));
        self.time_per_byte = u32::try_from(time).unwrap_or(u32::MAX).max(1);
    }

    /// Whether so many packets of whatever length may leave now.
    #[inline]
    pub fn has_room(&self, now: Time, packets: usize) -> bool {
        // Mostly all is drained, and they are few.
        if self.drained_at <= now && packets <= BURST_BYTES as usize / OUTGOING_PACKET_MAX {
            return true;
        }
        let bytes = packets * OUTGOING_PACKET_MAX;
        self.ahead(now).saturating_add(self.nanos(bytes as u64)) <= BURST_NANOS
    }

    /// Whether so many bytes may leave now.
    pub fn admits(&self, now: Time, bytes: usize, kind: MediaKind) -> bool {
        let burst = BURST_NANOS.max(self.nanos(BURST_BYTES));
        let most = match kind {
            MediaKind::Audio => burst.saturating_add(self.nanos(VOICE_BURST_BYTES)),
            MediaKind::Video => burst,
        };
        self.ahead(now).saturating_add(self.nanos(bytes as u64)) <= most
    }

    /// When so many bytes of pictures may leave.
    pub fn ready_at(&self, bytes: usize) -> Time {
        let burst = BURST_NANOS.max(self.nanos(BURST_BYTES));
        let until = self.drained_at.as_nanos().saturating_add(self.nanos(bytes as u64));
        Time::from_nanos(until.saturating_sub(burst))
    }

    /// Notes bytes that leave.
    #[inline]
    pub fn spend(&mut self, now: Time, bytes: usize) {
        let drained_at = self.drained_at.max(now).as_nanos() + self.nanos(bytes as u64);
        self.drained_at = Time::from_nanos(drained_at);
    }

    /// Notes bytes that leave whatever the budget: reports, of which there are few.
    pub fn spend_beside(&mut self, bytes: usize) {
        self.spend(self.drained_at, bytes);
    }

    /// Notes media bytes that were sent for the first time: as many may be sent again.
    #[inline]
    pub fn earn_resend(&mut self, len: usize) {
        // A turn's send arena has 4 MiB.
        let credit = self.resend_credit_bytes + len as u32;
        self.resend_credit_bytes = credit.min(RESEND_CREDIT_MAX_BYTES);
    }

    /// Whether so many bytes may be sent again.
    pub fn may_resend(&self, len: usize) -> bool {
        self.resend_credit_bytes as usize >= len
    }

    /// Notes bytes that were sent again.
    pub fn spend_resend(&mut self, len: usize) {
        self.resend_credit_bytes = self.resend_credit_bytes.saturating_sub(len as u32);
    }

    /// Nanoseconds until all that was sent has drained.
    #[inline]
    fn ahead(&self, now: Time) -> u64 {
        self.drained_at.as_nanos().saturating_sub(now.as_nanos())
    }

    #[inline]
    fn nanos(&self, bytes: u64) -> u64 {
        bytes * u64::from(self.time_per_byte) / FRACTIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut limit = SendLimit::new(3_000_000);
        let fits = |limit: &SendLimit, ms, bytes| limit.admits(at(ms), bytes, MediaKind::Video);
        assert!(fits(&limit, 1000, 37_400) && !fits(&limit, 1000, 37_410));
        limit.spend(at(1000), 37_400);
        assert!(!limit.admits(at(1000), 100, MediaKind::Video));
        assert!(limit.admits(at(1000), 100, MediaKind::Audio), "a voice comes first");
        assert!(limit.admits(at(1010), 3_930, MediaKind::Video));
        assert!(!limit.admits(at(1010), 4_000, MediaKind::Video));
        assert!(fits(&limit, 1100, 37_400), "drained");
        let packets = 37_400 / OUTGOING_PACKET_MAX;
        assert!(limit.has_room(at(1100), packets) && !limit.has_room(at(1100), packets + 1));
        assert!(limit.has_room(at(1095), 1) && !limit.has_room(at(1001), 1));
    }

    /// Most that is sent in any `window_ms`, in percent of the budget, by sources that always have
    /// more after a pause.
    fn most_in(window_ms: u64, budget_bps: u32) -> f64 {
        let mut limit = SendLimit::new(budget_bps);
        let mut sent = Vec::new();
        for ms in 1_000..11_000 {
            let mut bytes = 0;
            while limit.admits(at(ms), 1_000, MediaKind::Video) {
                limit.spend(at(ms), 1_000);
                bytes += 1_000_u64;
            }
            sent.push(bytes);
        }
        let most = sent.windows(window_ms as usize).map(|w| w.iter().sum::<u64>()).max().unwrap();
        most as f64 * 8.0 * 1000.0 / window_ms as f64 / f64::from(budget_bps) * 100.0
    }

    #[test]
    fn a_tenth_above_the_budget_in_any_two_seconds() {
        for budget_bps in [3_000_000, 10_000_000, 1_000_000_000] {
            let percent = most_in(2_000, budget_bps);
            assert!((104.0..=110.0).contains(&percent), "{percent:.1} % of {budget_bps}");
        }
        // A picture of a small budget takes longer to be made good.
        assert!(most_in(5_000, 1_000_000) < 111.0);
    }

    #[test]
    fn whatever_is_asked_it_neither_overflows_nor_locks() {
        for budget_bps in [0, 1, 300, u32::MAX] {
            let mut limit = SendLimit::new(budget_bps);
            limit.spend(at(0), usize::MAX >> 32);
            limit.spend_beside(1 << 20);
            assert!(!limit.admits(at(0), 1, MediaKind::Audio) || budget_bps == u32::MAX);
        }
    }

    #[test]
    fn as_much_may_be_sent_again_as_was_sent() {
        let mut limit = SendLimit::new(1);
        limit.spend_resend(RESEND_CREDIT_FIRST_BYTES as usize);
        assert!(limit.may_resend(0) && !limit.may_resend(1));
        limit.earn_resend(1200);
        assert!(limit.may_resend(1200) && !limit.may_resend(1201));
        limit.earn_resend(4 << 20);
        assert!(!limit.may_resend(RESEND_CREDIT_MAX_BYTES as usize + 1));
    }
}
