//! What we receive under one set of keys.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use super::OpenError;
use super::checkpoint::SrtpCheckpoint;
use super::replay_window::ReplayWindow;
use super::transform::Transform;
use super::{
    MAX_PACKET_LEN, MAX_RTCP_INDEX, MAX_RTP_INDEX, Profile, RTCP_ENCRYPTED, RTCP_HEADER_LEN,
    RTP_HEADER_LEN, SrtpError, packet_index,
};

/// SSRCs of one transport whose state is kept. A publisher with camera, screen and microphone
/// uses 13 (three layers and their retransmissions, twice, and a voice), so this leaves room for
/// many restarts of each; it bounds what one hostile participant makes us keep to about 100 KB.
pub const MAX_SSRCS: usize = 256;

/// SSRCs whose state was given up and whose SRTCP index is known still: nobody replays their
/// reports. A browser may give each stream that it receives a sender of reports of its own, some
/// thousands in a day of people who come and go; each takes 16 bytes.
const MAX_DEPARTED: usize = 4096;

/// SSRCs there is room for from the start: an ordinary publisher's, before the table grows.
const INITIAL_SSRCS: usize = 14;

/// RTP packets told apart by the replay window: 1024, as libwebrtc has. A stream of 10 Mbit/s
/// sends a thousand packets a second, so one that is retransmitted or delayed by up to a second
/// still counts as new. The RFC asks for 64; more costs memory per SSRC.
type RtpWindow = ReplayWindow<16>;

/// SRTCP packets told apart: 128, many seconds of reports, which are rarely reordered.
type RtcpWindow = ReplayWindow<2>;

/// Failed attempts at a second round of the rollover counter until a first packet of some SSRC
/// authenticates. A higher value lets forged packets cost two authentications for longer; a lower
/// one lets a few of them keep out an honest sender whose first packets were lost across a wrap.
const SPARE_GUESSES: u8 = 32;

/// Longest packet that is attempted twice, bytes: more than any path of WebRTC carries. Its
/// ciphertext is copied first, for a failed attempt overwrites it.
const GUESSED_TWICE_MAX: usize = 2048;

/// Opens the packets of one transport. What it keeps per SSRC is made and changed by authenticated
/// packets only.
pub struct OpenContext {
    transform: Transform,
    /// What the transform adds to an RTP packet, bytes.
    rtp_overhead: usize,
    streams: HashMap<u32, Stream, foldhash::fast::RandomState>,
    /// Packets opened so far: the clock by which the retired stream silent for longest is known.
    opened: u64,
    /// How many of `streams` are retired.
    retired: usize,
    /// The next SRTCP index of each SSRC whose state was given up for another's. Not in the
    /// checkpoint: after a core's death the oldest reports might be played again, once.
    departed: HashMap<u32, u32, foldhash::fast::RandomState>,
    /// Second attempts left of [`SPARE_GUESSES`].
    guesses: u8,
    /// Where the highest indexes are written down for a core that comes after this one.
    checkpoint: Option<Arc<SrtpCheckpoint>>,
}

/// State of one SSRC.
struct Stream {
    rtp: RtpWindow,
    rtcp: RtcpWindow,
    /// When it was last heard of, by the count of opened packets.
    last_opened: u64,
    retired: bool,
    /// Its place in the checkpoint.
    slot: u16,
}

impl Stream {
    const fn new(slot: u16) -> Self {
        Stream {
            rtp: RtpWindow::new(),
            rtcp: RtcpWindow::new(),
            last_opened: 0,
            retired: false,
            slot,
        }
    }

    /// Whether no RTP came of it: a receiver of ours, or none of our producers.
    fn only_reports(&self) -> bool {
        self.rtp.highest().is_none()
    }
}

/// An opened RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Length of the plain packet, bytes.
    pub len: usize,
    /// Its 48-bit packet index, `ROC << 16 | SEQ`.
    pub index: u64,
}

/// What a new context must know of an SSRC to go on where a lost one was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCheckpoint {
    /// The SSRC.
    pub ssrc: u32,
    /// The highest RTP packet index received.
    pub rtp_index: Option<u64>,
    /// The highest SRTCP index received.
    pub rtcp_index: Option<u32>,
}

impl OpenContext {
    /// A context for receiving under a master key and salt.
    ///
    /// # Errors
    /// A key or salt whose length is not the profile's.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        Ok(Self::with(Transform::new(profile, key, salt)?))
    }

    /// A context for receiving plain RTP and RTCP. Nothing is authentic, so nothing is kept of any
    /// SSRC, and repeated packets are the business of whoever counts them.
    pub fn clear() -> Self {
        Self::with(Transform::Clear)
    }

    fn with(transform: Transform) -> Self {
        OpenContext {
            rtp_overhead: transform.rtp_overhead(),
            transform,
            streams: HashMap::with_capacity_and_hasher(INITIAL_SSRCS, Default::default()),
            opened: 0,
            retired: 0,
            departed: HashMap::default(),
            guesses: SPARE_GUESSES,
            checkpoint: None,
        }
    }

    /// Whether packets are plain.
    pub fn is_clear(&self) -> bool {
        self.transform.is_clear()
    }

    /// Opens an SRTP packet in place. `ssrc`, `sequence` and `header_len` (with CSRCs and
    /// extensions) are what its header says.
    ///
    /// # Errors
    /// The packet is to be dropped. What it held is then undefined.
    pub fn open_rtp(
        &mut self,
        packet: &mut [u8],
        ssrc: u32,
        sequence: u16,
        header_len: usize,
    ) -> Result<Opened, OpenError> {
        let least = header_len.max(RTP_HEADER_LEN).saturating_add(self.rtp_overhead);
        check_len(packet, least)?;
        let stream = self.streams.get_mut(&ssrc);
        let highest = stream.as_ref().and_then(|stream| stream.rtp.highest());
        let (Some(stream), Some(highest)) = (stream, highest) else {
            return self.open_first(packet, ssrc, sequence, header_len);
        };
        let index = packet_index::estimate(highest, sequence)
            .filter(|&index| stream.rtp.is_fresh(index))
            .ok_or(OpenError::Replay)?;
        let len = self
            .transform
            .open_rtp(ssrc, index, header_len, packet)
            .map_err(|_| OpenError::AuthFailed)?;
        self.opened += 1;
        stream.rtp.accept(index);
        stream.last_opened = self.opened;
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.note_rtp(stream.slot, stream.rtp.next());
        }
        Ok(Opened { len, index })
    }

    /// Opens a packet of an SSRC without an authenticated packet so far. It is in the first round
    /// or, if the numbers began high and the packets up to their wrap were lost, in the second;
    /// only the tag decides.
    #[cold]
    fn open_first(
        &mut self,
        packet: &mut [u8],
        ssrc: u32,
        sequence: u16,
        header_len: usize,
    ) -> Result<Opened, OpenError> {
        if self.is_clear() {
            return Ok(Opened { len: packet.len(), index: sequence.into() });
        }
        if !self.streams.contains_key(&ssrc) && !self.has_room(ssrc) {
            return Err(OpenError::TooManySsrcs);
        }
        let (first, second) = packet_index::of_first(sequence);
        let mut buffer = [0; GUESSED_TWICE_MAX];
        let kept = buffer.get_mut(..packet.len()).filter(|_| self.guesses > 0);
        let mut again = second.zip(kept);
        if let Some((_, kept)) = &mut again {
            kept.copy_from_slice(packet);
        }
        let mut index = first;
        let mut opened = self.transform.open_rtp(ssrc, index, header_len, packet);
        if let (Err(_), Some((second, kept))) = (opened, again) {
            packet.copy_from_slice(kept);
            index = second;
            opened = self.transform.open_rtp(ssrc, index, header_len, packet);
            self.guesses -= 1;
        }
        let len = opened.map_err(|_| OpenError::AuthFailed)?;
        self.guesses = SPARE_GUESSES;
        self.opened += 1;
        let opened = self.opened;
        let stream = self.insert(ssrc);
        stream.rtp.accept(index);
        stream.last_opened = opened;
        let (slot, next) = (stream.slot, stream.rtp.next());
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.note_rtp(slot, next);
        }
        Ok(Opened { len, index })
    }

    /// Opens a compound SRTCP packet in place and returns the length of the plain one.
    ///
    /// A packet that the peer chose not to encrypt is taken if it authenticates: the E flag is
    /// the sender's choice per packet (RFC 3711 section 3.4) and covered by the tag, so nobody
    /// else can clear it. We always encrypt.
    ///
    /// # Errors
    /// The packet is to be dropped. What it held is then undefined.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, OpenError> {
        check_len(packet, RTCP_HEADER_LEN + self.transform.rtcp_overhead())?;
        if self.is_clear() {
            return Ok(packet.len());
        }
        let header = packet.first_chunk::<RTCP_HEADER_LEN>().ok_or(OpenError::TooShort)?;
        let [_, _, _, _, ssrc @ ..] = *header;
        let ssrc = u32::from_be_bytes(ssrc);
        let word = self.transform.rtcp_index_word(packet).ok_or(OpenError::TooShort)?;
        let index = word & MAX_RTCP_INDEX;
        if !self.streams.contains_key(&ssrc) && !self.has_room(ssrc) {
            return Err(OpenError::TooManySsrcs);
        }
        let stream = self.streams.get_mut(&ssrc);
        let is_fresh = match &stream {
            Some(stream) => stream.rtcp.is_fresh(index.into()),
            None => self.departed.get(&ssrc).is_none_or(|&next| index >= next),
        };
        if !is_fresh {
            return Err(OpenError::Replay);
        }
        let len = self
            .transform
            .open_rtcp(ssrc, index, word & RTCP_ENCRYPTED != 0, packet)
            .map_err(|_| OpenError::AuthFailed)?;
        self.opened += 1;
        let opened = self.opened;
        let stream = match stream {
            Some(stream) => stream,
            None => self.insert(ssrc),
        };
        stream.rtcp.accept(index.into());
        stream.last_opened = opened;
        let (slot, next) = (stream.slot, stream.rtcp.next());
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.note_rtcp(slot, next);
        }
        Ok(len)
    }

    /// Says that nothing is expected of `ssrc` any more, as when its producer closed. Its state
    /// stays, so that packets under way are not taken for new ones and the SSRC may come back,
    /// but once the table is full a new SSRC replaces the retired one that was silent for longest,
    /// or, if there is none, the one that was silent for longest of those that only ever reported.
    pub fn retire(&mut self, ssrc: u32) {
        let Some(stream) = self.streams.get_mut(&ssrc) else { return };
        self.retired += usize::from(!stream.retired);
        stream.retired = true;
    }

    /// How many SSRCs have state.
    pub fn ssrcs(&self) -> usize {
        self.streams.len()
    }

    /// What [`restore`](Self::restore) needs, for every SSRC.
    pub fn checkpoints(&self) -> impl Iterator<Item = StreamCheckpoint> + '_ {
        self.streams.iter().map(|(&ssrc, stream)| StreamCheckpoint {
            ssrc,
            rtp_index: stream.rtp.highest(),
            rtcp_index: stream.rtcp.highest().and_then(|index| index.try_into().ok()),
        })
    }

    /// Goes on from a checkpoint after a crash of the core. Everything up to its indexes counts as
    /// seen. Without this a stream past its second 65 536 packets could not be opened again, for
    /// the rollover counter does not travel. A checkpoint beyond [`MAX_SSRCS`] is left out.
    pub fn restore(&mut self, checkpoint: StreamCheckpoint) {
        if !self.streams.contains_key(&checkpoint.ssrc) && !self.has_room(checkpoint.ssrc) {
            return;
        }
        let stream = self.insert(checkpoint.ssrc);
        if let Some(index) = checkpoint.rtp_index {
            stream.rtp = RtpWindow::all_seen_up_to(index.min(MAX_RTP_INDEX));
        }
        if let Some(index) = checkpoint.rtcp_index {
            stream.rtcp = RtcpWindow::all_seen_up_to(index.min(MAX_RTCP_INDEX).into());
        }
        let (slot, rtp, rtcp) = (stream.slot, stream.rtp.next(), stream.rtcp.next());
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.note_rtp(slot, rtp);
            checkpoint.note_rtcp(slot, rtcp);
        }
    }

    /// Goes on where a core before this one was, and leaves word for the one after.
    pub fn take_over(&mut self, checkpoint: Arc<SrtpCheckpoint>) {
        let streams = checkpoint.streams();
        self.checkpoint = Some(checkpoint);
        for stream in streams {
            self.restore(stream);
        }
    }

    /// Whether an SSRC without state can have one.
    fn has_room(&self, ssrc: u32) -> bool {
        self.streams.len() < MAX_SSRCS || self.retired > 0 || self.can_evict_reporter(ssrc)
    }

    /// Whether there is one that sends reports and nothing else, and room for its index, which one
    /// that comes back leaves. Looked for among all, but only when the table is full.
    #[cold]
    fn can_evict_reporter(&self, ssrc: u32) -> bool {
        let is_kept = self.departed.len() < MAX_DEPARTED || self.departed.contains_key(&ssrc);
        is_kept && self.streams.values().any(Stream::only_reports)
    }

    /// The state of `ssrc`, made if there is none. The caller has asked
    /// [`has_room`](Self::has_room).
    fn insert(&mut self, ssrc: u32) -> &mut Stream {
        let mut slot = self.streams.len() as u16;
        let departed = self.departed.remove(&ssrc);
        if self.streams.len() >= MAX_SSRCS
            && !self.streams.contains_key(&ssrc)
            && let Some(evicted) = self.evict()
        {
            slot = evicted;
        }
        let Self { checkpoint, streams, .. } = self;
        streams.entry(ssrc).or_insert_with(|| {
            if let Some(checkpoint) = checkpoint {
                checkpoint.begin_ssrc(slot, ssrc);
            }
            let mut stream = Stream::new(slot);
            if let Some(next) = departed {
                stream.rtcp = RtcpWindow::all_seen_up_to(u64::from(next) - 1);
                if let Some(checkpoint) = checkpoint {
                    checkpoint.note_rtcp(slot, next.into());
                }
            }
            stream
        })
    }

    /// Gives up the state of the retired SSRC that was silent for longest, or of such a one that
    /// only ever reported; the place that it had.
    fn evict(&mut self) -> Option<u16> {
        let is_wanted = |stream: &Stream| match self.retired {
            0 => stream.only_reports(),
            _ => stream.retired,
        };
        let candidates = self.streams.iter().filter(|(_, stream)| is_wanted(stream));
        let oldest = candidates.min_by_key(|(_, stream)| stream.last_opened).map(|(&ssrc, _)| ssrc);
        let ssrc = oldest?;
        let evicted = self.streams.remove(&ssrc)?;
        self.retired -= usize::from(evicted.retired);
        let next = evicted.rtcp.next().try_into().ok().filter(|&next| next > 0);
        if let Some(next) = next
            && self.departed.len() < MAX_DEPARTED
        {
            self.departed.insert(ssrc, next);
        }
        Some(evicted.slot)
    }
}

/// The cheapest guard.
fn check_len(packet: &[u8], least: usize) -> Result<(), OpenError> {
    if packet.len() < least {
        return Err(OpenError::TooShort);
    }
    if packet.len() > MAX_PACKET_LEN {
        return Err(OpenError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::SealContext;
    use super::*;

    const PROFILES: [Profile; 3] =
        [Profile::AeadAes128Gcm, Profile::AeadAes256Gcm, Profile::AesCm128HmacSha1_80];
    const SSRC: u32 = 0x1234_5678;

    /// A sender and a receiver under one key.
    struct Pair {
        seal: SealContext,
        open: OpenContext,
    }

    impl Pair {
        fn new(profile: Profile) -> Self {
            let (key, salt) = ([3; 32], [5; 14]);
            let (key, salt) = (&key[..profile.key_len()], &salt[..profile.salt_len()]);
            Pair {
                seal: SealContext::new(profile, key, salt).unwrap(),
                open: OpenContext::new(profile, key, salt).unwrap(),
            }
        }

        fn rtp(&mut self, ssrc: u32, index: u64) -> Vec<u8> {
            let mut packet = plain_rtp(ssrc, index);
            packet.resize(packet.len() + self.seal.rtp_overhead(), 0);
            let payload = packet[12..52].to_vec();
            let len = self.seal.seal_rtp(index, 12, &payload, &mut packet).unwrap();
            assert_eq!(len, packet.len());
            packet
        }

        fn rtcp(&mut self, ssrc: u32) -> Vec<u8> {
            let mut packet = plain_rtcp(ssrc);
            let len = packet.len();
            packet.resize(len + self.seal.rtcp_overhead(), 0);
            assert_eq!(self.seal.seal_rtcp(&mut packet, len), Ok(packet.len()));
            packet
        }

        /// Opens an SRTP packet that carries a twelve byte header.
        fn open(&mut self, packet: &[u8]) -> Result<u64, OpenError> {
            let mut packet = packet.to_vec();
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            let ssrc = u32::from_be_bytes(packet[8..12].try_into().unwrap());
            let opened = self.open.open_rtp(&mut packet, ssrc, sequence, 12)?;
            assert_eq!(packet[..opened.len], plain_rtp(ssrc, opened.index));
            Ok(opened.index)
        }

        fn open_rtcp(&mut self, packet: &[u8]) -> Result<usize, OpenError> {
            self.open.open_rtcp(&mut packet.to_vec())
        }
    }

    fn plain_rtp(ssrc: u32, index: u64) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend((index as u16).to_be_bytes());
        packet.extend([1, 2, 3, 4]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend((0..40).map(|i| i ^ index as u8));
        packet
    }

    fn plain_rtcp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 200, 0, 6];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0xab; 20]);
        packet
    }

    #[test]
    fn of_plain_packets_nothing_is_kept() {
        let mut open = OpenContext::clear();
        for ssrc in 0..2 * MAX_SSRCS as u32 {
            let mut packet = plain_rtp(ssrc, 7);
            assert_eq!(open.open_rtp(&mut packet, ssrc, 7, 12), Ok(Opened { len: 52, index: 7 }));
            assert_eq!(packet, plain_rtp(ssrc, 7));
            assert_eq!(open.open_rtcp(&mut plain_rtcp(ssrc)), Ok(28));
        }
        assert_eq!(open.open_rtp(&mut [0x80; 11], 1, 7, 12), Err(OpenError::TooShort));
        assert_eq!(open.open_rtcp(&mut [0x80; 7]), Err(OpenError::TooShort));
        assert_eq!(open.ssrcs(), 0);
    }

    #[test]
    fn round_trip() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let sealed = pair.rtp(SSRC, 77);
            assert_ne!(sealed[12..52], plain_rtp(SSRC, 77)[12..]);
            assert_eq!(pair.open(&sealed), Ok(77));
            let mut sealed = pair.rtcp(SSRC);
            let plain = plain_rtcp(SSRC);
            assert_eq!(sealed[..8], plain[..8]);
            assert_ne!(sealed[8..28], plain[8..]);
            assert_eq!(pair.open.open_rtcp(&mut sealed), Ok(28));
            assert_eq!(sealed[..28], plain);
        }
    }

    #[test]
    fn keying_material_takes_each_direction_its_key() {
        let material = |flip: bool| {
            let keys = [vec![1; 16].into(), vec![2; 12].into()];
            let other = [vec![3; 16].into(), vec![4; 12].into()];
            let (local, remote) = if flip { (other, keys) } else { (keys, other) };
            let ([local_key, local_salt], [remote_key, remote_salt]) = (local, remote);
            let profile = Profile::AeadAes128Gcm;
            super::super::KeyingMaterial { profile, remote_key, remote_salt, local_key, local_salt }
        };
        let mut pair = Pair {
            seal: material(false).seal_context().unwrap(),
            open: material(true).open_context().unwrap(),
        };
        let sealed = pair.rtp(SSRC, 1);
        assert_eq!(pair.open(&sealed), Ok(1));
        pair.open = material(false).open_context().unwrap();
        assert_eq!(pair.open(&sealed), Err(OpenError::AuthFailed));
    }

    #[test]
    fn the_index_follows_wraps_and_reordering() {
        // Forward over 2^16 twice, with packets of the old round arriving after the wrap and a
        // jump of almost half a round.
        let order: [u64; 16] = [
            0xfffc, 0xfffe, 0x1_0001, 0xffff, 0x1_0000, 0xfffd, 0x1_0002, 0x1_7fff, 0x1_fffe,
            0x2_0001, 0x1_ffff, 0x2_0000, 0x2_8000, 0x2_fff0, 0x3_0000, 0x2_fffe,
        ];
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            for index in order {
                let sealed = pair.rtp(SSRC, index);
                assert_eq!(pair.open(&sealed), Ok(index), "{index:#x}");
                assert_eq!(pair.open(&sealed), Err(OpenError::Replay), "{index:#x}");
            }
        }
    }

    #[test]
    fn a_late_packet_opens_within_the_window_only() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let highest = 0x1_0000 + 500;
            let edge = highest - RtpWindow::SIZE + 1;
            let late = [pair.rtp(SSRC, edge), pair.rtp(SSRC, edge - 1)];
            let early = pair.rtp(SSRC, 0xff00);
            assert_eq!(pair.open(&early), Ok(0xff00));
            let newest = pair.rtp(SSRC, highest);
            assert_eq!(pair.open(&newest), Ok(highest));
            assert_eq!(pair.open(&late[0]), Ok(edge));
            assert_eq!(pair.open(&late[1]), Err(OpenError::Replay));
        }
    }

    #[test]
    fn what_would_precede_the_first_round_is_refused() {
        let mut pair = Pair::new(Profile::AeadAes128Gcm);
        let first = pair.rtp(SSRC, 2);
        assert_eq!(pair.open(&first), Ok(2));
        let before = pair.rtp(SSRC, 0xfffe);
        assert_eq!(pair.open(&before), Err(OpenError::Replay));
    }

    #[test]
    fn a_first_packet_after_the_wrap_opens_and_what_comes_late_before_it() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let [late, first, next] = [0xffff, 0x1_0000, 0x1_0001].map(|n| pair.rtp(SSRC, n));
            // A report may come before.
            let report = pair.rtcp(SSRC);
            assert_eq!(pair.open_rtcp(&report), Ok(28));
            assert_eq!(pair.open(&first), Ok(0x1_0000));
            assert_eq!(pair.open(&first), Err(OpenError::Replay));
            assert_eq!(pair.open(&late), Ok(0xffff));
            assert_eq!(pair.open(&next), Ok(0x1_0001));
            // Once a packet was opened there is one guess.
            let ahead = pair.rtp(SSRC, 0x2_0002);
            assert_eq!(pair.open(&ahead), Err(OpenError::AuthFailed));
        }
    }

    #[test]
    fn forged_packets_use_second_guesses_up_and_honest_ones_bring_them_back() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let wrapped = pair.rtp(SSRC, 0x1_0000);
            let mut forged = wrapped.clone();
            forged[20] ^= 1;
            for _ in 0..2 * SPARE_GUESSES {
                assert_eq!(pair.open(&forged), Err(OpenError::AuthFailed));
            }
            assert_eq!(pair.open.guesses, 0);
            assert_eq!(pair.open(&wrapped), Err(OpenError::AuthFailed), "as it would be");
            let other = pair.rtp(SSRC + 1, 7);
            assert_eq!(pair.open(&other), Ok(7));
            assert_eq!(pair.open(&wrapped), Ok(0x1_0000));
        }
    }

    #[test]
    fn ssrcs_are_independent() {
        let mut pair = Pair::new(Profile::AeadAes128Gcm);
        for ssrc in [1, 2, 3] {
            let sealed = pair.rtp(ssrc, 50);
            assert_eq!(pair.open(&sealed), Ok(50));
        }
        assert_eq!(pair.open.ssrcs(), 3);
    }

    #[test]
    fn forged_packets_change_nothing() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let genuine = pair.rtp(SSRC, 0x1_0000);
            let first = pair.rtp(SSRC, 0xffff);
            for i in 0..genuine.len() {
                let mut forged = first.clone();
                forged[i] ^= 1;
                assert_eq!(pair.open(&forged), Err(OpenError::AuthFailed), "byte {i}");
            }
            assert_eq!(pair.open.ssrcs(), 0);

            assert_eq!(pair.open(&first), Ok(0xffff));
            // Far ahead: had it any effect, the next genuine packet would be a round off.
            let mut forged = pair.rtp(SSRC, 0x1_7000);
            *forged.last_mut().unwrap() ^= 0x80;
            assert_eq!(pair.open(&forged), Err(OpenError::AuthFailed));
            assert_eq!(pair.open(&genuine), Ok(0x1_0000));
            assert_eq!(pair.open.ssrcs(), 1);
        }
    }

    #[test]
    fn forged_rtcp_changes_nothing() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let genuine = pair.rtcp(SSRC);
            for i in 0..genuine.len() {
                let mut forged = genuine.clone();
                forged[i] ^= 1;
                assert_eq!(pair.open_rtcp(&forged), Err(OpenError::AuthFailed), "byte {i}");
            }
            assert_eq!(pair.open.ssrcs(), 0);
            assert_eq!(pair.open_rtcp(&genuine), Ok(28));
        }
    }

    #[test]
    fn rtcp_replays_are_refused_per_ssrc() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let packets: Vec<_> = (0..130).map(|_| pair.rtcp(SSRC)).collect();
            assert_eq!(pair.open_rtcp(&packets[1]), Ok(28));
            assert_eq!(pair.open_rtcp(&packets[1]), Err(OpenError::Replay));
            assert_eq!(pair.open_rtcp(&packets[129]), Ok(28));
            assert_eq!(pair.open_rtcp(&packets[2]), Ok(28));
            assert_eq!(pair.open_rtcp(&packets[0]), Err(OpenError::Replay));
            let mut other = Pair::new(profile);
            let same_index = other.rtcp(SSRC + 1);
            assert_eq!(pair.open_rtcp(&same_index), Ok(28));
        }
    }

    #[test]
    fn nobody_but_the_sender_can_clear_the_e_flag() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let mut packet = pair.rtcp(SSRC);
            let flag = if profile == Profile::AesCm128HmacSha1_80 { 28 } else { 28 + 16 };
            assert_eq!(packet[flag], 0x80);
            packet[flag] = 0;
            assert_eq!(pair.open_rtcp(&packet), Err(OpenError::AuthFailed));
        }
    }

    #[test]
    fn no_truncated_packet_opens_or_panics() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let rtp = pair.rtp(SSRC, 9);
            let rtcp = pair.rtcp(SSRC);
            for len in 0..rtp.len() {
                for header_len in [0, 11, 12, 13, 40, len, len + 1, usize::MAX] {
                    let opened = pair.open.open_rtp(&mut rtp[..len].to_vec(), SSRC, 9, header_len);
                    assert!(opened.is_err(), "{len} {header_len}");
                }
                let least = 12 + pair.seal.rtp_overhead();
                let opened = pair.open.open_rtp(&mut rtp[..len].to_vec(), SSRC, 9, 12);
                assert_eq!(opened.err() == Some(OpenError::TooShort), len < least, "{len}");
            }
            for len in 0..rtcp.len() {
                let opened = pair.open_rtcp(&rtcp[..len]);
                let least = 8 + pair.seal.rtcp_overhead();
                assert!(opened.is_err());
                assert_eq!(opened.err() == Some(OpenError::TooShort), len < least, "{len}");
            }
            let mut giant = vec![0; MAX_PACKET_LEN + 1];
            assert_eq!(pair.open.open_rtp(&mut giant, SSRC, 9, 12), Err(OpenError::TooLong));
            assert_eq!(pair.open.open_rtcp(&mut giant), Err(OpenError::TooLong));
            assert_eq!(pair.open.ssrcs(), 0);
        }
    }

    #[test]
    fn a_full_table_takes_no_new_ssrc_until_one_retires() {
        let mut pair = Pair::new(Profile::AeadAes128Gcm);
        for ssrc in 0..MAX_SSRCS as u32 {
            let sealed = pair.rtp(ssrc, 1);
            assert_eq!(pair.open(&sealed), Ok(1));
        }
        let (new, newer, newest) = (pair.rtp(1000, 1), pair.rtcp(1001), pair.rtp(1002, 1));
        assert_eq!(pair.open(&new), Err(OpenError::TooManySsrcs));
        assert_eq!(pair.open_rtcp(&newer), Err(OpenError::TooManySsrcs));

        pair.open.retire(7);
        pair.open.retire(8);
        pair.open.retire(8);
        let heard_again = pair.rtp(7, 2);
        assert_eq!(pair.open(&heard_again), Ok(2));
        let mut forged = new.clone();
        forged[30] ^= 1;
        assert_eq!(pair.open(&forged), Err(OpenError::AuthFailed));
        assert_eq!(pair.open.checkpoints().count(), MAX_SSRCS);

        // 8 was silent for longer than 7.
        assert_eq!(pair.open(&new), Ok(1));
        assert!(pair.open.checkpoints().any(|c| c.ssrc == 7));
        assert!(pair.open.checkpoints().all(|c| c.ssrc != 8));
        assert_eq!(pair.open_rtcp(&newer), Ok(28));
        assert!(pair.open.checkpoints().all(|c| c.ssrc != 7));
        assert_eq!(pair.open(&newest), Ok(1), "in place of what only reported");
        assert!(pair.open.checkpoints().all(|c| c.ssrc != 1001));
        let none_left = pair.rtp(1003, 1);
        assert_eq!(pair.open(&none_left), Err(OpenError::TooManySsrcs));
        assert_eq!(pair.open.ssrcs(), MAX_SSRCS);
    }

    #[test]
    fn whoever_only_reports_makes_room_and_is_not_replayed() {
        let mut pair = Pair::new(Profile::AeadAes128Gcm);
        let voice = pair.rtp(0, 1);
        assert_eq!(pair.open(&voice), Ok(1));
        let mut reports = Vec::new();
        for ssrc in 1..=2 * MAX_SSRCS as u32 {
            reports.push(pair.rtcp(ssrc));
            assert_eq!(pair.open_rtcp(reports.last().unwrap()), Ok(28), "{ssrc}");
        }
        assert_eq!(pair.open.ssrcs(), MAX_SSRCS);
        assert!(reports.iter().all(|report| pair.open_rtcp(report) == Err(OpenError::Replay)));
        let camera = pair.rtp(5_000, 1);
        assert_eq!(pair.open(&camera), Ok(1), "pictures have room as well");
        assert_eq!(pair.open(&voice), Err(OpenError::Replay), "what sends stays");
        // The first is forgotten but for its index, with which it goes on.
        let [again, newer] = [pair.rtcp(1), pair.rtcp(1)];
        assert_eq!(pair.open_rtcp(&newer), Ok(28));
        assert_eq!(pair.open_rtcp(&again), Ok(28), "late by one, and never seen");
        assert_eq!(pair.open_rtcp(&reports[0]), Err(OpenError::Replay));
    }

    #[test]
    fn what_is_remembered_of_those_who_reported_is_bounded() {
        let mut pair = Pair::new(Profile::AeadAes128Gcm);
        let all = (MAX_SSRCS + MAX_DEPARTED) as u32;
        for ssrc in 0..all {
            let report = pair.rtcp(ssrc);
            assert_eq!(pair.open_rtcp(&report), Ok(28), "{ssrc}");
        }
        let report = pair.rtcp(all);
        assert_eq!(pair.open_rtcp(&report), Err(OpenError::TooManySsrcs));
        assert_eq!((pair.open.ssrcs(), pair.open.departed.len()), (MAX_SSRCS, MAX_DEPARTED));
        let first = pair.rtcp(0);
        assert_eq!(pair.open_rtcp(&first), Ok(28), "who comes back leaves its place to another");
        assert_eq!((pair.open.ssrcs(), pair.open.departed.len()), (MAX_SSRCS, MAX_DEPARTED));
    }

    #[test]
    fn a_restored_context_goes_on_where_the_lost_one_was() {
        for profile in PROFILES {
            let mut pair = Pair::new(profile);
            let (mut sent, mut reports) = (Vec::new(), Vec::new());
            for index in [0x1_7ff0, 0x1_fff0, 0x2_0005] {
                sent.push(pair.rtp(SSRC, index));
                assert_eq!(pair.open(sent.last().unwrap()), Ok(index));
                reports.push(pair.rtcp(SSRC));
                assert_eq!(pair.open_rtcp(reports.last().unwrap()), Ok(28));
            }
            let checkpoints: Vec<_> = pair.open.checkpoints().collect();
            let expected =
                StreamCheckpoint { ssrc: SSRC, rtp_index: Some(0x2_0005), rtcp_index: Some(2) };
            assert_eq!(checkpoints, [expected]);

            let next = pair.rtp(SSRC, 0x2_0006);
            pair.open = Pair::new(profile).open;
            assert_eq!(pair.open(&next), Err(OpenError::AuthFailed));
            checkpoints.into_iter().for_each(|checkpoint| pair.open.restore(checkpoint));
            assert_eq!(pair.open(&next), Ok(0x2_0006));
            assert!(sent[1..].iter().all(|p| pair.open(p) == Err(OpenError::Replay)));
            assert!(reports.iter().all(|p| pair.open_rtcp(p) == Err(OpenError::Replay)));
            let report = pair.rtcp(SSRC);
            assert_eq!(pair.open_rtcp(&report), Ok(28));
        }
    }
}
