//! Who is in which room, who sends what, and who comes and goes when.
#![forbid(unsafe_code)]

use std::time::Duration;

use clap::ValueEnum;

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
    /// A meeting that half of the people enter while it is measured, at a steady rate.
    JoinStorm,
    /// A meeting that people leave and others enter all the time.
    Churn,
}

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
        }
    }

    /// Participants of a room where the command line does not say.
    pub fn default_participants(self) -> u32 {
        match self {
            Scenario::Pair => 2,
            Scenario::Webinar => 100,
            _ => 10,
        }
    }

    /// What the participant with this number is.
    pub fn plan(self, participant: u32, rooms: u32) -> Plan {
        let is_speaker = self != Scenario::Webinar || participant < rooms;
        Plan {
            participant,
            room: participant % rooms.max(1),
            audio: is_speaker,
            video: is_speaker && self != Scenario::Audio,
            receives: self != Scenario::Webinar || !is_speaker,
        }
    }

    /// How many of `all` are there before it is measured.
    pub fn present_at_start(self, all: u32) -> u32 {
        if self == Scenario::JoinStorm { all.div_ceil(2) } else { all }
    }

    /// Time between two who enter (and for churn: leave) while it is measured.
    pub fn interval(self, join_rate: f64) -> Option<Duration> {
        let is_moving = matches!(self, Scenario::JoinStorm | Scenario::Churn);
        is_moving.then(|| Duration::from_secs_f64(1.0 / join_rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(scenario: Scenario, participants: u32, rooms: u32) -> Vec<Plan> {
        (0..participants).map(|participant| scenario.plan(participant, rooms)).collect()
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
    fn only_moving_scenarios_move() {
        assert_eq!(Scenario::Meeting.interval(10.0), None);
        assert_eq!(Scenario::Churn.interval(10.0), Some(Duration::from_millis(100)));
        assert_eq!(Scenario::JoinStorm.present_at_start(101), 51);
        assert_eq!(Scenario::Audio.present_at_start(101), 101);
    }
}
