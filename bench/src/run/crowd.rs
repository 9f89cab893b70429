//! Who is there: in which order people enter and leave, and who passes through.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::load::Orders;
use super::options::RunOptions;
use crate::scenario::Scenario;

/// How long one who passes through in a storm of joins stays.
const VISIT: Duration = Duration::from_secs(2);

/// Who comes and goes while it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moves {
    /// Nobody.
    None,
    /// One leaves and another enters.
    Exchange,
    /// One passes through.
    Visit,
}

/// The participants of a run.
pub(super) struct Crowd {
    orders: Orders,
    scenario: Scenario,
    rooms: u32,
    room_size: u32,
    /// In the order of their coming, those who left taken out.
    present: VecDeque<u32>,
    /// How many have entered so far, which is the next one's number.
    entered: u32,
    /// Who passes through, and since when.
    visitors: VecDeque<(Instant, u32)>,
    visits: u32,
}

impl Crowd {
    /// Nobody yet.
    pub(super) fn new(orders: Orders, options: &RunOptions) -> Self {
        let RunOptions { scenario, rooms, participants, .. } = *options;
        Crowd {
            orders,
            scenario,
            rooms,
            room_size: participants,
            present: VecDeque::new(),
            entered: 0,
            visitors: VecDeque::new(),
            visits: 0,
        }
    }

    /// How many have entered so far, whoever left since.
    pub(super) fn entered(&self) -> u32 {
        self.entered
    }

    /// The next one enters.
    pub(super) fn enter(&mut self) {
        let plan = self.scenario.plan(self.entered, self.rooms, self.room_size);
        self.present.push_back(plan.participant);
        self.entered += 1;
        self.orders.enter(plan);
    }

    /// Who came last leaves, and who came before, until `wanted` are there.
    pub(super) fn shrink_to(&mut self, wanted: usize) {
        for participant in self.present.drain(wanted.min(self.present.len())..).rev() {
            self.orders.leave(participant);
        }
    }

    /// One move.
    pub(super) fn make(&mut self, moves: Moves, now: Instant) {
        match moves {
            Moves::None => {}
            Moves::Exchange => self.exchange(),
            Moves::Visit => self.visit(now),
        }
    }

    /// Whoever came first leaves first: all have been there equally long then.
    fn exchange(&mut self) {
        if let Some(participant) = self.present.pop_front() {
            self.orders.leave(participant);
        }
        self.enter();
    }

    /// One passes through; those whose visit is over go.
    fn visit(&mut self, now: Instant) {
        let is_over = |(since, _): &mut (Instant, u32)| *since + VISIT < now;
        while let Some((_, visitor)) = self.visitors.pop_front_if(is_over) {
            self.orders.leave(visitor);
        }
        let plan = Scenario::visitor(self.visits, self.rooms);
        self.visits += 1;
        self.visitors.push_back((now, plan.participant));
        self.orders.enter(plan);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::load::Order;
    use super::*;
    use crate::client::engine::FIRST_VISITOR;

    /// A crowd, and whom it sent in (their numbers) and out (the same below zero, less one).
    fn crowd(size: u32) -> (Crowd, impl FnMut() -> Vec<i64>) {
        let (orders, mut inlet) = mpsc::unbounded_channel();
        let crowd = Crowd {
            orders: Orders(orders),
            scenario: Scenario::Meeting,
            rooms: 1,
            room_size: size,
            present: VecDeque::new(),
            entered: 0,
            visitors: VecDeque::new(),
            visits: 0,
        };
        let drain = move || {
            std::iter::from_fn(|| inlet.try_recv().ok())
                .map(|order| match order {
                    Order::Enter(plan) => i64::from(plan.participant),
                    Order::Leave(participant) => -i64::from(participant) - 1,
                })
                .collect()
        };
        (crowd, drain)
    }

    #[test]
    fn who_came_first_is_exchanged_first_and_who_came_last_leaves_a_shrinking_crowd_first() {
        let (mut crowd, mut orders) = crowd(4);
        (0..4).for_each(|_| crowd.enter());
        assert_eq!(orders(), [0, 1, 2, 3]);
        crowd.make(Moves::Exchange, Instant::now());
        crowd.make(Moves::None, Instant::now());
        assert_eq!((orders(), crowd.entered()), (vec![-1, 4], 5));
        crowd.shrink_to(1);
        crowd.shrink_to(7);
        assert_eq!(orders(), [-5, -4, -3]);
    }

    #[test]
    fn a_visit_ends_by_itself_and_is_no_entry() {
        let (mut crowd, mut orders) = crowd(2);
        let (begin, first) = (Instant::now(), i64::from(FIRST_VISITOR));
        crowd.make(Moves::Visit, begin);
        crowd.make(Moves::Visit, begin + VISIT / 2);
        assert_eq!(orders(), [first, first + 1]);
        crowd.make(Moves::Visit, begin + VISIT + VISIT / 4);
        assert_eq!(orders(), [-first - 1, first + 2]);
        assert_eq!(crowd.entered(), 0);
    }
}
