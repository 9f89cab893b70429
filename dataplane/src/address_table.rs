//! Which transport an address belongs to.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;
use opencall_io::SocketId;

use crate::store::TransportKey;

/// A client's address and the socket of ours that it is heard on.
pub type Tuple = (SocketAddr, SocketId);

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    transport: TransportKey,
    /// Whether it is proven that its client is there: an authentic packet says nothing new.
    pub proven: bool,
}

impl Owner {
    /// It is this transport's.
    pub fn new(transport: TransportKey, proven: bool) -> Self {
        Owner { transport, proven }
    }

    /// The transport.
    #[inline]
    pub fn transport(self) -> TransportKey {
        self.transport
    }
}

/// The transports by the addresses that ICE has validated.
///
/// Clients send the packets of a frame in one go, so the owner of the last address is remembered:
/// of the packets of a busy publisher one in nine searches the table.
#[derive(Debug, Default)]
pub struct AddressTable {
    owners: HashMap<Tuple, Owner, RandomState>,
    last: Option<(Tuple, Owner)>,
}

impl AddressTable {
    /// The transport of an address that a packet came from.
    #[inline(always)]
    pub fn owner_of_sender(&mut self, tuple: Tuple) -> Option<Owner> {
        if let Some((last, owner)) = self.last
            && last == tuple
        {
            return Some(owner);
        }
        let owner = self.owner(tuple)?;
        self.last = Some((tuple, owner));
        Some(owner)
    }

    /// How many addresses it knows.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whose an address is.
    pub fn owner(&self, tuple: Tuple) -> Option<Owner> {
        self.owners.get(&tuple).copied()
    }

    /// Gives an address to a transport and returns the one that had it.
    pub fn insert(&mut self, tuple: Tuple, owner: Owner) -> Option<TransportKey> {
        self.last = None;
        Some(self.owners.insert(tuple, owner)?.transport())
    }

    /// Forgets an address.
    pub fn remove(&mut self, tuple: Tuple) {
        self.last = None;
        self.owners.remove(&tuple);
    }

    /// Forgets an address of a transport that goes, unless another has it by now.
    pub fn remove_of(&mut self, tuple: Tuple, transport: TransportKey) {
        if self.owner(tuple).is_some_and(|owner| owner.transport() == transport) {
            self.remove(tuple);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bits: u32) -> TransportKey {
        TransportKey::of_test(bits)
    }

    #[test]
    fn what_is_remembered_follows_every_change() {
        let tuple = |port| (SocketAddr::from(([192, 0, 2, 1], port)), SocketId(0));
        let owned_by = |transport| Owner::new(transport, false);
        let mut table = AddressTable::default();
        assert_eq!(table.owner_of_sender(tuple(1)), None);
        assert_eq!(table.insert(tuple(1), owned_by(key(7))), None);
        table.insert(tuple(2), owned_by(key(8)));
        assert_eq!(table.owner_of_sender(tuple(1)), Some(owned_by(key(7))));
        assert_eq!(table.owner_of_sender(tuple(1)), Some(owned_by(key(7))));
        assert_eq!(table.owner_of_sender(tuple(2)), Some(owned_by(key(8))));
        assert_eq!(table.owner_of_sender((tuple(2).0, SocketId(1))), None);

        let proven = Owner::new(key(8), true);
        assert_eq!(table.insert(tuple(2), proven), Some(key(8)), "it is proven");
        assert_eq!(table.owner_of_sender(tuple(2)), Some(proven));
        assert_eq!(table.insert(tuple(2), owned_by(key(9))), Some(key(8)), "it moves");
        assert_eq!(table.owner_of_sender(tuple(2)), Some(owned_by(key(9))));
        table.remove(tuple(2));
        assert_eq!(table.owner_of_sender(tuple(2)), None);
        assert_eq!(table.owner_of_sender(tuple(1)), Some(owned_by(key(7))));
        table.remove_of(tuple(1), key(8));
        assert_eq!(table.owner_of_sender(tuple(1)), Some(owned_by(key(7))), "it is another's");
        table.remove_of(tuple(1), key(7));
        assert_eq!(table.owner_of_sender(tuple(1)), None);
    }
}
