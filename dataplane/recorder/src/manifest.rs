//! `recording.json`: who and what was recorded, when, and what is missing, so that files can be
//! laid side by side. All times are milliseconds from the recording's zero, whose Unix time is
//! named.
#![forbid(unsafe_code)]

use opencall_wire::codec::{Codec, MediaKind};
use serde_json::{Value, json};

use crate::file::RecordFile;
use crate::session::Session;
use crate::track::{Span, Track};

/// The layout's version.
const VERSION: u32 = 1;

/// Characters of a name of a room or a participant that go into a file's name.
const MAX_NAME: usize = 48;

/// The whole file.
pub fn of(session: &Session) -> Value {
    let progress = session.progress();
    let ended_ms = session.ended.map(|ended| session.ms(ended));
    let participants = session.participants.iter().map(|(id, participant)| {
        let own = session.tracks.values().filter(|track| track.config.participant == *id);
        let tracks = own.map(|track| self::track(track, None));
        let begun = participant.files.iter().filter(|file| file.start_ms().is_some());
        let files = begun.map(|open| file(open, false));
        json!({
            "participant": &**id,
            "displayName": participant.display_name,
            "files": participant.past_files.iter().cloned().chain(files).collect::<Vec<_>>(),
            "tracks": participant.past_tracks.iter().cloned().chain(tracks).collect::<Vec<_>>(),
        })
    });
    json!({
        "version": VERSION,
        "recording": session.config.name,
        "room": session.config.room,
        "startedAtUnixMs": session.config.started_unix_ms,
        "endedMs": ended_ms,
        "state": session.ending.map_or("recording", |ending| ending.label()),
        "participants": participants.collect::<Vec<_>>(),
        "packetsLost": progress.packets_lost,
        "clustersDropped": progress.clusters_dropped,
        "tracksRefused": session.refused,
    })
}

/// A file. `closed`: nothing more comes.
pub fn file(file: &RecordFile, closed: bool) -> Value {
    let start_ms = file.start_ms().unwrap_or(0);
    let end_ms = file.tracks.iter().map(|track| track.last_ms).max().unwrap_or(start_ms);
    let tracks = file.tracks.iter().map(|track| {
        json!({
            "number": track.header.number,
            "producer": track.producer.0.to_string(),
            "source": track.header.name,
            "codec": codec_name(track.header.codec),
            "firstMs": track.first_ms,
            "lastMs": closed.then_some(track.last_ms),
            "frames": closed.then_some(track.frames),
        })
    });
    json!({
        "file": file.name,
        "startMs": start_ms,
        "durationMs": closed.then(|| end_ms.saturating_sub(start_ms)),
        "bytes": closed.then_some(file.bytes),
        "tracks": tracks.collect::<Vec<_>>(),
    })
}

/// A track, which has ended or not.
pub fn track(track: &Track, ended_ms: Option<u64>) -> Value {
    let main = track.config.payload_types.first().map(|main| main.codec);
    json!({
        "producer": track.config.producer.0.to_string(),
        "source": track.config.source,
        "kind": match track.config.kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        },
        "codec": main.map(codec_name),
        "endedMs": ended_ms,
        "packetsLost": track.lost,
        "gaps": track.gaps.iter().map(span).collect::<Vec<_>>(),
        "muted": track.muted.iter().map(span).collect::<Vec<_>>(),
    })
}

fn span(span: &Span) -> Value {
    json!([span.from_ms, span.to_ms])
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus",
        Codec::Vp8 => "vp8",
        Codec::Vp9 => "vp9",
        Codec::H264 => "h264",
        Codec::Av1 => "av1",
        _ => "unsupported",
    }
}

/// A name as a part of a file's name: letters, digits, `-` and `_` alone.
pub fn safe(name: &str) -> String {
    let is_safe = |letter: &char| letter.is_ascii_alphanumeric() || "-_".contains(*letter);
    let safe = name.chars().map(|letter| if is_safe(&letter) { letter } else { '_' });
    let safe: String = safe.take(MAX_NAME).collect();
    if safe.is_empty() { "_".to_owned() } else { safe }
}

/// A Unix time in seconds as `20261129T145100Z`.
pub fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days to a date of the Gregorian calendar, in years that begin with March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) =
        if month < 10 { (month + 3, year + era * 400) } else { (month - 9, year + era * 400 + 1) };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "19700101T000000Z");
        assert_eq!(date(951_782_399), "20000228T235959Z");
        assert_eq!(date(951_782_400), "20000229T000000Z");
        assert_eq!(date(1_795_963_914), "20261129T145154Z");
    }

    #[test]
    fn names_are_no_paths() {
        assert_eq!(safe("../../etc/passwd"), "______etc_passwd");
        assert_eq!(safe("Ännä b"), "_nn__b");
        assert_eq!(safe(""), "_");
        assert_eq!(safe(&"x".repeat(500)).len(), MAX_NAME);
    }
}
