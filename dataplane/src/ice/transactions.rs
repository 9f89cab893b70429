//! Which checks have come lately: a check that comes again from elsewhere was recorded on the way.
//!
//! The password authenticates who wrote a check, not who sends it. Whoever reads the network can
//! send a client's check again from another address, and it nominates there as it did here. So a
//! transaction belongs to the tuple it first came from. What is too old to be remembered gains
//! nothing either: see the proof of tuples in [`super::agent`].
#![forbid(unsafe_code)]

use opencall_wire::stun::TransactionId;

/// Transactions an agent remembers: with a check every 48 ms, as libwebrtc sends them while it
/// looks for a path, those of three seconds, and of minutes once it has one. More costs 16 bytes
/// each.
pub(super) const RECENT_TRANSACTIONS: usize = 64;

/// Names a tuple for the life of its agent; 0 is none.
pub(super) type TupleNumber = u32;

/// The newest transactions, each with the tuple it came from.
pub(super) struct RecentTransactions {
    entries: Box<[Entry; RECENT_TRANSACTIONS]>,
    /// Where the next one goes: over the oldest.
    next: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    id: TransactionId,
    from: TupleNumber,
}

impl RecentTransactions {
    /// None yet.
    pub(super) fn new() -> Self {
        let none = Entry { id: TransactionId([0; 12]), from: 0 };
        RecentTransactions { entries: Box::new([none; RECENT_TRANSACTIONS]), next: 0 }
    }

    /// Whether a transaction may come from this tuple, and notes that it did. One that came from
    /// another before may not, unless the client was proven to be here: then it was overtaken.
    pub(super) fn admit(&mut self, id: TransactionId, from: TupleNumber, is_proven: bool) -> bool {
        let known = self.entries.iter().position(|entry| entry.id == id && entry.from != 0);
        if let Some(index) = known {
            let origin = &mut self.entries[index].from;
            if is_proven {
                *origin = from;
            }
            return *origin == from;
        }
        self.entries[self.next] = Entry { id, from };
        self.next = (self.next + 1) % RECENT_TRANSACTIONS;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> TransactionId {
        TransactionId([number; 12])
    }

    #[test]
    fn a_transaction_stays_with_the_tuple_it_first_came_from() {
        let mut recent = RecentTransactions::new();
        assert!(recent.admit(id(1), 1, false));
        assert!(recent.admit(id(1), 1, false), "sent again");
        assert!(!recent.admit(id(1), 2, false), "from elsewhere");
        assert!(recent.admit(id(1), 3, true), "overtaken on the way");
        assert!(!recent.admit(id(1), 1, false));
        assert!(recent.admit(id(0), 1, false), "an id that looks like an empty place");
        assert!(!recent.admit(id(0), 2, false));
    }

    #[test]
    fn the_newest_are_known_and_the_oldest_make_room() {
        let mut recent = RecentTransactions::new();
        let all = RECENT_TRANSACTIONS as u8;
        for number in 0..=all {
            for _ in 0..3 {
                assert!(recent.admit(id(number), 1, false), "it takes one place");
            }
        }
        for number in 1..=all {
            assert!(!recent.admit(id(number), 2, false));
        }
        assert!(recent.admit(id(0), 2, false), "forgotten");
    }
}
