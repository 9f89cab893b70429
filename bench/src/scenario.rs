//! Who is in which room, who sends what, and who comes and goes when.
#![forbid(unsafe_code)]

use clap::ValueEnum;

use crate::client::engine::FIRST_VISITOR;
use crate::client::session::Plan;

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Two people with voice and camera.
    Pair,
    /// Rooms of people who all have voice and camera.
    Meeting,
    /// One with voice and camera, the others watch.
    Webinar,
    /// Rooms of people with a voice only.
    Audio,
    /// Meetings, and people who enter and leave others at a high rate for the second half of the
    /// time.
    JoinStorm,
    /// A meeting that people leave and others enter all the time.
    Churn,
    /// Meetings for a long time: whether memory or latency grow.
    Soak,
    /// More and more meetings, until latency or loss break: the knee; then a part of that load.
    Ramp,
    /// People who are connected and neither send nor receive.
    Idle,
    /// Meetings whose data cores are killed, one every four seconds.
    KillCore,
    /// Meetings whose data cores are made to stall, one every four seconds.
    StallCore,
    /// One room of many who all have voice and camera, of which everyone gets a few.
    BigRoom,
    /// Meetings, and strangers who send to the server's media ports for the second half of the
    /// time.
    Flood,
}

/// What is done to a data core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its thread panics.
    Death,
    /// Its thread makes no turns.
    Stall,
}

/// Participants of one room who pass through in a storm of joins.
const STORM_ROOM: u32 = 10;

impl Scenario {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Pair => "pair",
            Scenario::Meeting => "meeting",
            Scenario::Webinar => "webinar",
            Scenario::Audio => "audio",
            Scenario::JoinStorm => "join-storm",
            Scenario::Churn => "churn",
            Scenario::Soak => "soak",
            Scenario::Ramp => "ramp",
            Scenario::Idle => "idle",
            Scenario::KillCore => "kill-core",
            Scenario::StallCore => "stall-core",
            Scenario::BigRoom => "big-room",
            Scenario::Flood => "flood",
        }
    }

    /// Participants of a room where the command line does not say.
    pub fn default_participants(self) -> u32 {
        match self {
            Scenario::Pair => 2,
            Scenario::Webinar => 100,
            Scenario::BigRoom => 500,
            _ => 10,
        }
    }

    /// Rooms where the command line does not say.
    pub fn default_rooms(self) -> u32 {
        match self {
            // A ramp goes on until something breaks.
            Scenario::Ramp => 1000,
            Scenario::Idle => 50,
            Scenario::KillCore | Scenario::StallCore | Scenario::Flood => 10,
            _ => 1,
        }
    }

    /// Participants that enter per second where the command line does not say.
    pub fn default_join_rate(self) -> f64 {
        match self {
            Scenario::JoinStorm => 100.0,
            Scenario::Churn => 10.0,
            _ => 50.0,
        }
    }

    /// Participants who send from which on rooms have a stage: 0, never. Else everyone is to get
    /// everyone.
    pub fn stage_from(self) -> usize {
        if self == Scenario::BigRoom { 10 } else { 0 }
    }

    /// What is done to the server's data cores.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Scenario::KillCore => Some(Fault::Death),
            Scenario::StallCore => Some(Fault::Stall),
            _ => None,
        }
    }

    /// What the participant with this number is, of those who are there from the start.
    pub fn plan(self, participant: u32, rooms: u32, room_size: u32) -> Plan {
        let is_speaker = self != Scenario::Webinar || participant < rooms;
        let is_idle = self == Scenario::Idle;
        let room = match self {
            // A ramp fills one room after the other.
            Scenario::Ramp => participant / room_size.max(1),
            _ => participant % rooms.max(1),
        };
        Plan {
            participant,
            room,
            audio: is_speaker && !is_idle,
            video: is_speaker && !is_idle && self != Scenario::Audio,
            receives: (self != Scenario::Webinar || !is_speaker) && !is_idle,
            is_first: match self {
                Scenario::Ramp => participant.is_multiple_of(room_size.max(1)),
                _ => participant < rooms,
            },
        }
    }

    /// One who passes through in a storm of joins, by the order of coming: all that joining takes,
    /// but a voice only, so that it is the joining that is compared and not a larger load of video.
    pub fn visitor(order: u32, rooms: u32) -> Plan {
        Plan {
            participant: FIRST_VISITOR + order,
            room: rooms + order / STORM_ROOM,
            is_first: false,
            audio: true,
            video: false,
            receives: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(scenario: Scenario, participants: u32, rooms: u32) -> Vec<Plan> {
        (0..participants).map(|participant| scenario.plan(participant, rooms, 10)).collect()
    }

    #[test]
    fn rooms_are_filled_evenly() {
        let plans = plans(Scenario::Meeting, 500, 50);
        for room in 0..50 {
            assert_eq!(plans.iter().filter(|plan| plan.room == room).count(), 10);
        }
        assert!(plans.iter().all(|plan| plan.audio && plan.video && plan.receives));
    }

    #[test]
    fn each_webinar_has_one_speaker_who_only_speaks() {
        let plans = plans(Scenario::Webinar, 60, 2);
        for room in 0..2 {
            let speaks = |plan: &&Plan| plan.room == room && plan.video;
            let speakers: Vec<&Plan> = plans.iter().filter(speaks).collect();
            assert!(matches!(speakers[..], [Plan { audio: true, receives: false, .. }]));
        }
    }

    #[test]
    fn a_ramp_fills_one_room_after_the_other() {
        let plans = plans(Scenario::Ramp, 25, 1000);
        assert!(plans.iter().all(|plan| plan.room == plan.participant / 10));
        assert!(plans.iter().all(|plan| plan.audio && plan.video && plan.receives));
    }

    #[test]
    fn the_idle_do_nothing_and_visitors_only_speak_among_themselves() {
        assert!(plans(Scenario::Idle, 5, 1).iter().all(|p| !p.audio && !p.video && !p.receives));
        let visitors: Vec<Plan> = (0..20).map(|order| Scenario::visitor(order, 3)).collect();
        assert!(visitors.iter().all(|plan| plan.audio && !plan.video && plan.receives));
        assert_eq!((visitors[0].room, visitors[10].room), (3, 4));
        assert!(visitors.iter().all(|plan| plan.participant >= FIRST_VISITOR));
    }
}
