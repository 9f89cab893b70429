//! Which transport an address belongs to.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use crate::io::SocketId;

/// A client's address and the socket of ours that it is heard on.
pub type Tuple = (SocketAddr, SocketId);

/// Slab keys of transports by the addresses that ICE has validated.
///
/// Clients send the packets of a frame in one go, so the owner of the last address is remembered: of
/// the packets of a busy publisher one in nine searches the table.
#[derive(Debug, Default)]
pub struct AddressTable {
    owners: HashMap<Tuple, usize, RandomState>,
    last: Option<(Tuple, usize)>,
}

impl AddressTable {
    /// The transport of an address that a packet came from.
    pub fn owner_of_sender(&mut self, tuple: Tuple) -> Option<usize> {
        if let Some((last, owner)) = self.last
            && last == tuple
        {
            return Some(owner);
        }
        let owner = self.owner(tuple)?;
        self.last = Some((tuple, owner));
        Some(owner)
    }

    /// The transport of an address.
    pub fn owner(&self, tuple: Tuple) -> Option<usize> {
        self.owners.get(&tuple).copied()
    }

    /// Gives an address to a transport and returns the one that had it.
    pub fn insert(&mut self, tuple: Tuple, transport: usize) -> Option<usize> {
        self.last = None;
        self.owners.insert(tuple, transport)
    }

    /// Forgets an address.
    pub fn remove(&mut self, tuple: Tuple) {
        self.last = None;
        self.owners.remove(&tuple);
    }

    /// Forgets an address of a transport that goes, unless another has it by now.
    pub fn remove_of(&mut self, tuple: Tuple, transport: usize) {
        if self.owner(tuple) == Some(transport) {
            self.remove(tuple);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_follows_every_change() {
        let tuple = |port| (SocketAddr::from(([192, 0, 2, 1], port)), SocketId(0));
        let mut table = AddressTable::default();
        assert_eq!(table.owner_of_sender(tuple(1)), None);
        assert_eq!(table.insert(tuple(1), 7), None);
        table.insert(tuple(2), 8);
        assert_eq!(table.owner_of_sender(tuple(1)), Some(7));
        assert_eq!(table.owner_of_sender(tuple(1)), Some(7));
        assert_eq!(table.owner_of_sender(tuple(2)), Some(8));
        assert_eq!(table.owner_of_sender((tuple(2).0, SocketId(1))), None);

        assert_eq!(table.insert(tuple(2), 9), Some(8), "it moves");
        assert_eq!(table.owner_of_sender(tuple(2)), Some(9));
        table.remove(tuple(2));
        assert_eq!(table.owner_of_sender(tuple(2)), None);
        assert_eq!(table.owner_of_sender(tuple(1)), Some(7));
        table.remove_of(tuple(1), 8);
        assert_eq!(table.owner_of_sender(tuple(1)), Some(7), "it is another's");
        table.remove_of(tuple(1), 7);
        assert_eq!(table.owner_of_sender(tuple(1)), None);
    }
}
