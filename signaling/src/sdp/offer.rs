//! An offer, read line by line. What is not understood is left out, as RFC 8866 section 5 wants;
//! what is understood must be well formed.
#![forbid(unsafe_code)]

use opencall_control::api::{DtlsFingerprint, DtlsRole};
use opencall_control::rtp_parameters::{Kind, RtcpFeedback, RtpHeaderExtensionParameters};

use super::{SdpError, malformed, unsupported};

/// Bytes of an offer at most: browsers that offer every codec write 8 KiB.
pub const MAX_OFFER_BYTES: usize = 64 * 1024;

/// Media sections at most: a camera, a screen, and the sound of both.
const MAX_SECTIONS: usize = 8;

/// Payload types, SSRCs, header extensions or RIDs of a section at most.
const MAX_ITEMS: usize = 64;

/// Longest mid, RID or CNAME, bytes.
const MAX_NAME_BYTES: usize = 255;

/// What someone offers to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Its certificate.
    pub fingerprints: Vec<DtlsFingerprint>,
    /// Its DTLS role: `auto` for `actpass`.
    pub role: DtlsRole,
    /// In the order in which they are written; never empty.
    pub sections: Vec<Section>,
}

/// An `m=` section.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// Audio or video.
    pub kind: Kind,
    /// Its `m=` line's protocol, which the answer repeats.
    pub protocol: String,
    /// Its MID.
    pub mid: Option<String>,
    /// Whether it would send.
    pub sends: bool,
    /// Whether it would receive.
    pub receives: bool,
    /// What it could send or receive, most wanted first.
    pub formats: Vec<Format>,
    /// Header extensions that it receives.
    pub received_extensions: Vec<RtpHeaderExtensionParameters>,
    /// Those that it sends.
    pub extensions: Vec<RtpHeaderExtensionParameters>,
    /// SSRCs in the order in which they are written.
    pub ssrcs: Vec<u32>,
    /// Media and retransmission streams that belong together (`FID`).
    pub pairs: Vec<(u32, u32)>,
    /// RIDs of its simulcast layers, in the order of `a=simulcast`, else of `a=rid`.
    pub rids: Vec<String>,
    /// CNAME.
    pub cname: Option<String>,
    muxed: bool,
    simulcast: Vec<String>,
}

/// A payload type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Format {
    /// Its number.
    pub payload_type: u8,
    /// The codec's name.
    pub name: String,
    /// Hz.
    pub clock_rate: u32,
    /// Channels of sound.
    pub channels: Option<u8>,
    /// As in `a=fmtp`.
    pub parameters: Vec<(String, String)>,
    /// As in `a=rtcp-fb`.
    pub feedback: Vec<RtcpFeedback>,
}

impl Offer {
    /// Reads an offer.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_OFFER_BYTES {
            return malformed(format!("it is longer than {MAX_OFFER_BYTES} bytes"));
        }
        let mut reader = Reader::default();
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return malformed("it does not begin with v=0");
        }
        for line in lines {
            let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1)
            else {
                return malformed("a line has no type: expected <letter>=<value>");
            };
            match kind {
                "m" => reader.begin_section(value)?,
                "a" => {
                    let (name, value) = value.split_once(':').unwrap_or((value, ""));
                    reader.attribute(name, value.trim())?;
                }
                _ => {}
            }
        }
        reader.finish()
    }
}

#[derive(Default)]
struct Reader {
    fingerprints: Vec<DtlsFingerprint>,
    setup: Option<String>,
    sections: Vec<Section>,
}

impl Reader {
    fn begin_section(&mut self, value: &str) -> Result<(), SdpError> {
        if self.sections.len() == MAX_SECTIONS {
            return unsupported(format!("it has more than {MAX_SECTIONS} media sections"));
        }
        let mut words = value.split(' ');
        let kind = match words.next() {
            Some("audio") => Kind::Audio,
            Some("video") => Kind::Video,
            Some("application") => return unsupported("data channels are not served here"),
            other => return unsupported(format!("media of type {:?}", other.unwrap_or_default())),
        };
        let port = words.next().and_then(|port| port.parse::<u16>().ok());
        let (Some(_), Some(protocol)) = (port, words.next()) else {
            return malformed("an m= line without port or protocol");
        };
        if !protocol.ends_with("/TLS/RTP/SAVPF") {
            return unsupported(format!("media by {protocol:?}: expected UDP/TLS/RTP/SAVPF"));
        }
        let mut formats = Vec::new();
        for word in words {
            let Some(payload_type) = word.parse::<u8>().ok().filter(|number| *number < 128) else {
                return malformed(format!("{word:?} is no payload type"));
            };
            bounded(&mut formats, Format { payload_type, ..Format::default() })?;
        }
        let protocol = protocol.to_owned();
        let section =
            Section { kind, protocol, sends: true, receives: true, formats, ..Section::default() };
        self.sections.push(section);
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &str) -> Result<(), SdpError> {
        match name {
            "fingerprint" => {
                let Some((algorithm, value)) = value.split_once(' ') else {
                    return malformed("a fingerprint without a value");
                };
                let algorithm = algorithm.to_ascii_lowercase();
                let print = DtlsFingerprint { algorithm, value: value.trim().to_owned() };
                if !self.fingerprints.contains(&print) {
                    bounded(&mut self.fingerprints, print)?;
                }
            }
            "setup" => match &self.setup {
                Some(setup) if setup != value => return malformed("two values of a=setup"),
                _ => self.setup = Some(value.to_owned()),
            },
            "ice-lite" => return unsupported("both sides are ICE-lite"),
            _ => {
                if let Some(section) = self.sections.last_mut() {
                    section.attribute(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Offer, SdpError> {
        let Reader { fingerprints, setup, mut sections } = self;
        let role = match setup.as_deref() {
            Some("actpass") => DtlsRole::Auto,
            Some("active") => DtlsRole::Client,
            Some("passive") => DtlsRole::Server,
            _ => return malformed("a=setup is missing or unknown: expected actpass"),
        };
        if fingerprints.is_empty() {
            return malformed("it has no a=fingerprint");
        }
        if sections.is_empty() {
            return unsupported("it has no media");
        }
        for section in &mut sections {
            if !section.muxed {
                return unsupported("RTCP on a port of its own: a=rtcp-mux is needed");
            }
            if !section.simulcast.is_empty() {
                section.rids = std::mem::take(&mut section.simulcast);
            }
        }
        Ok(Offer { fingerprints, role, sections })
    }
}

impl Section {
    fn attribute(&mut self, name: &str, value: &str) -> Result<(), SdpError> {
        match name {
            "mid" => self.mid = Some(named("mid", value)?),
            "rtcp-mux" | "rtcp-mux-only" => self.muxed = true,
            "sendrecv" => (self.sends, self.receives) = (true, true),
            "sendonly" => (self.sends, self.receives) = (true, false),
            "recvonly" => (self.sends, self.receives) = (false, true),
            "inactive" => (self.sends, self.receives) = (false, false),
            "rtpmap" => self.rtpmap(value)?,
            "fmtp" => self.fmtp(value)?,
            "rtcp-fb" => self.feedback(value)?,
            "extmap" => self.extmap(value)?,
            "ssrc" => self.ssrc(value)?,
            "ssrc-group" => self.ssrc_group(value)?,
            "rid" => {
                let mut words = value.split(' ');
                let (rid, direction) = (words.next().unwrap_or_default(), words.next());
                if direction == Some("send") {
                    bounded(&mut self.rids, named("rid", rid)?)?;
                }
            }
            "simulcast" => self.simulcast(value)?,
            _ => {}
        }
        Ok(())
    }

    fn format(&mut self, payload_type: &str) -> Option<&mut Format> {
        let number = payload_type.parse::<u8>().ok()?;
        self.formats.iter_mut().find(|format| format.payload_type == number)
    }

    fn rtpmap(&mut self, value: &str) -> Result<(), SdpError> {
        let Some((number, codec)) = value.split_once(' ') else {
            return malformed("a=rtpmap without a codec");
        };
        let mut parts = codec.trim().split('/');
        let name = parts.next().unwrap_or_default().to_owned();
        let clock_rate = parts.next().and_then(|rate| rate.parse().ok());
        let Some(clock_rate) = clock_rate else { return malformed("a=rtpmap without a rate") };
        let channels = parts.next().and_then(|channels| channels.parse().ok());
        if let Some(format) = self.format(number) {
            (format.name, format.clock_rate, format.channels) = (name, clock_rate, channels);
        }
        Ok(())
    }

    fn fmtp(&mut self, value: &str) -> Result<(), SdpError> {
        let Some((number, parameters)) = value.split_once(' ') else { return Ok(()) };
        let Some(format) = self.format(number) else { return Ok(()) };
        for parameter in parameters.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            bounded(&mut format.parameters, (name.trim().to_owned(), value.trim().to_owned()))?;
        }
        Ok(())
    }

    fn feedback(&mut self, value: &str) -> Result<(), SdpError> {
        let mut words = value.split(' ');
        let number = words.next().unwrap_or_default();
        let Some(kind) = words.next() else { return malformed("a=rtcp-fb without a type") };
        let feedback = RtcpFeedback {
            kind: kind.to_owned(),
            parameter: words.next().unwrap_or_default().to_owned(),
        };
        if number == "*" {
            for format in &mut self.formats {
                bounded(&mut format.feedback, feedback.clone())?;
            }
        } else if let Some(format) = self.format(number) {
            bounded(&mut format.feedback, feedback)?;
        }
        Ok(())
    }

    fn extmap(&mut self, value: &str) -> Result<(), SdpError> {
        let mut words = value.split(' ');
        let number = words.next().unwrap_or_default();
        let (number, direction) = number.split_once('/').unwrap_or((number, "sendrecv"));
        let (Ok(id), Some(uri)) = (number.parse::<u8>(), words.next()) else {
            return malformed("a=extmap without an id or a URI");
        };
        if id == 0 {
            return Ok(());
        }
        let parameters = Default::default();
        let uri = uri.to_owned();
        let extension = RtpHeaderExtensionParameters { uri, id, encrypt: false, parameters };
        if matches!(direction, "sendrecv" | "recvonly") {
            bounded(&mut self.received_extensions, extension.clone())?;
        }
        if matches!(direction, "sendrecv" | "sendonly") {
            bounded(&mut self.extensions, extension)?;
        }
        Ok(())
    }

    fn ssrc(&mut self, value: &str) -> Result<(), SdpError> {
        let (number, attribute) = value.split_once(' ').unwrap_or((value, ""));
        let Ok(ssrc) = number.parse::<u32>() else { return malformed("a=ssrc without a number") };
        if !self.ssrcs.contains(&ssrc) {
            bounded(&mut self.ssrcs, ssrc)?;
        }
        if let Some(cname) = attribute.strip_prefix("cname:") {
            self.cname = Some(named("cname", cname)?);
        }
        Ok(())
    }

    fn ssrc_group(&mut self, value: &str) -> Result<(), SdpError> {
        let mut words = value.split(' ');
        if words.next() != Some("FID") {
            return Ok(());
        }
        let mut number = || words.next().and_then(|word| word.parse::<u32>().ok());
        let (Some(media), Some(rtx)) = (number(), number()) else {
            return malformed("a=ssrc-group:FID without two numbers");
        };
        bounded(&mut self.pairs, (media, rtx))
    }

    /// RFC 8853: `send hi,lo;mid recv …`; of alternatives the first, and paused ones too.
    fn simulcast(&mut self, value: &str) -> Result<(), SdpError> {
        let mut words = value.split(' ');
        while let (Some(direction), Some(list)) = (words.next(), words.next()) {
            if direction != "send" {
                continue;
            }
            for layer in list.split(';') {
                let first = layer.split(',').next().unwrap_or_default();
                let rid = named("rid", first.trim_start_matches('~'))?;
                bounded(&mut self.simulcast, rid)?;
            }
        }
        Ok(())
    }
}

fn named(what: &str, value: &str) -> Result<String, SdpError> {
    match value.len() {
        0 => malformed(format!("an empty {what}")),
        1..=MAX_NAME_BYTES if !value.contains(char::is_control) => Ok(value.to_owned()),
        _ => malformed(format!("a {what} that is too long or has control characters")),
    }
}

fn bounded<T>(items: &mut Vec<T>, item: T) -> Result<(), SdpError> {
    if items.len() == MAX_ITEMS {
        return malformed(format!("more than {MAX_ITEMS} items of one kind in a section"));
    }
    items.push(item);
    Ok(())
}
