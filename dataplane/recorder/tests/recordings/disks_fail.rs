//! What becomes of a recording when there is no room for it.

use opencall_recorder::message::Ending;
use opencall_wire::codec::Codec;

use crate::stand::{Producer, Stand, read};

#[test]
fn a_full_disk_ends_a_recording_and_says_so() {
    let mut stand = Stand::with("full", u64::MAX, u64::MAX);
    let mut camera = Producer::add(&mut stand, 1, Codec::Vp8, 1);
    camera.send(&mut stand, 0, true, 500);
    assert_eq!(stand.await_end(), Ending::DiskFull);
    assert_eq!(stand.manifest()["state"], "disk_full");
    camera.send(&mut stand, 100, true, 500);
    stand.pass(100);
    assert!(stand.sink.is_idle());
}

#[test]
fn a_recording_ends_at_its_size_and_can_be_played() {
    let mut stand = Stand::with("size", 100_000, 0);
    let mut camera = Producer::add(&mut stand, 1, Codec::Vp8, 1);
    for ms in (0..20_000).step_by(40) {
        camera.send(&mut stand, ms, ms % 1_000 == 0, 1_000);
        stand.pass(40);
    }
    assert_eq!(stand.await_end(), Ending::TooLarge);
    let path = stand.place().join("anna-1.mkv");
    let len = path.metadata().unwrap().len();
    assert!((100_000..200_000).contains(&len), "{len}");
    let (file, tracks) = read(&path);
    assert!(file.info().duration().is_some() && tracks[&1].len() > 50);
}

#[test]
fn a_folder_that_is_gone_ends_a_recording() {
    let mut stand = Stand::new("gone");
    let mut camera = Producer::add(&mut stand, 1, Codec::Vp8, 1);
    while std::fs::read_dir(&stand.folder).unwrap().next().is_none() {
        std::thread::yield_now();
    }
    // By another name at once: one that is removed file by file may get new ones meanwhile.
    let gone = stand.folder.with_extension("gone");
    std::fs::rename(&stand.folder, &gone).unwrap();
    std::fs::remove_dir_all(&gone).unwrap();
    for ms in (0..4_000).step_by(40) {
        camera.send(&mut stand, ms, ms == 0, 1_000);
        stand.pass(40);
    }
    assert_eq!(stand.await_end(), Ending::WriteFailed);
}
