//! Clients hear nothing of a core that died: what they have is there still. What they may hear is
//! how well they receive.
#![forbid(unsafe_code)]

use opencall_control::api::{Notification, Output};

/// Whether cores are dying now while nothing else happens.
#[derive(Default)]
pub struct Silence {
    holds: bool,
    /// Rooms have a stage, where whoever is not heard for a while gives its slot to who is.
    is_staged: bool,
}

impl Silence {
    /// From now on nothing may be said.
    pub fn begin(&mut self, is_staged: bool) {
        (self.holds, self.is_staged) = (true, is_staged);
    }

    /// From now on everything may be.
    pub fn end(&mut self) {
        self.holds = false;
    }

    /// Control says something to a client.
    ///
    /// # Errors
    /// It should not.
    pub fn check(&self, output: &Output) -> Result<(), String> {
        if !self.holds || is_about_quality(output) || self.is_staged && is_about_stage(output) {
            return Ok(());
        }
        Err(match output {
            Output::Notification { notification, .. } => format!("told {notification:?}"),
            Output::Close { reason, .. } => format!("closed: {reason:?}"),
            Output::Opened { .. } => "opened".to_owned(),
            Output::Challenge { .. } => "challenged".to_owned(),
            Output::Response { result, .. } => format!("answered {:?}", result.is_ok()),
        })
    }
}

fn is_about_stage(output: &Output) -> bool {
    let Output::Notification { notification, .. } = output else { return false };
    match &**notification {
        Notification::Stage(_)
        | Notification::ConsumerPaused { .. }
        | Notification::ConsumerResumed { .. } => true,
        // To clients that know nothing of the stage its slots are peers.
        Notification::PeerDisplayNameChanged { peer_id, .. } => peer_id.starts_with("stage:"),
        _ => false,
    }
}

fn is_about_quality(output: &Output) -> bool {
    let Output::Notification { notification, .. } = output else { return false };
    matches!(
        **notification,
        Notification::Speakers(_)
            | Notification::ConnectionQuality(_)
            | Notification::DownlinkBandwidth(_)
            | Notification::ProducerScore { .. }
            | Notification::ConsumerScore { .. }
            | Notification::ConsumerLayersChanged { .. }
            | Notification::ProducerMaxSpatialLayer { .. }
    )
}

#[cfg(test)]
mod tests {
    use opencall_control::api::{CloseReason, SessionId};

    use super::*;

    #[test]
    fn a_word_about_a_death_is_found() {
        let session = SessionId(1);
        let told =
            |notification| Output::Notification { session, notification: Box::new(notification) };
        let gone = told(Notification::ConsumerClosed { consumer_id: "c".into() });
        let fewer = told(Notification::ProducerMaxSpatialLayer {
            producer_id: "p".into(),
            spatial_layer: 1,
        });
        let closed = Output::Close { session, reason: CloseReason::TransportLost, by: None };
        let mut silence = Silence::default();
        assert_eq!(silence.check(&gone), Ok(()));
        silence.begin(false);
        assert_eq!(silence.check(&fewer), Ok(()));
        assert!(silence.check(&gone).is_err() && silence.check(&closed).is_err());
    }
}
