use std::os::fd::{AsFd, OwnedFd};

use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtp::extension::{Extension, ExtensionIds};
use opencall_wire::srtp::{KeyingMaterial, Profile};
use smallvec::smallvec;

use super::*;
use crate::message::{
    AcceptedPayloadType, ConsumerConfig, ConsumerId, EncodingConfig, Feedback, IceCredentials,
    Layers, Origin, PayloadTypeMapping, PlainLink, PlainRemote, ProducerConfig, ProducerId,
    SocketId, TransportConfig, TransportId,
};
use crate::records::Records;

const NOW: Duration = Duration::from_secs(7);

fn memory() -> OwnedFd {
    CallMemory::create().unwrap()
}

fn records(fd: &OwnedFd) -> Records {
    let found = CallMemory::open(fd.as_fd(), NOW).unwrap();
    assert_eq!(found.refused, None);
    Records::kept(found.memory, found.told)
}

fn keys() -> KeyingMaterial {
    KeyingMaterial {
        profile: Profile::AeadAes256Gcm,
        remote_key: vec![1; 32].into(),
        remote_salt: vec![2; 12].into(),
        local_key: vec![3; 32].into(),
        local_salt: vec![4; 12].into(),
    }
}

fn ice(name: &str) -> IceCredentials {
    IceCredentials { ufrag: name.to_owned(), pwd: format!("{name}, as a secret") }
}

fn transport(id: u64, memory: &CallMemory) -> Command {
    Command::CreateTransport(Box::new(TransportConfig {
        id: TransportId(id),
        ice: ice("ufrag"),
        outgoing_bitrate_bps: 6_000_000,
        data_channels: true,
        owner: 77,
        checkpoint: memory.transport(),
    }))
}

fn producer(id: u64, transport: u64, memory: &CallMemory) -> Command {
    let codecs =
        [Codec::Opus, Codec::Red, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opaque];
    let payload_type = |codec| PayloadTypeMapping {
        incoming: 96,
        incoming_rtx: Some(97),
        router: 101,
        codec,
        clock_rate_hz: 90_000,
    };
    let mut extensions = ExtensionIds::default();
    Extension::ALL.iter().zip(1..).for_each(|(extension, id)| extensions.set(*extension, id));
    Command::CreateProducer(Box::new(ProducerConfig {
        id: ProducerId(id),
        origin: Origin::Transport(TransportId(transport)),
        home: CoreId(0),
        kind: MediaKind::Video,
        mid: Some(smallvec![b'm']),
        payload_types: codecs.map(payload_type).into_iter().collect(),
        encodings: smallvec![EncodingConfig {
            rid: Some(smallvec![b'r', b'1']),
            ssrc: Some(u32::MAX),
            rtx_ssrc: None,
            max_bitrate_bps: Some(1),
        }],
        extensions,
        feedback: Feedback { nack: true, pli: false, fir: true, remb: false, transport_cc: true },
        paused: true,
        checkpoint: memory.producer(),
    }))
}

fn consumer(id: u64, (transport, producer): (u64, u64), memory: &CallMemory) -> Command {
    Command::CreateConsumer(Box::new(ConsumerConfig {
        id: ConsumerId(id),
        transport: TransportId(transport),
        producer: ProducerId(producer),
        mid: smallvec![b'4', b'2'],
        ssrc: 1_000_002,
        rtx_ssrc: Some(1_000_003),
        payload_types: smallvec![AcceptedPayloadType {
            router: 101,
            sent: 96,
            rtx: None,
            red: Some(63),
        }],
        cname: "cname".to_owned(),
        extensions: ExtensionIds::default(),
        feedback: Feedback::default(),
        paused: false,
        preferred_layers: Some(Layers { spatial: 1, temporal: None }),
        checkpoint: memory.consumer(),
    }))
}

/// A command as bytes: they name everything, so that equal bytes are equal commands.
fn bytes(core: CoreId, command: &Command, memory: &CallMemory) -> Vec<u8> {
    let mut out = Vec::new();
    codec::put(core, command, memory, &mut out);
    out
}

fn all_commands(memory: &CallMemory) -> Vec<Command> {
    let (one, two) = (TransportId(1), ProducerId(2));
    let (four, layers) = (ConsumerId(4), Layers { spatial: 2, temporal: Some(1) });
    let v6 = "[fe80::1%7]:40000".parse().unwrap();
    let remote = PlainRemote {
        rtp: ("192.0.2.1:5004".parse().unwrap(), SocketId(1)),
        rtcp: Some((v6, SocketId(0))),
    };
    let link = PlainLink { remote: Some(remote), rtcp_mux: false, keys: Some(keys()) };
    vec![
        transport(1, memory),
        Command::RestartIce { transport: one, ice: ice("another") },
        Command::InstallSrtp { transport: one, keys: Box::new(keys()) },
        Command::ConnectPlain { transport: one, link: Box::new(link) },
        Command::SetOutgoingBitrate { transport: one, bitrate_bps: 9 },
        producer(2, 1, memory),
        Command::PauseProducer(two),
        Command::ResumeProducer(two),
        Command::SetStage { stage: two, source: None, shown: None },
        Command::SetStage { stage: two, source: Some(ProducerId(u64::MAX)), shown: Some(two) },
        Command::MoveStage { stage: two, home: CoreId(127) },
        Command::OpenPipe { producer: two, to: CoreId(1) },
        Command::ClosePipe { producer: two, to: CoreId(1) },
        consumer(4, (1, 2), memory),
        Command::PauseConsumer(four),
        Command::ResumeConsumer(four),
        Command::SetPreferredLayers { consumer: four, layers },
        Command::SetPriority { consumer: four, priority: 200 },
        Command::CloseConsumer(four),
        Command::CloseProducer(two),
        Command::CloseTransport(one),
    ]
}

#[test]
fn whatever_a_core_is_told_is_read_as_it_was_written() {
    let fd = memory();
    let memory = CallMemory::open(fd.as_fd(), NOW).unwrap().memory;
    for command in all_commands(&memory) {
        let written = bytes(CoreId(3), &command, &memory);
        let Some(Entry::Told(core, read)) = codec::take(&written, &memory) else {
            panic!("it is not read: {written:?}");
        };
        assert_eq!(core, CoreId(3));
        assert_eq!(bytes(core, &read, &memory), written);
        for length in 0..written.len() {
            assert!(codec::take(&written[..length], &memory).is_none(), "{length} bytes of it");
        }
    }
    let mut forgotten = Vec::new();
    codec::put_forgotten(CoreId(9), &mut forgotten);
    assert!(matches!(codec::take(&forgotten, &memory), Some(Entry::Forgotten(CoreId(9)))));
}

/// What is written is of one layout: whoever changes it changes [`codec::LAYOUT`] and this sum.
#[test]
fn the_layout_is_that_of_its_number() {
    let fd = memory();
    let memory = CallMemory::open(fd.as_fd(), NOW).unwrap().memory;
    let written = all_commands(&memory)
        .iter()
        .flat_map(|of| bytes(CoreId(3), of, &memory))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    assert_eq!((codec::LAYOUT, written), (1, 17_026_211_556_254_570_093));
}

#[test]
fn the_next_process_knows_what_holds_and_goes_on_with_its_numbers() {
    let fd = memory();
    let mut first = records(&fd);
    let core = CoreId(0);
    for id in [1, 2] {
        first.note(core, &transport(id, &first.memory()));
    }
    first.note(core, &Command::InstallSrtp { transport: TransportId(1), keys: Box::new(keys()) });
    first.note(core, &producer(3, 1, &first.memory()));
    first.note(core, &consumer(4, (2, 3), &first.memory()));
    first.note(core, &consumer(5, (2, 3), &first.memory()));
    first.note(core, &Command::CloseConsumer(ConsumerId(5)));
    let replayed = first.replay(core);
    let checkpoint = replayed.iter().find_map(|(_, command)| match command {
        Command::CreateConsumer(config) => Some(config.checkpoint.clone()),
        _ => None,
    });
    let checkpoint = checkpoint.unwrap();
    assert_eq!(checkpoint.media().begin(checkpoint.generation(), 700, 32), 700..732);
    let counts = first.counts(core);
    let length_of = |commands: &[(CoreId, Command)], memory: &CallMemory| {
        commands.iter().map(|(core, of)| bytes(*core, of, memory).len()).sum::<usize>()
    };
    let length = length_of(&replayed, &first.memory());
    // Killed: nothing is closed, and nothing dropped.
    std::mem::forget(first);
    let mut second = records(&fd);
    assert_eq!(second.counts(core), counts);
    let again = second.replay(core);
    assert_eq!(length_of(&again, &second.memory()), length);
    let consumer = again.iter().find_map(|(_, command)| match command {
        Command::CreateConsumer(config) => Some(config.checkpoint.clone()),
        _ => None,
    });
    let consumer = consumer.unwrap();
    assert!(consumer.generation().is_after(checkpoint.generation()));
    assert_eq!(consumer.media().begin(consumer.generation(), 9, 32), 732..764);
    // The place of the one that was closed is free; those in use are not given away.
    let new = second.memory().consumer();
    assert_eq!(second.memory().place_of_consumer(&new), Some(1));
}

#[test]
fn a_journal_of_what_no_longer_holds_is_written_anew() {
    let fd = memory();
    let mut first = records(&fd);
    first.note(CoreId(0), &transport(1, &first.memory()));
    for id in 2..20_000 {
        first.note(CoreId(0), &transport(id, &first.memory()));
        first.note(CoreId(0), &Command::CloseTransport(TransportId(id)));
    }
    first.note(CoreId(1), &transport(30_000, &first.memory()));
    std::mem::forget(first);
    let region = Region::map(fd.as_fd(), CALL_MEMORY_BYTES).unwrap();
    assert!(region.words()[header_word::EPOCH].load(Relaxed) > 0);
    let mut second = records(&fd);
    let kept = [0, 1].map(|core| second.counts(CoreId(core)).transports);
    assert_eq!(kept, [1, 1]);
    second.forget(CoreId(1));
    std::mem::forget(second);
    assert_eq!(records(&fd).counts(CoreId(1)).transports, 0);
}

#[test]
fn what_another_build_has_left_is_refused_and_wiped() {
    let fd = memory();
    let mut first = records(&fd);
    first.note(CoreId(0), &transport(1, &first.memory()));
    std::mem::forget(first);
    let region = Region::map(fd.as_fd(), CALL_MEMORY_BYTES).unwrap();
    region.words()[header_word::LAYOUT].fetch_xor(1, Relaxed);
    let found = CallMemory::open(fd.as_fd(), 2 * NOW).unwrap();
    assert_eq!((found.refused, found.origin), (Some("another build has left them"), 2 * NOW));
    assert_eq!(Records::kept(found.memory, found.told).counts(CoreId(0)).transports, 0);
    let words = &region.words()[HEADER_WORDS..];
    let secrets = words[JOURNAL_AT..JOURNAL_AT + 4096].iter();
    assert!(secrets.into_iter().all(|word| word.load(Relaxed) == 0));
    assert_eq!(CallMemory::open(fd.as_fd(), 3 * NOW).unwrap().origin, 2 * NOW, "one clock");
}

#[test]
fn what_has_no_checkpoint_in_the_memory_is_not_taken_up() {
    let fd = memory();
    let mut first = records(&fd);
    let heap = CallMemory::default();
    first.note(CoreId(0), &transport(1, &heap));
    first.note(CoreId(0), &producer(2, 1, &first.memory()));
    first.note(CoreId(0), &transport(3, &first.memory()));
    assert_eq!(first.counts(CoreId(0)).transports, 2);
    std::mem::forget(first);
    let counts = records(&fd).counts(CoreId(0));
    assert_eq!((counts.transports, counts.producers), (1, 0));
}
