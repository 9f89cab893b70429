//! What a client may do in its room. A join token says it; without tokens everyone may everything
//! but be a host.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::api::{JsonObject, RequestError};
use crate::limits::not_allowed;
use crate::rtp_parameters::Kind;

/// What a producer shows or lets be heard, in LiveKit's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `camera`.
    Camera,
    /// `microphone`.
    Microphone,
    /// `screen_share`.
    ScreenShare,
    /// `screen_share_audio`.
    ScreenShareAudio,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 4] =
        [Source::Camera, Source::Microphone, Source::ScreenShare, Source::ScreenShareAudio];

    /// The name in a token's `canPublishSources`.
    pub const fn label(self) -> &'static str {
        match self {
            Source::Camera => "camera",
            Source::Microphone => "microphone",
            Source::ScreenShare => "screen_share",
            Source::ScreenShareAudio => "screen_share_audio",
        }
    }

    /// The source of that name, in whatever case.
    pub fn from_label(label: &str) -> Option<Self> {
        Source::ALL.into_iter().find(|source| source.label().eq_ignore_ascii_case(label))
    }

    /// The source of a producer, from what its client says of it: `share: true`, or a `source` that
    /// begins with "screen" (`screen`, `screensharing`, `screen_share`, `screenAudio`), is a
    /// screen; all else is a camera or a microphone. The kind cannot be feigned, the rest can:
    /// nothing in RTP tells a screen from a camera.
    pub(crate) fn of(kind: Kind, app_data: &JsonObject) -> Self {
        let source = app_data.string("source").unwrap_or_default();
        let named = source.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("screen"));
        let shares = named || app_data.is_true("share");
        match (kind, shares) {
            (Kind::Video, false) => Source::Camera,
            (Kind::Audio, false) => Source::Microphone,
            (Kind::Video, true) => Source::ScreenShare,
            (Kind::Audio, true) => Source::ScreenShareAudio,
        }
    }
}

/// A set of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources(u8);

impl Sources {
    /// Every source.
    pub const ALL: Sources = Sources(0b1111);

    /// No source.
    pub const NONE: Sources = Sources(0);

    /// The set with a source in it, or without it.
    pub const fn with(self, source: Source, contained: bool) -> Self {
        let bit = 1 << source as u8;
        Sources(if contained { self.0 | bit } else { self.0 & !bit })
    }

    /// Whether a source is in it.
    pub const fn contains(self, source: Source) -> bool {
        self.0 & (1 << source as u8) != 0
    }
}

impl FromIterator<Source> for Sources {
    fn from_iter<T: IntoIterator<Item = Source>>(sources: T) -> Self {
        Sources(sources.into_iter().fold(0, |set, source| set | (1 << source as u8)))
    }
}

/// What a client may do in its room, and what of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Whether a token proves that the client is who it says: it may then take the place of an
    /// older session of that name at once.
    pub identity_proven: bool,
    /// The name to show, where the token has one: it stands instead of what the client says.
    pub display_name: Option<String>,
    /// Whether the client may change a name that its token has.
    pub rename: bool,
    /// Whether it may send media.
    pub publish: bool,
    /// Which media, if it may.
    pub sources: Sources,
    /// Whether it may receive media.
    pub subscribe: bool,
    /// Whether it may send data.
    pub data: bool,
    /// Whether it is a host of the room: it may mute, remove, lock and let in.
    pub admin: bool,
    /// Whether it may have the room recorded. (Recording is not offered yet.)
    pub record: bool,
    /// Whether others are told nothing of it. It cannot send then.
    pub hidden: bool,
    /// Whether it may name addresses at which media is sent and received without ICE and DTLS: an
    /// administrator's pipeline, and no token's.
    pub plain_rtp: bool,
}

impl Default for Grants {
    /// Those of a server without tokens.
    fn default() -> Self {
        Grants {
            identity_proven: false,
            display_name: None,
            rename: false,
            publish: true,
            sources: Sources::ALL,
            subscribe: true,
            data: true,
            admin: false,
            record: false,
            hidden: false,
            plain_rtp: false,
        }
    }
}

/// What a client is told that it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// Mute and remove others, lock the room, let people in.
    pub host: bool,
    /// Send media.
    pub publish: bool,
    /// Which, in LiveKit's words.
    pub sources: Vec<&'static str>,
    /// Receive media and data.
    pub subscribe: bool,
    /// Send data.
    pub data: bool,
}

impl Grants {
    /// What of it a client is told.
    pub fn rights(&self) -> Rights {
        let publish = self.publish && !self.hidden;
        let may_send = |source: &Source| publish && self.sources.contains(*source);
        Rights {
            host: self.admin,
            publish,
            sources: Source::ALL.into_iter().filter(may_send).map(Source::label).collect(),
            subscribe: self.subscribe,
            data: self.data && !self.hidden,
        }
    }

    pub(crate) fn check_host(&self) -> Result<(), RequestError> {
        if self.admin { Ok(()) } else { Err(refused("act as a host", "roomAdmin")) }
    }

    pub(crate) fn check_publish(&self, source: Source) -> Result<(), RequestError> {
        if !self.publish {
            return Err(refused("send media", "canPublish"));
        }
        if self.hidden {
            let reason = "a hidden participant cannot send media: join with a token without hidden";
            return Err(not_allowed(reason));
        }
        if !self.sources.contains(source) {
            let grant = format!("canPublishSources with {}", source.label());
            return Err(refused("send this source", &grant));
        }
        Ok(())
    }

    pub(crate) fn check_subscribe(&self) -> Result<(), RequestError> {
        if self.subscribe { Ok(()) } else { Err(refused("receive media", "canSubscribe")) }
    }

    pub(crate) fn check_data(&self) -> Result<(), RequestError> {
        if self.hidden {
            let reason = "a hidden participant cannot send data: join with a token without hidden";
            return Err(not_allowed(reason));
        }
        if self.data { Ok(()) } else { Err(refused("send data", "canPublishData")) }
    }

    pub(crate) fn check_rename(&self) -> Result<(), RequestError> {
        if self.display_name.is_some() && !self.rename {
            return Err(refused("change its name", "canUpdateOwnMetadata"));
        }
        Ok(())
    }
}

fn refused(what: &str, grant: &str) -> RequestError {
    not_allowed(format!("this token does not let its holder {what}: {grant} is missing"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_are_told_by_what_clients_of_all_dialects_write() {
        let table = [
            (json!({}), Source::Camera, Source::Microphone),
            (json!({"source": "webcam"}), Source::Camera, Source::Microphone),
            (json!({"source": "camera"}), Source::Camera, Source::Microphone),
            (json!({"source": "microphone"}), Source::Camera, Source::Microphone),
            (json!({"source": "video"}), Source::Camera, Source::Microphone),
            (json!({"source": "audio"}), Source::Camera, Source::Microphone),
            (json!({"source": "écran"}), Source::Camera, Source::Microphone),
            (json!({"source": 5, "share": "true"}), Source::Camera, Source::Microphone),
            (json!({"share": false}), Source::Camera, Source::Microphone),
            (json!({"share": true}), Source::ScreenShare, Source::ScreenShareAudio),
            (
                json!({"share": true, "source": "webcam"}),
                Source::ScreenShare,
                Source::ScreenShareAudio,
            ),
            (json!({"source": "screen"}), Source::ScreenShare, Source::ScreenShareAudio),
            (json!({"source": "screensharing"}), Source::ScreenShare, Source::ScreenShareAudio),
            (json!({"source": "screen_share"}), Source::ScreenShare, Source::ScreenShareAudio),
            (json!({"source": "screenAudio"}), Source::ScreenShare, Source::ScreenShareAudio),
            (
                json!({"source": "SCREEN_SHARE_AUDIO"}),
                Source::ScreenShare,
                Source::ScreenShareAudio,
            ),
        ];
        for (app_data, video, audio) in table {
            let object = serde_json::from_value(app_data.clone()).expect("an object");
            assert_eq!(Source::of(Kind::Video, &object), video, "{app_data}");
            assert_eq!(Source::of(Kind::Audio, &object), audio, "{app_data}");
        }
    }

    #[test]
    fn labels_lead_back_to_their_sources() {
        for source in Source::ALL {
            assert_eq!(Source::from_label(source.label()), Some(source));
            assert_eq!(Source::from_label(&source.label().to_uppercase()), Some(source));
            let alone: Sources = [source].into_iter().collect();
            let found = Source::ALL.into_iter().filter(|other| alone.contains(*other));
            assert_eq!(found.collect::<Vec<_>>(), [source]);
            assert!(Sources::ALL.contains(source));
        }
        assert_eq!(Source::from_label("unknown"), None);
    }
}
