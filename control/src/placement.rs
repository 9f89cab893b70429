//! Which data core a participant lives on. All transports of one participant share a core, so that
//! its two directions see one clock and one congestion state.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BTreeMap;

use opencall_dataplane::message::{CoreId, MAX_CORES};
use opencall_dataplane::overload::FLOOR_BPS;

/// How rooms meet cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacementPolicy {
    /// A room stays on one core until it has this many participants there, then goes on to the next
    /// core. Fewer pipes, as a producer reaches another core through one.
    Pack {
        /// Participants of one room on one core.
        participants_per_core: usize,
    },
    /// Every participant goes to the least loaded core.
    Spread,
}

/// Participants of one room that a core carries before the room grows on another: a meeting of
/// ordinary size never pays for a pipe.
pub const PARTICIPANTS_PER_CORE: usize = 50;

impl Default for PlacementPolicy {
    fn default() -> Self {
        PlacementPolicy::Pack { participants_per_core: PARTICIPANTS_PER_CORE }
    }
}

/// Load that a fully busy core counts as, in transports: so that the measured share of CPU
/// outweighs the number of transports, which says little of what they carry.
const FULL_CPU_TRANSPORTS: f32 = 1_000.0;

/// Shares of CPU are told apart by so much only: what an idle core does is noise.
const CPU_STEP: f32 = 0.05;

/// What a core that cannot keep up counts as besides: it gets nobody as long as another does.
const OVERLOAD_TRANSPORTS: f32 = 1_000_000.0;

/// The load of all cores.
pub(crate) struct Placement {
    policy: PlacementPolicy,
    cores: BTreeMap<CoreId, CoreLoad>,
    /// Where to start looking, so that equals take turns.
    turn: CoreId,
}

#[derive(Clone, Default)]
struct CoreLoad {
    transports: u32,
    cpu: f32,
    /// What each client's pictures may take while the core cannot keep up, bits per second.
    ceiling_bps: Option<u64>,
    /// It is to go: nobody is placed there.
    is_draining: bool,
}

impl CoreLoad {
    fn figure(&self) -> f32 {
        let overload = if self.ceiling_bps.is_some() { OVERLOAD_TRANSPORTS } else { 0.0 };
        self.transports as f32 + self.cpu * FULL_CPU_TRANSPORTS + overload
    }
}

/// Where the participants of one room are.
#[derive(Default)]
pub(crate) struct RoomCores(BTreeMap<CoreId, usize>);

impl RoomCores {
    /// One of its cores that take somebody, in turn.
    pub fn nth(&self, turn: usize, placement: &Placement) -> Option<CoreId> {
        let open = self.0.keys().copied().filter(|core| placement.is_open(*core));
        let open: Vec<CoreId> = open.collect();
        open.get(turn % open.len().max(1)).copied()
    }

    pub fn enter(&mut self, core: CoreId) {
        *self.0.entry(core).or_default() += 1;
    }

    pub fn leave(&mut self, core: CoreId) {
        if let Some(count) = self.0.get_mut(&core) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&core);
            }
        }
    }
}

impl Placement {
    /// For so many cores, at least one.
    pub fn new(policy: PlacementPolicy, cores: usize) -> Self {
        let ids = (0..cores.clamp(1, MAX_CORES)).map(|index| CoreId(index as u8));
        let cores = ids.map(|core| (core, CoreLoad::default())).collect();
        Placement { policy, cores, turn: CoreId(0) }
    }

    /// A core has come, on which nobody is yet.
    pub fn add(&mut self, core: CoreId) {
        self.cores.entry(core).or_default();
    }

    /// A core is gone.
    pub fn remove(&mut self, core: CoreId) {
        self.cores.remove(&core);
    }

    /// Nobody is placed on a core any more, or again.
    pub fn set_draining(&mut self, core: CoreId, is_draining: bool) {
        if let Some(load) = self.cores.get_mut(&core) {
            load.is_draining = is_draining;
        }
    }

    /// Whether somebody may be placed on a core.
    pub fn is_open(&self, core: CoreId) -> bool {
        self.cores.get(&core).is_some_and(|load| !load.is_draining)
    }

    /// Whether a core is there.
    pub fn has(&self, core: CoreId) -> bool {
        self.cores.contains_key(&core)
    }

    /// The cores on which somebody may be placed.
    fn open(&self) -> impl Iterator<Item = (&CoreId, &CoreLoad)> {
        self.cores.iter().filter(|(_, load)| !load.is_draining)
    }

    /// How many there are of them.
    pub fn open_count(&self) -> usize {
        self.open().count()
    }

    /// The core for a new participant of a room.
    pub fn choose(&mut self, room: &RoomCores) -> CoreId {
        if let PlacementPolicy::Pack { participants_per_core } = self.policy {
            // The fullest core that still takes one: a room fills one core before the next.
            let open = room.0.iter().filter(|&(core, count)| {
                let has_room = *count < participants_per_core && self.ceiling(*core).is_none();
                has_room && self.is_open(*core)
            });
            if let Some((core, _)) = open.min_by_key(|(_, count)| Reverse(**count)) {
                return *core;
            }
        }
        self.least_loaded()
    }

    /// The one of the cores that take somebody with the least to do.
    pub fn least_loaded(&mut self) -> CoreId {
        let later = self.open().filter(|(core, _)| **core >= self.turn);
        let in_turn = later.chain(self.open().filter(|(core, _)| **core < self.turn));
        // Of equals the first.
        let best = in_turn.min_by(|(_, a), (_, b)| a.figure().total_cmp(&b.figure()));
        // One is always open: the last cannot be drained.
        let best = best.map_or(CoreId(0), |(core, _)| *core);
        self.turn = CoreId(best.0.saturating_add(1));
        best
    }

    pub fn add_transport(&mut self, core: CoreId) {
        if let Some(load) = self.cores.get_mut(&core) {
            load.transports += 1;
        }
    }

    pub fn remove_transport(&mut self, core: CoreId) {
        if let Some(load) = self.cores.get_mut(&core) {
            load.transports = load.transports.saturating_sub(1);
        }
    }

    /// The measured share of time that a core is busy, 0–1.
    pub fn set_cpu(&mut self, core: CoreId, busy: f32) {
        if let Some(load) = self.cores.get_mut(&core) {
            let busy = if busy.is_finite() { busy.clamp(0.0, 1.0) } else { 0.0 };
            load.cpu = (busy / CPU_STEP).round() * CPU_STEP;
        }
    }

    /// What each client's pictures may take on a core that cannot keep up; `None` for one that can.
    pub fn set_ceiling(&mut self, core: CoreId, ceiling_bps: Option<u64>) {
        if let Some(load) = self.cores.get_mut(&core) {
            load.ceiling_bps = ceiling_bps;
        }
    }

    fn ceiling(&self, core: CoreId) -> Option<u64> {
        self.cores.get(&core)?.ceiling_bps
    }

    /// How many cores cannot keep up.
    pub fn overloaded(&self) -> usize {
        self.cores.values().filter(|load| load.ceiling_bps.is_some()).count()
    }

    /// Whether no core has room for anybody: all have given up their pictures.
    pub fn is_exhausted(&self) -> bool {
        self.open().all(|(_, load)| load.ceiling_bps.is_some_and(|bps| bps <= FLOOR_BPS))
    }

    pub fn transports(&self, core: CoreId) -> u32 {
        self.cores.get(&core).map_or(0, |load| load.transports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_cannot_keep_up_gets_nobody_as_long_as_another_can() {
        let mut placement = Placement::new(PlacementPolicy::default(), 2);
        let mut room = RoomCores::default();
        let core = enter(&mut placement, &mut room);
        placement.set_ceiling(CoreId(core), Some(1_000_000));
        assert_eq!(enter(&mut placement, &mut room), 1 - core);
        assert_eq!((placement.overloaded(), placement.is_exhausted()), (1, false));
        placement.set_ceiling(CoreId(1 - core), Some(FLOOR_BPS));
        assert!(!placement.is_exhausted(), "the first has pictures still");
        placement.set_ceiling(CoreId(core), Some(FLOOR_BPS));
        assert!(placement.is_exhausted());
        placement.set_ceiling(CoreId(core), None);
        assert_eq!((enter(&mut placement, &mut room), placement.is_exhausted()), (core, false));
    }

    fn enter(placement: &mut Placement, room: &mut RoomCores) -> u8 {
        let core = placement.choose(room);
        room.enter(core);
        placement.add_transport(core);
        core.0
    }

    #[test]
    fn equals_take_turns() {
        let mut placement = Placement::new(PlacementPolicy::Spread, 3);
        let mut room = RoomCores::default();
        let cores: Vec<u8> = (0..6).map(|_| enter(&mut placement, &mut room)).collect();
        assert_eq!(cores, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_packed_room_fills_a_core_and_goes_on() {
        let policy = PlacementPolicy::Pack { participants_per_core: 2 };
        let mut placement = Placement::new(policy, 3);
        let (mut one, mut other) = (RoomCores::default(), RoomCores::default());
        let cores: Vec<u8> = (0..4).map(|_| enter(&mut placement, &mut one)).collect();
        assert_eq!(cores, [0, 0, 1, 1]);
        assert_eq!(enter(&mut placement, &mut other), 2);
        one.leave(CoreId(0));
        assert_eq!(enter(&mut placement, &mut one), 0);
    }

    #[test]
    fn the_least_loaded_core_is_taken_by_transports_and_by_cpu() {
        let mut placement = Placement::new(PlacementPolicy::Spread, 2);
        let room = RoomCores::default();
        for _ in 0..5 {
            placement.add_transport(CoreId(0));
        }
        assert_eq!(placement.choose(&room), CoreId(1));
        assert_eq!(placement.choose(&room), CoreId(1));
        placement.set_cpu(CoreId(1), 0.5);
        assert_eq!(placement.choose(&room), CoreId(0));
        placement.set_cpu(CoreId(0), 0.02);
        placement.set_cpu(CoreId(1), f32::NAN);
        assert_eq!(placement.choose(&room), CoreId(1));
    }

    #[test]
    fn nobody_is_placed_on_a_core_that_drains_and_on_one_that_came_they_are() {
        let policy = PlacementPolicy::Pack { participants_per_core: 9 };
        let mut placement = Placement::new(policy, 2);
        let mut room = RoomCores::default();
        assert_eq!([enter(&mut placement, &mut room), enter(&mut placement, &mut room)], [0, 0]);
        placement.set_draining(CoreId(0), true);
        assert_eq!((placement.open_count(), placement.is_open(CoreId(0))), (1, false));
        assert_eq!(enter(&mut placement, &mut room), 1, "its room goes on elsewhere");
        assert_eq!(room.nth(0, &placement), Some(CoreId(1)), "and so does its stage");
        placement.add(CoreId(7));
        let mut other = RoomCores::default();
        assert_eq!(enter(&mut placement, &mut other), 7, "it has the least to do");
        placement.set_ceiling(CoreId(0), Some(FLOOR_BPS));
        for core in [1, 7] {
            assert!(!placement.is_exhausted());
            placement.set_ceiling(CoreId(core), Some(FLOOR_BPS));
        }
        assert!(placement.is_exhausted());
        placement.remove(CoreId(0));
        placement.set_draining(CoreId(0), false);
        assert_eq!((placement.overloaded(), placement.has(CoreId(0))), (2, false));
        placement.set_draining(CoreId(7), true);
        placement.set_draining(CoreId(7), false);
        assert!(placement.is_open(CoreId(7)));
    }

    #[test]
    fn leaving_never_counts_below_zero() {
        let mut placement = Placement::new(PlacementPolicy::default(), 1);
        placement.remove_transport(CoreId(0));
        placement.remove_transport(CoreId(9));
        assert_eq!(placement.transports(CoreId(0)), 0);
        let mut room = RoomCores::default();
        room.leave(CoreId(0));
        assert!(room.0.is_empty());
    }
}
