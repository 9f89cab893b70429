//! Handshakes over a network that loses, repeats, delays and cuts, with a stranger on it who writes
//! from both addresses. Whatever the seed, both sides come to the same keys.

use super::*;

/// How long it goes on like that. An endless storm would sooner or later hit every repeat of a
/// flight, the waits between which double.
const STORM: Duration = Duration::from_secs(4);

/// How much of everything happens, in a hundred datagrams.
#[derive(Clone, Copy)]
struct Roughness {
    lost: u32,
    repeated: u32,
    cut: u32,
    forged: u32,
}

/// A datagram on its way.
struct Flying {
    at: Instant,
    to_server: bool,
    bytes: Vec<u8>,
}

struct Rough {
    call: Call,
    flying: Vec<Flying>,
    roughness: Roughness,
    calm_at: Instant,
    /// Datagrams that a stranger once recorded: of another handshake of the same sort.
    recorded: Vec<Vec<u8>>,
}

impl Rough {
    fn new(version: DtlsVersion, roughness: Roughness, seed: u64) -> Self {
        let [server, client, stranger] = [(); 3].map(|()| context(version, &ALL));
        let mut other = Call::new(&server, &stranger);
        other.server.set_peer_fingerprints(fingerprints_of(&stranger));
        let mut recorded = Vec::new();
        for _ in 0..4 {
            for datagram in Call::drain(&mut other.client, &mut other.at_client) {
                other.server.handle_datagram(&datagram, other.now);
                recorded.push(datagram);
            }
            for datagram in Call::drain(&mut other.server, &mut other.at_server) {
                other.client.handle_datagram(&datagram, other.now);
                recorded.push(datagram);
            }
        }
        let mut call = Call::new(&server, &client);
        call.rng = StdRng::seed_from_u64(seed);
        call.server.set_peer_fingerprints(fingerprints_of(&client));
        let calm_at = call.now + STORM;
        Rough { call, flying: Vec::new(), roughness, calm_at, recorded }
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.call.now < self.calm_at && self.call.rng.random_range(0..100) < percent
    }

    /// Puts a datagram on its way, or what becomes of it.
    fn send(&mut self, bytes: Vec<u8>, to_server: bool) {
        if self.happens(self.roughness.forged) {
            self.forge(to_server);
        }
        if self.happens(self.roughness.lost) {
            return;
        }
        let is_cut = self.happens(self.roughness.cut);
        let pieces = match is_cut {
            true => wire::cut(&bytes, self.call.rng.random_range(40..400)),
            false => vec![bytes],
        };
        for piece in pieces {
            // What is lost of a message that was cut comes again cut elsewhere.
            if is_cut && self.happens(self.roughness.lost) {
                continue;
            }
            let times = if self.happens(self.roughness.repeated) { 2 } else { 1 };
            for _ in 0..times {
                self.fly(piece.clone(), to_server);
            }
        }
    }

    fn fly(&mut self, bytes: Vec<u8>, to_server: bool) {
        let delay = Duration::from_millis(self.call.rng.random_range(5..40));
        self.flying.push(Flying { at: self.call.now + delay, to_server, bytes });
    }

    /// Something a stranger writes without having seen what is on its way.
    fn forge(&mut self, to_server: bool) {
        let rng = &mut self.call.rng;
        let kinds = [0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20];
        let mut body = vec![0; rng.random_range(0..300)];
        rng.fill(&mut body[..]);
        let bytes = match rng.random_range(0..7) {
            0 => wire::alert(rng.random_range(1..3), rng.random()),
            1 => {
                let kind = kinds[rng.random_range(0..kinds.len())];
                wire::forged(kind, rng.random_range(0..7), &body)
            }
            2 => {
                // Of a message as long as the true one may be.
                let mut record = wire::forged(11, rng.random_range(0..3), &body);
                let length = rng.random_range(0..600_u32).to_be_bytes();
                record[14..17].copy_from_slice(&length[1..]);
                record
            }
            3 => {
                let first = [20, 21, 22, 23, 26, 0x2c, 0x2e, 0x2f, 0x3f];
                let mut record = vec![first[rng.random_range(0..first.len())], 0xfe, 0xfd, 0];
                record.push(rng.random_range(0..3));
                record.extend([0, 0, 0, 0, 0, 9]);
                record.extend((body.len() as u16).to_be_bytes());
                record.extend(&body);
                record
            }
            4 => body,
            5 => vec![20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 1],
            _ => self.recorded[rng.random_range(0..self.recorded.len())].clone(),
        };
        self.fly(bytes, to_server);
    }

    /// Lets it run; whether both sides came to an end.
    fn run(&mut self, duration: Duration) -> bool {
        let end = self.call.now + duration;
        while self.call.now < end {
            for bytes in Call::drain(&mut self.call.client, &mut self.call.at_client) {
                self.send(bytes, true);
            }
            for bytes in Call::drain(&mut self.call.server, &mut self.call.at_server) {
                self.send(bytes, false);
            }
            let call = &mut self.call;
            if call.at_client.keys.is_some() && call.at_server.keys.is_some() {
                return true;
            }
            call.now += Duration::from_millis(5);
            self.flying.sort_by_key(|flying| flying.at);
            let due = self.flying.partition_point(|flying| flying.at <= call.now);
            for flying in self.flying.drain(..due) {
                match flying.to_server {
                    true => call.server.handle_datagram(&flying.bytes, call.now),
                    false => call.client.handle_datagram(&flying.bytes, call.now),
                }
            }
            for endpoint in [&mut call.server, &mut call.client] {
                if endpoint.next_timeout().is_some_and(|at| at <= call.now) {
                    endpoint.handle_timeout(call.now);
                }
            }
        }
        false
    }
}

fn assert_all_connect(roughness: Roughness, seeds: std::ops::Range<u64>) {
    for version in [DtlsVersion::Dtls12, DtlsVersion::Dtls13] {
        for seed in seeds.clone() {
            let mut rough = Rough::new(version, roughness, seed);
            let ended = rough.run(HANDSHAKE_TIMEOUT);
            let failed = (&rough.call.at_server.failed, &rough.call.at_client.failed);
            assert!(ended, "{version:?}, seed {seed}: {failed:?}");
            assert_keys_agree(&rough.call, Profile::AeadAes128Gcm);
        }
    }
}

#[test]
fn a_network_that_loses_repeats_and_reorders_delays_only() {
    assert_all_connect(Roughness { lost: 30, repeated: 30, cut: 0, forged: 0 }, 0..150);
}

#[test]
fn messages_that_are_cut_anew_each_time_arrive() {
    assert_all_connect(Roughness { lost: 20, repeated: 10, cut: 100, forged: 0 }, 0..150);
}

#[test]
fn a_stranger_on_the_path_delays_only() {
    assert_all_connect(Roughness { lost: 0, repeated: 0, cut: 0, forged: 80 }, 0..300);
}

#[test]
fn all_of_it_together_delays_only() {
    assert_all_connect(Roughness { lost: 20, repeated: 20, cut: 60, forged: 60 }, 0..300);
}
