//! Whoever reads the network can send a client's checks again from an address of their own, and
//! anyone can write a source address into theirs. Neither moves anyone's media, nor makes the
//! server send much to an address at which its client is not.

use std::net::SocketAddr;
use std::time::Duration;

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::ice::agent::UNPROVEN_FACTOR;
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::Profile;

use crate::world::*;

const CORE: CoreId = CoreId(0);

/// Time between two packets of the speaker, and between two checks of a client that is connected.
const PACKET_INTERVAL_MS: u64 = 20;
const CHECK_INTERVAL_MS: u64 = 2_500;

fn stranger() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 9))
}

/// One speaks, one receives, and both check as browsers do.
struct Call {
    world: World,
    speaker: Client,
    hearer: Client,
    sequence: u16,
    received: usize,
    /// Checks of the hearer, oldest first.
    checks: Vec<Vec<u8>>,
    /// Bytes sent to the stranger.
    to_stranger: usize,
}

impl Call {
    fn new() -> Self {
        let mut world = World::new(1);
        let speaker = world.join(CORE);
        let source = world.produce(&speaker, MediaKind::Video, &[1000]);
        let hearer = world.join(CORE);
        world.consume(&hearer, &source);
        let mut call = Call {
            world,
            speaker,
            hearer,
            sequence: 0,
            received: 0,
            checks: Vec::new(),
            to_stranger: 0,
        };
        call.run(100, |_, _| {});
        call.received = 0;
        call
    }

    /// Lets so many milliseconds pass; `also` is asked each millisecond what else comes.
    fn run(&mut self, ms: u64, mut also: impl FnMut(&mut Call, u64)) {
        for at in 0..ms {
            if at % PACKET_INTERVAL_MS == 0 {
                self.speak();
            }
            if at % CHECK_INTERVAL_MS == 0 {
                self.speaker.check(&self.world, true);
                self.check();
            }
            also(self, at);
            self.world.turn();
            self.received += self.hearer_media();
            self.to_stranger += taken(&mut self.world, stranger());
        }
    }

    fn speak(&mut self) {
        let sequence = self.sequence;
        let timestamp = u32::from(sequence) * 1800;
        let (picture_id, key) = (sequence, sequence == 0);
        let video = Video { ssrc: 1000, rid: None, sequence, timestamp, picture_id, key };
        self.speaker.send_video(&self.world, video);
        self.sequence += 1;
    }

    fn check(&mut self) {
        let check = self.hearer.check_bytes(true);
        self.world.push(self.hearer.address, CORE, &check);
        self.checks.push(check);
    }

    fn hearer_media(&mut self) -> usize {
        let raw = self.hearer.raw(&mut self.world);
        raw.iter().filter(|bytes| is_media(bytes)).count()
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.world.core(CORE).stats().drops.of(reason)
    }

    /// Says with what share of the packets of so many milliseconds was lost.
    fn loss(&self, ms: u64) -> f64 {
        let sent = (ms / PACKET_INTERVAL_MS) as usize;
        sent.saturating_sub(self.received) as f64 / sent as f64
    }
}

fn is_media(bytes: &[u8]) -> bool {
    bytes[0] & 0xc0 == 0x80 && bytes[1] & 0x7f == ROUTER_PT
}

/// Takes what was sent to an address; how many bytes that is.
fn taken(world: &mut World, address: SocketAddr) -> usize {
    let taken = world.wire.extract_if(.., |(to, _)| *to == address);
    taken.map(|(_, bytes)| bytes.len()).sum()
}

#[test]
fn a_replay_each_second_costs_the_victim_nothing() {
    let mut call = Call::new();
    let ms = 60_000;
    call.run(ms, |call, at| {
        // The moment after the client's own check, and again each second.
        if at % 1000 == 1 {
            let check = call.checks.last().unwrap().clone();
            call.world.push(stranger(), CORE, &check);
        }
    });
    assert!(call.loss(ms) < 0.01, "{} packets came", call.received);
    assert_eq!(call.drops(DropReason::StunReplayed), 60);
    assert_eq!(call.to_stranger, 0, "not even an answer");
}

#[test]
fn checks_of_long_ago_are_worth_nothing_either() {
    let mut call = Call::new();
    // The agent has forgotten the first ones.
    call.run(100 * CHECK_INTERVAL_MS, |_, _| {});
    call.received = 0;
    let (ms, mut replayed) = (60_000, 0);
    let old = call.checks.clone();
    call.run(ms, |call, at| {
        if at % 1000 == 500 {
            let check = &old[at as usize / 1000 % 30];
            call.world.push(stranger(), CORE, check);
            replayed += check.len();
        }
    });
    assert!(call.loss(ms) < 0.01, "{} packets came", call.received);
    assert!(call.to_stranger > 0, "some were answered");
    assert!(call.to_stranger <= UNPROVEN_FACTOR as usize * replayed);
}

#[test]
fn a_replay_that_overtakes_the_check_costs_the_victim_nothing() {
    let mut call = Call::new();
    let ms = 60_000;
    call.run(ms, |call, at| {
        if at % CHECK_INTERVAL_MS == 1000 {
            let check = call.hearer.check_bytes(true);
            call.world.push(stranger(), CORE, &check);
            call.world.turn();
            call.world.push(call.hearer.address, CORE, &check);
            call.world.turn();
            let answers = call.hearer.raw(&mut call.world);
            assert!(answers.iter().any(|bytes| bytes[0] == 1), "the client's own is answered");
        }
    });
    assert!(call.loss(ms) < 0.01, "{} packets came", call.received);
}

#[test]
fn a_client_that_forges_an_address_has_three_times_its_bytes_sent_there() {
    let mut call = Call::new();
    let mut forged = 0;
    call.run(60_000, |call, at| {
        // One check, then silence.
        if at == 1_000 {
            let check = call.hearer.check_bytes(true);
            call.world.push(stranger(), CORE, &check);
            forged += check.len();
        }
    });
    assert!(call.to_stranger > 64, "the answer, and something to prove itself by");
    assert!(call.to_stranger <= UNPROVEN_FACTOR as usize * forged, "{} bytes", call.to_stranger);
    assert!(call.loss(60_000) < 0.01, "media goes on where it went");

    // With one a second it is three times of those.
    call.to_stranger = 0;
    forged = 0;
    call.run(60_000, |call, at| {
        if at % 1000 == 1 {
            let check = call.hearer.check_bytes(true);
            call.world.push(stranger(), CORE, &check);
            forged += check.len();
        }
    });
    assert!(call.to_stranger <= UNPROVEN_FACTOR as usize * forged, "{} bytes", call.to_stranger);
}

#[test]
fn flights_of_a_handshake_count_as_well() {
    let mut world = World::new(1);
    let (mut client, _) = world.invite(CORE, Profile::AeadAes128Gcm, 10_000_000);
    client.address = stranger();
    let check = client.check_bytes(true);
    let hello = client_hello(200);
    world.push(client.address, CORE, &check);
    world.push(client.address, CORE, &hello);
    let mut sent = 0;
    // Control answers, and answers again whenever nothing has come for a while.
    for _ in 0..7 {
        world.turn();
        for len in [1200, 300] {
            world.send_dtls(&client, &vec![22; len]);
        }
        sent += taken(&mut world, stranger());
    }
    let received = check.len() + hello.len();
    assert!(sent <= UNPROVEN_FACTOR as usize * received, "{sent} bytes for {received}");
    assert!(world.core(CORE).stats().drops.of(DropReason::AddressUnproven) > 0);
}

#[test]
fn a_short_hello_gets_a_long_flight_with_the_next_check() {
    let mut world = World::new(1);
    let (client, keys) = world.invite(CORE, Profile::AeadAes128Gcm, 10_000_000);
    client.check(&world, true);
    world.push(client.address, CORE, &client_hello(120));
    world.turn();
    assert!(world.events.iter().any(|event| matches!(event, Event::Dtls { .. })));
    let flight = [vec![22; 1200], vec![23; 100]];
    for datagram in &flight {
        world.send_dtls(&client, datagram);
    }
    let dtls = |sent: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
        sent.into_iter().filter(|bytes| bytes[0] >= 20).collect()
    };
    assert!(dtls(client.raw(&mut world)).is_empty());
    let mut got = Vec::new();
    let mut checks = 0;
    while got.is_empty() {
        client.check(&world, true);
        world.turn();
        got = dtls(client.raw(&mut world));
        checks += 1;
    }
    assert_eq!(got, flight, "whole, and in order");
    assert!(checks <= 4, "{checks} checks");

    // What waits when the client has answered goes at once.
    for _ in 0..4 {
        world.send_dtls(&client, &[24; 1200]);
    }
    client.answer_handshake(&world);
    world.turn();
    let transport = client.transport;
    world.command(CORE, Command::InstallSrtp { transport, keys });
    world.turn();
    assert_eq!(dtls(client.raw(&mut world)).len(), 4);
}

#[test]
fn an_address_forged_before_its_client_comes_is_free_for_it_soon() {
    let mut world = World::new(1);
    let mut liar = world.join(CORE);
    let (client, _) = world.invite(CORE, Profile::AeadAes128Gcm, 10_000_000);
    liar.address = client.address;
    for _ in 0..10 {
        liar.check(&world, true);
        world.run(Duration::from_secs(1));
    }
    client.raw(&mut world);
    liar.check(&world, true);
    client.check(&world, true);
    world.turn();
    assert_eq!(client.raw(&mut world).len(), 2, "both are answered");
    // While the client shakes hands the address is kept for it.
    for _ in 0..4 {
        liar.check(&world, true);
        client.answer_handshake(&world);
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.core(CORE).stats().drops.of(DropReason::AddressTaken), 4);
    let answers = world.events.iter().filter(
        |event| matches!(event, Event::Dtls { transport, .. } if *transport == client.transport),
    );
    assert_eq!(answers.count(), 4);
}
