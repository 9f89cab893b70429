//! What waited in the sockets while no core ran: after a stall a second of media. It is counted as
//! received and not forwarded, for it would come as a burst of old pictures that fills every
//! client's path and then its estimate, and nobody would see or hear it in time.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

/// Full batches for longer are no backlog, but a core that cannot keep up ([`crate::overload`]).
const DRAINED_AFTER: Duration = Duration::from_millis(300);

/// Whether a core that has just begun reads what waited.
#[derive(Debug, Clone, Copy, Default)]
pub enum Backlog {
    /// Nothing was read yet.
    #[default]
    Unread,
    /// It is being read, until then at the latest.
    Waits(Time),
    /// What is received now has just arrived.
    Read,
}

impl Backlog {
    /// A turn begins with a batch: a full one may have more behind it.
    #[inline]
    pub fn on_turn(&mut self, now: Time, is_empty: bool, is_full: bool) {
        if !matches!(self, Backlog::Read) {
            *self = self.after(now, is_empty, is_full);
        }
    }

    fn after(self, now: Time, is_empty: bool, is_full: bool) -> Self {
        match self {
            Backlog::Unread if is_empty => Backlog::Unread,
            Backlog::Unread if is_full => Backlog::Waits(now + DRAINED_AFTER),
            Backlog::Waits(until) if is_full && now < until => self,
            _ => Backlog::Read,
        }
    }

    /// Whether what is received now has waited.
    #[inline]
    pub fn waits(self) -> bool {
        matches!(self, Backlog::Waits(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_batches_at_the_beginning_have_waited_for_a_while() {
        // Each batch: when, how full it is, and whether its media is late.
        let tables: [&[(u64, &str, bool)]; 3] = [
            &[(0, "empty", false), (5, "full", true), (9, "full", true), (12, "some", false)],
            &[(0, "some", false), (5, "full", false)],
            &[(0, "full", true), (299, "full", true), (300, "full", false), (301, "full", false)],
        ];
        for table in tables {
            let mut backlog = Backlog::default();
            for &(ms, batch, late) in table {
                let now = Time::from_millis(10_000 + ms);
                backlog.on_turn(now, batch == "empty", batch == "full");
                assert_eq!(backlog.waits(), late, "{batch} after {ms} ms of {table:?}");
            }
        }
    }
}
