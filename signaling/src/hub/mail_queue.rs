//! What waits for one client, in order and within bounds, without what is no longer so.
//!
//! A client that reads slowly must not be cut off because others change their names all the time:
//! of news that supersede each other only the newest waits, in the place of the oldest, and what
//! came and went before the client heard of it is not told at all.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use opencall_control::api::{Notification, RequestError, Response, Token};

/// Pieces that may wait. Entering a room of 500 brings about 2000 at once; a client that lets more
/// than this pile up does not read.
pub const MAX_MAIL: usize = 8_192;

/// Bytes that may wait, as they will be sent: half a minute of a link with 2 Mbit/s, and twice what
/// entering a room of 500 brings.
pub const MAX_MAIL_BYTES: usize = 8 << 20;

/// Holes that may stay between pieces that wait.
const MAX_HOLES: usize = 64;

/// What control has for one connection.
pub enum Mail {
    /// Its session is open.
    Opened,
    /// An answer.
    Response(Token, Result<Response, RequestError>),
    /// News.
    Notification(Notification),
}

impl Mail {
    /// About how many bytes it has as JSON.
    fn size(&self) -> usize {
        match self {
            Mail::Opened => 0,
            Mail::Response(_, Ok(response)) => response.size(),
            Mail::Response(_, Err(error)) => 64 + error.reason.len(),
            Mail::Notification(notification) => notification.size(),
        }
    }
}

/// What a piece of news is about: of two with one subject the newer one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Consumer(About, String),
    Producer(About, String),
    Peer(About, Arc<str>),
    Caption(u64),
    Speakers,
    Lock,
    Advice,
    Quality,
    Bandwidth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum About {
    Coming,
    Pause,
    Layers,
    Score,
    Name,
    Waiting,
}

impl Subject {
    /// Of news that say how something is; none for what happens.
    fn of(notification: &Notification) -> Option<Self> {
        let consumer = |about, id: &String| Some(Subject::Consumer(about, id.clone()));
        let producer = |about, id: &String| Some(Subject::Producer(about, id.clone()));
        match notification {
            Notification::NewConsumer(options) => consumer(About::Coming, &options.id),
            Notification::ConsumerPaused { consumer_id }
            | Notification::ConsumerResumed { consumer_id } => consumer(About::Pause, consumer_id),
            Notification::ConsumerLayersChanged { consumer_id, .. } => {
                consumer(About::Layers, consumer_id)
            }
            Notification::ConsumerScore { consumer_id, .. } => consumer(About::Score, consumer_id),
            Notification::NewProducer { producer_id, .. } => producer(About::Coming, producer_id),
            Notification::ProducerScore { producer_id, .. } => producer(About::Score, producer_id),
            Notification::ProducerMaxSpatialLayer { producer_id, .. } => {
                producer(About::Layers, producer_id)
            }
            Notification::ProducerMuted { producer_id, .. } => producer(About::Pause, producer_id),
            Notification::NewDataConsumer(options) => consumer(About::Coming, &options.id),
            Notification::NewDataProducer { data_producer_id, .. } => {
                producer(About::Coming, data_producer_id)
            }
            Notification::NewPeer(peer) => Some(Subject::Peer(About::Coming, Arc::clone(&peer.id))),
            Notification::PeerDisplayNameChanged { peer_id, .. } => {
                Some(Subject::Peer(About::Name, Arc::clone(peer_id)))
            }
            Notification::PeerWaiting { peer_id, .. } => {
                Some(Subject::Peer(About::Waiting, Arc::clone(peer_id)))
            }
            Notification::Caption(caption) => Some(Subject::Caption(caption.utterance)),
            Notification::Speakers(_) => Some(Subject::Speakers),
            Notification::RoomLocked { .. } => Some(Subject::Lock),
            Notification::CodecAdvice(_) => Some(Subject::Advice),
            Notification::ConnectionQuality(_) => Some(Subject::Quality),
            Notification::DownlinkBandwidth(_) => Some(Subject::Bandwidth),
            // Each is about other slots.
            Notification::Stage(_)
            // Who was recorded, tapped or broadcast for a moment is to know.
            | Notification::RecordingChanged { .. }
            | Notification::TapChanged { .. }
            | Notification::PushChanged { .. }
            | Notification::ConsumerClosed { .. }
            | Notification::ProducerClosed { .. }
            | Notification::DataConsumerClosed { .. }
            | Notification::DataProducerClosed { .. }
            | Notification::PeerWaitingEnded { .. }
            | Notification::Waiting
            | Notification::Admitted { .. }
            | Notification::Mls(_)
            | Notification::PeerClosed { .. } => None,
        }
    }
}

struct Piece {
    mail: Mail,
    subject: Option<Subject>,
    size: usize,
}

/// The mail of one client.
#[derive(Default)]
pub struct MailQueue {
    /// Holes are what was taken out of the middle.
    pieces: VecDeque<Option<Piece>>,
    /// The number of the first piece.
    first: u64,
    /// Where the waiting piece of each subject is.
    places: HashMap<Subject, u64>,
    count: usize,
    bytes: usize,
}

/// There is more mail than may wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

impl MailQueue {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the oldest piece.
    pub fn take(&mut self) -> Option<Mail> {
        loop {
            let piece = self.pieces.pop_front()?;
            self.first += 1;
            let Some(piece) = piece else { continue };
            self.forget(&piece);
            return Some(piece.mail);
        }
    }

    /// Adds a piece.
    pub fn put(&mut self, mail: Mail) -> Result<(), Overflow> {
        let Mail::Notification(notification) = mail else { return self.append(mail, None) };
        if self.was_never_told(&notification) {
            return Ok(());
        }
        let subject = Subject::of(&notification);
        let place = subject.as_ref().and_then(|subject| self.places.get(subject)).copied();
        if let Some(piece) = place.and_then(|place| self.piece_mut(place)) {
            let (old, new) = (piece.size, notification.size());
            supersede(&mut piece.mail, notification);
            piece.size = new;
            self.bytes = self.bytes - old + new;
            return Ok(());
        }
        self.append(Mail::Notification(notification), subject)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = MailQueue::default();
    }

    fn append(&mut self, mail: Mail, subject: Option<Subject>) -> Result<(), Overflow> {
        let size = mail.size();
        if self.count >= MAX_MAIL || self.bytes + size > MAX_MAIL_BYTES {
            return Err(Overflow);
        }
        if let Some(subject) = &subject {
            let place = self.first + self.pieces.len() as u64;
            self.places.insert(subject.clone(), place);
        }
        self.pieces.push_back(Some(Piece { mail, subject, size }));
        self.count += 1;
        self.bytes += size;
        Ok(())
    }

    /// Takes out what the news makes void. Whether the news is void itself: it ends what its client
    /// has not heard of yet.
    fn was_never_told(&mut self, notification: &Notification) -> bool {
        match notification {
            Notification::ConsumerClosed { consumer_id } => {
                for about in [About::Pause, About::Layers, About::Score] {
                    self.remove(&Subject::Consumer(about, consumer_id.clone()));
                }
                self.remove(&Subject::Consumer(About::Coming, consumer_id.clone()))
            }
            Notification::ProducerClosed { producer_id } => {
                self.remove(&Subject::Producer(About::Coming, producer_id.clone()))
            }
            Notification::DataConsumerClosed { data_consumer_id: id } => {
                self.remove(&Subject::Consumer(About::Coming, id.clone()))
            }
            Notification::DataProducerClosed { data_producer_id: id } => {
                self.remove(&Subject::Producer(About::Coming, id.clone()))
            }
            Notification::PeerWaitingEnded { peer_id } => {
                // What was to come may be another name of one who was told of before.
                self.remove(&Subject::Peer(About::Waiting, Arc::clone(peer_id)));
                false
            }
            Notification::PeerClosed { peer_id } => {
                self.remove(&Subject::Peer(About::Name, Arc::clone(peer_id)));
                self.remove(&Subject::Peer(About::Coming, Arc::clone(peer_id)))
            }
            _ => false,
        }
    }

    fn piece_mut(&mut self, place: u64) -> Option<&mut Piece> {
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.pieces.get_mut(index)?.as_mut()
    }

    fn remove(&mut self, subject: &Subject) -> bool {
        let Some(&place) = self.places.get(subject) else { return false };
        let index = usize::try_from(place.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let Some(piece) = self.pieces.get_mut(index).and_then(Option::take) else { return false };
        self.forget(&piece);
        if self.pieces.len() > 2 * self.count + MAX_HOLES {
            self.close_holes();
        }
        true
    }

    fn forget(&mut self, piece: &Piece) {
        self.count -= 1;
        self.bytes -= piece.size;
        if let Some(subject) = &piece.subject {
            self.places.remove(subject);
        }
    }

    fn close_holes(&mut self) {
        self.pieces.retain(Option::is_some);
        for (index, piece) in self.pieces.iter().flatten().enumerate() {
            if let Some(subject) = &piece.subject {
                self.places.insert(subject.clone(), self.first + index as u64);
            }
        }
    }
}

/// Puts newer news in the place of older ones of the same subject.
fn supersede(mail: &mut Mail, mut newer: Notification) {
    if let (
        Mail::Notification(Notification::PeerDisplayNameChanged {
            old_display_name: first, ..
        }),
        Notification::PeerDisplayNameChanged { old_display_name, .. },
    ) = (&mut *mail, &mut newer)
    {
        // The name that the client knows.
        std::mem::swap(first, old_display_name);
    }
    *mail = Mail::Notification(newer);
}

#[cfg(test)]
mod tests {
    use opencall_control::api::ConnectionQuality;

    use super::*;

    fn closed(id: &str) -> Mail {
        Mail::Notification(Notification::ConsumerClosed { consumer_id: id.into() })
    }

    fn paused(id: &str, paused: bool) -> Mail {
        let consumer_id = id.to_owned();
        Mail::Notification(match paused {
            true => Notification::ConsumerPaused { consumer_id },
            false => Notification::ConsumerResumed { consumer_id },
        })
    }

    fn renamed(peer: &str, old: &str, new: &str) -> Mail {
        Mail::Notification(Notification::PeerDisplayNameChanged {
            peer_id: peer.into(),
            display_name: new.into(),
            old_display_name: old.into(),
        })
    }

    fn producer(id: &str) -> Mail {
        Mail::Notification(Notification::NewProducer {
            peer_id: "anna".into(),
            producer_id: id.into(),
            kind: opencall_control::rtp_parameters::Kind::Audio,
            app_data: Default::default(),
        })
    }

    fn producer_closed(id: &str) -> Mail {
        Mail::Notification(Notification::ProducerClosed { producer_id: id.into() })
    }

    fn answer(token: u64) -> Mail {
        Mail::Response(Token(token), Ok(Response::Done))
    }

    /// Everything that waits, as short texts.
    fn rest(queue: &mut MailQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.take())
            .map(|mail| match mail {
                Mail::Opened => "opened".into(),
                Mail::Response(Token(token), _) => format!("answer {token}"),
                Mail::Notification(Notification::PeerDisplayNameChanged {
                    peer_id,
                    display_name,
                    old_display_name,
                }) => format!("{peer_id}: {old_display_name} -> {display_name}"),
                Mail::Notification(news) => format!("{news:?}")
                    .split(['{', '('])
                    .next()
                    .map_or(String::new(), |name| name.trim().to_owned()),
            })
            .collect()
    }

    fn queue(mail: impl IntoIterator<Item = Mail>) -> MailQueue {
        let mut queue = MailQueue::default();
        for piece in mail {
            queue.put(piece).unwrap();
        }
        queue
    }

    #[test]
    fn of_superseded_news_the_newest_waits_in_the_place_of_the_oldest() {
        let mut queue = queue([
            renamed("anna", "A", "B"),
            answer(1),
            renamed("anna", "B", "C"),
            renamed("bert", "X", "Y"),
            renamed("anna", "C", "D"),
            paused("c", true),
            paused("c", false),
        ]);
        assert_eq!(
            rest(&mut queue),
            ["anna: A -> D", "answer 1", "bert: X -> Y", "ConsumerResumed"]
        );
        assert_eq!((queue.bytes(), queue.places.len()), (0, 0));
    }

    #[test]
    fn what_came_and_went_is_not_told() {
        let mut queue = queue([
            producer("p1"),
            producer("p2"),
            producer_closed("p1"),
            producer_closed("p3"),
            paused("c", true),
            closed("c"),
        ]);
        assert_eq!(rest(&mut queue), ["NewProducer", "ProducerClosed", "ConsumerClosed"]);
    }

    #[test]
    fn holes_are_closed_and_places_stay_right() {
        let mut queue = queue([answer(0), renamed("anna", "A", "B")]);
        for round in 0..10_000 {
            queue.put(producer(&round.to_string())).unwrap();
            queue.put(producer_closed(&round.to_string())).unwrap();
            queue.put(renamed("anna", "B", "C")).unwrap();
            assert!(queue.pieces.len() <= 2 * queue.count + MAX_HOLES + 1);
        }
        assert_eq!(rest(&mut queue), ["answer 0", "anna: A -> C"]);
    }

    #[test]
    fn that_one_waits_no_more_is_told_although_its_new_name_was_not() {
        let waiting = |name: &str| {
            let (peer_id, display_name) = ("carl".into(), name.to_owned());
            Mail::Notification(Notification::PeerWaiting { peer_id, display_name })
        };
        let ended =
            || Mail::Notification(Notification::PeerWaitingEnded { peer_id: "carl".into() });
        let mut queue = queue([waiting("carl")]);
        assert_eq!(rest(&mut queue), ["PeerWaiting"]);
        queue.put(waiting("Carl")).unwrap();
        queue.put(ended()).unwrap();
        assert_eq!(rest(&mut queue), ["PeerWaitingEnded"]);
    }

    #[test]
    fn pieces_and_bytes_are_bounded() {
        let mut many = queue((0..MAX_MAIL as u64).map(answer));
        assert_eq!(many.put(answer(0)), Err(Overflow));
        // What supersedes takes no place.
        let quality =
            || Mail::Notification(Notification::ConnectionQuality(ConnectionQuality::Good));
        many.take();
        assert_eq!(many.put(quality()), Ok(()));
        assert_eq!(many.put(quality()), Ok(()));

        let name = "x".repeat(60_000);
        let mut large = MailQueue::default();
        let fit =
            (0..MAX_MAIL).take_while(|n| large.put(renamed(&n.to_string(), &name, &name)).is_ok());
        assert_eq!(fit.count(), MAX_MAIL_BYTES / (120_000 + 192));
        let whole = large.bytes();
        assert!(whole <= MAX_MAIL_BYTES);
        large.take();
        assert!(large.bytes() < whole);
        large.clear();
        assert_eq!(large.bytes(), 0);
    }
}
