//! What a seed decides before a meeting begins.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_control::PlacementPolicy;
use opencall_control::dtls::DtlsVersion;
use opencall_testkit::wire::Wire;
use opencall_wire::srtp::Profile;
use opencall_wire::time::Time;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// When every meeting begins. Not zero: nothing may take an early time for none.
pub const BEGIN: Time = Time::from_millis(10_000);

/// How a meeting is.
pub struct Plan {
    /// Data cores.
    pub cores: usize,
    /// Rooms.
    pub rooms: u32,
    /// Participants, over all rooms.
    pub participants: u32,
    /// How rooms meet cores.
    pub placement: PlacementPolicy,
    /// Slots of the rings from control, to control, and between cores.
    pub ring_slots: (usize, usize, usize),
    /// How long control may take to look at what came.
    pub control_latency: Duration,
    /// SRTP profile of all transports.
    pub profile: Profile,
    /// Newest DTLS version.
    pub dtls: DtlsVersion,
    /// Until when things go wrong and participants do things.
    pub calm_at: Time,
    /// How bad wires are, 0 (perfect) to 1.
    pub harm: f64,
    /// Mean time between two actions of anyone.
    pub action_interval: Duration,
}

impl Plan {
    /// Throws the dice.
    pub fn draw(dice: &mut StdRng) -> Self {
        let cores = dice.random_range(1..=3);
        let rooms = dice.random_range(1..=2);
        // A ring that is full is a counted drop, or a wait: small ones fill soon.
        let slots = |dice: &mut StdRng| 1 << dice.random_range(4..=9);
        // One between cores that key frames of a turn never fit in would cut them all at the same
        // place, as none of the server's does.
        let across = |dice: &mut StdRng| slots(dice).max(64);
        Plan {
            cores,
            rooms,
            participants: dice.random_range(2..=6),
            placement: match dice.random_range(0..3) {
                0 => PlacementPolicy::Pack { participants_per_core: 2 },
                _ => PlacementPolicy::Spread,
            },
            ring_slots: (slots(dice), slots(dice), across(dice)),
            control_latency: Duration::from_millis(if dice.random_bool(0.2) {
                dice.random_range(50..400)
            } else {
                dice.random_range(0..10)
            }),
            profile: match dice.random_range(0..3) {
                0 => Profile::AesCm128HmacSha1_80,
                1 => Profile::AeadAes256Gcm,
                _ => Profile::AeadAes128Gcm,
            },
            dtls: if dice.random_bool(0.5) { DtlsVersion::Dtls12 } else { DtlsVersion::Dtls13 },
            calm_at: BEGIN + Duration::from_millis(dice.random_range(3_000..9_000)),
            harm: if dice.random_bool(0.25) { 0.0 } else { dice.random() },
            action_interval: Duration::from_millis(dice.random_range(60..400)),
        }
    }

    /// A wire as bad as the plan says.
    pub fn wire(&self, dice: &mut StdRng) -> Wire {
        let jitter = if dice.random_bool(0.5) { 0.0 } else { 80.0 * self.harm };
        Wire {
            loss: 0.15 * self.harm * dice.random::<f64>(),
            duplication: 0.1 * self.harm * dice.random::<f64>(),
            delay: Duration::from_millis(dice.random_range(1..60)),
            jitter: Duration::from_secs_f64(jitter * dice.random::<f64>() / 1_000.0),
            cut_until: Time::ZERO,
        }
    }
}
