//! How many connections a listener has, from where. Pure: it counts, its callers close.
//!
//! It is asked once it is known what a connection is. Until then the oldest unknown one makes room
//! (`admit.rs`), so that half handshakes from a member's own address keep no member out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections one listener holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Of all addresses that are no member's, together.
    pub strangers: usize,
    /// Of one of them.
    pub stranger: usize,
    /// Of one member's address; these are kept for it, whatever strangers do.
    pub member: usize,
    /// One part in so many of the strangers' places, of all and of one address, is kept for those who may change
    /// something; 1: none is.
    pub kept_part: usize,
}

/// Counts the connections of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Places,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    members: BTreeSet<IpAddr>,
    taken: BTreeMap<IpAddr, usize>,
    /// Connections that came as strangers'. One of an address that has become a member's since is still
    /// one of these.
    strangers: usize,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
#[must_use = "dropped, the place is free again"]
pub struct Place {
    keeper: Keeper,
    address: IpAddr,
    stranger: bool,
}

impl Place {
    /// Whether enough is left for others where it is of one who may only look. Asked once it is known who it is.
    pub fn leaves_room(&self) -> bool {
        let Places { strangers, stranger, kept_part, .. } = self.keeper.0.places;
        let counts = self.keeper.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = counts.taken.get(&self.address).copied().unwrap_or_default();
        let within = |taken: usize, of: usize| kept_part <= 1 || taken <= of - of / kept_part;
        within(taken, stranger) && within(counts.strangers, strangers)
    }

    /// Whether it is one of those that are kept for members.
    pub fn is_members(&self) -> bool {
        !self.stranger
    }
}

/// An IPv4 address that came in by an IPv6 socket is the same one.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Keeper {
    pub fn new(places: Places) -> Self {
        Self(Arc::new(Inner { places, counts: Mutex::default() }))
    }

    /// From now on these are the members' addresses.
    pub fn know_members(&self, members: impl IntoIterator<Item = IpAddr>) {
        let members = members.into_iter().map(plain).collect();
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).members = members;
    }

    /// A place for a new connection from `address`; `None` where there is none left for it.
    pub fn admit(&self, address: IpAddr) -> Option<Place> {
        let Places { strangers, stranger, member, kept_part: _ } = self.0.places;
        let address = plain(address);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stranger = !counts.members.contains(&address);
        let taken = counts.taken.get(&address).copied().unwrap_or_default();
        let free =
            if is_stranger { taken < stranger && counts.strangers < strangers } else { taken < member };
        if !free {
            return None;
        }
        counts.taken.insert(address, taken + 1);
        counts.strangers += usize::from(is_stranger);
        Some(Place { keeper: self.clone(), address, stranger: is_stranger })
    }

    /// Connections now.
    #[cfg(test)]
    fn taken(&self) -> usize {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).taken.values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.keeper.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.strangers -= usize::from(self.stranger);
        if let Some(taken) = counts.taken.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                counts.taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places = Places { strangers: 5, stranger: 2, member: 3, kept_part: 2 };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn keeper() -> Keeper {
        let keeper = Keeper::new(PLACES);
        keeper.know_members([address(1), address(2)]);
        keeper
    }

    #[test]
    fn one_address_takes_its_own_places_and_no_more() {
        let keeper = keeper();
        let held: Vec<_> = (0..10).filter_map(|_| keeper.admit(address(9))).collect();
        assert_eq!(held.len(), PLACES.stranger);
        assert!(keeper.admit(address(8)).is_some(), "another's place is its own");
        // The same address by another spelling.
        assert!(keeper.admit("::ffff:10.0.0.9".parse().unwrap()).is_none());
        drop(held);
        assert!(keeper.admit(address(9)).is_some(), "and is free again");
    }

    #[test]
    fn who_may_only_look_leaves_room_for_who_may_change_something() {
        let keeper = Keeper::new(Places { strangers: 8, stranger: 4, member: 0, kept_part: 2 });
        let looks = |last| keeper.admit(address(last)).filter(Place::leaves_room);
        let of_one: Vec<_> = (0..10).filter_map(|_| looks(9)).collect();
        assert_eq!(of_one.len(), 2, "of one address");
        let of_all: Vec<_> = (10..100).filter_map(looks).collect();
        assert_eq!(of_one.len() + of_all.len(), 4, "of all");
        let changes: Vec<_> = (0..10).filter_map(|_| keeper.admit(address(9))).collect();
        assert_eq!(changes.len(), 2, "what was kept");
    }

    #[test]
    fn strangers_take_no_members_place() {
        let keeper = keeper();
        let strangers: Vec<_> = (3..250).filter_map(|last| keeper.admit(address(last))).collect();
        assert_eq!(strangers.len(), PLACES.strangers);
        let members: Vec<_> = (0..10).filter_map(|_| keeper.admit(address(1))).collect();
        assert_eq!(members.len(), PLACES.member);
        let others: Vec<_> = (0..10).filter_map(|_| keeper.admit(address(2))).collect();
        assert_eq!(others.len(), PLACES.member, "nor one member another's");
        assert_eq!(keeper.taken(), PLACES.strangers + 2 * PLACES.member);
    }

    #[test]
    fn an_address_that_becomes_a_members_leaves_the_count_right() {
        let keeper = keeper();
        let before = keeper.admit(address(7)).expect("a place");
        keeper.know_members([address(7)]);
        drop(before);
        keeper.know_members([]);
        let held: Vec<_> = (3..250).filter_map(|last| keeper.admit(address(last))).collect();
        assert_eq!(held.len(), PLACES.strangers);
        drop(held);
        assert_eq!(keeper.taken(), 0);
    }
}
