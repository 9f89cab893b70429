//! Recordings by the admin API: clients are told, and the folder is there afterwards.

use serde_json::{Value, json};

use crate::administration::{KEY, admin, join, produce};
use crate::client::Client;
use crate::server::{PATIENCE, Server};
use crate::web::Folder;

const PATH: &str = "/v1/rooms/room/recording";

/// The report once it says so.
async fn state(server: &Server, wanted: &str) -> Value {
    let asked = async {
        loop {
            let (status, report) = admin(server, "GET", PATH, "").await;
            assert_eq!(status, 200, "{report}");
            if report["state"] == wanted {
                return report;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect(wanted)
}

#[tokio::test]
async fn a_recording_is_announced_begun_and_ended() {
    let folder = Folder::new("recordings");
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let server = Server::start_with(&[
        KEY,
        "--recording-min-free=0",
        &format!("--recording-dir={}", folder.path()),
    ]);
    assert_eq!(admin(&server, "POST", PATH, "").await.0, 404, "there is no such room");
    let mut ann = join(&server, "room", "ann").await;
    produce(&mut ann, "audio").await;
    assert_eq!(admin(&server, "GET", PATH, "").await.1["active"], false);
    assert_eq!(admin(&server, "POST", PATH, "{\"notice\": 1}").await.0, 400);
    let (status, report) = admin(&server, "POST", PATH, "{\"noticeSeconds\": 1}").await;
    assert_eq!((status, &report["state"]), (200, &json!("announced")), "{report}");
    let told = ann.notified("recordingChanged").await;
    assert_eq!(told, json!({"recording": true, "startsInMs": 1_000}));
    assert_eq!(files(), 0, "nothing is written before the notice is over");
    let report = state(&server, "recording").await;
    assert_eq!((&report["active"], &report["tracks"].is_u64()), (&json!(true), &true));

    let mut ben = Client::protoo(&server, "room", "ben").await;
    let capabilities = ben.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
    let data = json!({"displayName": "ben", "rtpCapabilities": capabilities});
    assert_eq!(ben.ask("join", data).await.unwrap()["recording"], true);

    let (status, report) = admin(&server, "DELETE", PATH, "").await;
    assert_eq!((status, &report["active"]), (200, &json!(false)));
    let told = ben.notified("recordingChanged").await;
    assert_eq!(told, json!({"recording": false, "reason": "stopped"}));
    let report = state(&server, "ended").await;
    assert_eq!(report["ending"], "stopped");
    let manifest = folder.0.join(report["folder"].as_str().unwrap()).join("recording.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!((&manifest["room"], &manifest["state"]), (&json!("room"), &json!("stopped")));
    assert_eq!(manifest["participants"][0]["tracks"][0]["source"], "microphone");
    server.logged("action=\"start recording\" room=\"room\"");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_recordings() {
    let folder = Folder::new("recordings-stop");
    let mut server = Server::start_with(&[
        KEY,
        "--recording-min-free=0",
        &format!("--recording-dir={}", folder.path()),
    ]);
    let _ann = join(&server, "room", "ann").await;
    admin(&server, "POST", PATH, "{\"noticeSeconds\": 0}").await;
    let report = state(&server, "recording").await;
    let place = folder.0.join(report["folder"].as_str().unwrap_or_default());
    server.signal("TERM");
    assert!(server.wait().success());
    let mut found = std::fs::read_dir(&folder.0).unwrap();
    let place = if place == folder.0 { found.next().unwrap().unwrap().path() } else { place };
    let text = std::fs::read(place.join("recording.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(manifest["state"], "stopped");
}
