//! Codec advice for those who ask for it: given when they enter, and again when conditions change
//! enough: at once when someone comes who cannot decode what they send, or leaves; with the path
//! once it has been so for [`PATH_LASTS`], and at most every [`MIN_INTERVAL`].
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use opencall_wire::time::Time;

use crate::api::{Notification, SessionId};
use crate::codec_choice::{self, Audience, CodecAdvice, Device, Network, VideoCodec};
use crate::control::{Control, Timer};
use crate::ortc::codecs_match;
use crate::peer::Peer;
use crate::room::RoomId;
use crate::rtp_parameters::RtpCapabilities;

/// How often the path alone may change advice: a client that follows restarts its encoder.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// A path that is another for less long is a dip or a swing: an encoder's rate follows it, its
/// codec had better not.
const PATH_LASTS: Duration = Duration::from_secs(5);

/// Someone who asked for advice.
pub(crate) struct Advised {
    device: Device,
    /// What its path carries towards it, once that is measured.
    pub downlink_bps: Option<u32>,
    given: Option<Arc<CodecAdvice>>,
    given_at: Time,
}

impl Advised {
    pub fn new(device: Device) -> Self {
        Advised { device, downlink_bps: None, given: None, given_at: Time::ZERO }
    }
}

/// Which of the router's codecs a client decodes, one bit for each of [`VideoCodec::ALL`].
pub(crate) fn decoded(router: &RtpCapabilities, client: &RtpCapabilities) -> u8 {
    VideoCodec::ALL.into_iter().fold(0, |bits, codec| {
        // A sender takes the first of a name.
        let first = router.codecs.iter().find(|own| is(own.mime_type.as_str(), codec));
        let matches = first.is_some_and(|own| client.codecs.iter().any(|c| codecs_match(c, own)));
        bits | u8::from(matches) << codec as u8
    })
}

fn is(mime_type: &str, codec: VideoCodec) -> bool {
    mime_type.eq_ignore_ascii_case(codec.mime_type())
}

impl Control {
    /// The first advice of one who enters, if it asked.
    pub(crate) fn first_advice(&mut self, session: SessionId) -> Option<Arc<CodecAdvice>> {
        let room = self.peers.get(&session)?.room;
        let audience = self.audience(room);
        self.renew_advice(session, &audience)
    }

    /// Someone has said what it can decode.
    pub(crate) fn review_room_of(&mut self, session: SessionId) {
        if let Some(room) = self.peers.get(&session).map(|peer| peer.room) {
            self.review_audience(room, session);
        }
    }

    /// Someone came or left: those who asked are told what has changed by that.
    pub(crate) fn review_audience(&mut self, room: RoomId, but: SessionId) {
        let audience = self.audience(room);
        let Some(found) = self.rooms.get_mut(&room).filter(|room| room.audience != audience) else {
            return;
        };
        found.audience = audience.clone();
        let members = self.members_but(room, but);
        let asked = |id: &SessionId| self.peers.get(id).is_some_and(|peer| peer.advised.is_some());
        for session in members.into_iter().filter(asked).collect::<Vec<_>>() {
            self.tell_advice(session, &audience);
        }
    }

    /// A client's path has changed: if that calls for other advice, it is given when it has lasted.
    pub(crate) fn review_path(&mut self, session: SessionId, downlink_bps: Option<u32>) {
        let Some(peer) = self.peers.get_mut(&session) else { return };
        let room = peer.room;
        let Some(advised) = &mut peer.advised else { return };
        advised.downlink_bps = downlink_bps.or(advised.downlink_bps);
        if !peer.joined {
            return;
        }
        let not_before = advised.given_at + MIN_INTERVAL;
        let timer = Timer::Advice(session);
        let audience = self.audience(room);
        if self.advice_now(session, &audience).is_none_or(|(_, is_news)| !is_news) {
            self.timers.cancel(timer);
        } else if !self.timers.is_set(timer) {
            self.timers.set(timer, not_before.max(self.now + PATH_LASTS));
        }
    }

    /// A path has been other than it was when advice was given, for long enough.
    pub(crate) fn path_has_lasted(&mut self, session: SessionId) {
        let Some(room) = self.peers.get(&session).map(|peer| peer.room) else { return };
        let audience = self.audience(room);
        self.tell_advice(session, &audience);
    }

    fn tell_advice(&mut self, session: SessionId, audience: &Audience) {
        if let Some(advice) = self.renew_advice(session, audience) {
            self.notify(session, Notification::CodecAdvice(advice));
        }
    }

    /// The advice that holds now, if it is another than before.
    fn renew_advice(
        &mut self,
        session: SessionId,
        audience: &Audience,
    ) -> Option<Arc<CodecAdvice>> {
        let (advice, is_news) = self.advice_now(session, audience)?;
        let (now, advice) = (self.now, Arc::new(advice));
        let advised = self.peers.get_mut(&session)?.advised.as_mut()?;
        advised.given = Some(Arc::clone(&advice));
        if is_news {
            advised.given_at = now;
        }
        is_news.then_some(advice)
    }

    /// What is to be advised now, and whether that is another advice than the one given.
    fn advice_now(&self, session: SessionId, audience: &Audience) -> Option<(CodecAdvice, bool)> {
        let peer = self.peers.get(&session)?;
        let advised = peer.advised.as_ref()?;
        let before = advised.given.as_deref();
        let network = self.network_of(peer);
        let advice = codec_choice::choose(&advised.device, network, audience, before);
        let is_news = before.is_none_or(|before| !before.says_the_same(&advice));
        Some((advice, is_news))
    }

    /// Nobody but the client measures its uplink: unless it says what that carries, the way towards
    /// it stands for both. Loss is that of what it sends; scores count it in tenths.
    fn network_of(&self, peer: &Peer) -> Network {
        let advised = peer.advised.as_ref();
        let uplink = advised.and_then(|advised| advised.device.uplink_bitrate);
        let bandwidth_bps = uplink.or(advised.and_then(|advised| advised.downlink_bps));
        let sent = peer.producers.iter().filter_map(|id| self.producers.get(id));
        let sent = sent.filter(|producer| !producer.paused);
        let scores = sent.filter_map(|producer| producer.scores.iter().map(|s| s.1).max());
        // A score of nothing is that of a stream that has not begun.
        let worst = scores.filter(|score| *score > 0).min();
        let loss_percent = worst.map(|score| 10 * 10_u8.saturating_sub(score));
        Network { bandwidth_bps, loss_percent, round_trip_ms: None }
    }

    /// What the members of a room can decode, of those who receive anything.
    fn audience(&self, room: RoomId) -> Audience {
        let members = self.rooms.get(&room).into_iter().flat_map(|room| &room.members);
        let members = members.filter_map(|session| self.peers.get(session));
        let decoded: Vec<u8> = members.filter_map(|peer| peer.decodes).collect();
        let mut audience = Audience::default();
        for own in &self.router.codecs {
            let codec = VideoCodec::ALL.into_iter().find(|codec| is(&own.mime_type, *codec));
            let Some(codec) = codec else { continue };
            if audience.codecs.iter().all(|(known, _)| *known != codec) {
                let cannot = decoded.iter().filter(|bits| *bits & 1 << codec as u8 == 0).count();
                audience.codecs.push((codec, cannot));
            }
        }
        audience
    }
}
