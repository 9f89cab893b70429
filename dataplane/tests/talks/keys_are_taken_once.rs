//! The keys of a transport seal each index once: to install them again would begin the SRTCP
//! indexes anew, and with GCM two packets under one nonce give the authentication key away.

use std::collections::HashSet;
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::{KeyingMaterial, Profile};

use crate::world::*;

#[test]
fn keys_are_taken_once() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    world.produce(&speaker, MediaKind::Video, &[1000]);
    let mut indexes = HashSet::new();
    for round in 0..3 {
        let key = false;
        let sequence = round;
        let video = Video { ssrc: 1000, rid: None, sequence, timestamp: 0, picture_id: 1, key };
        speaker.send_video(&world, video);
        world.run(Duration::from_millis(2500));
        for packet in speaker.raw(&mut world) {
            // RFC 7714 section 9.2: the index follows the tag.
            let index = *packet.last_chunk::<4>().unwrap();
            assert!(indexes.insert(index), "index {index:?} was used before");
        }
        let number = speaker.transport.0 as u8;
        let profile = Profile::AeadAes128Gcm;
        let bytes = |byte: u8, len| zeroize::Zeroizing::new(vec![byte ^ number; len]);
        let keys = KeyingMaterial {
            profile,
            remote_key: bytes(0x11, profile.key_len()),
            remote_salt: bytes(0x11, profile.salt_len()),
            local_key: bytes(0x77, profile.key_len()),
            local_salt: bytes(0x77, profile.salt_len()),
        };
        let transport = speaker.transport;
        world.command(CoreId(0), Command::InstallSrtp { transport, keys: Box::new(keys) });
    }
    assert!(indexes.len() >= 3, "{}", indexes.len());
}
