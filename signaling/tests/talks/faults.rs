//! A data core dies or stalls in the running server: it is replaced, the log and `/healthz` tell
//! it, and no connection hears of it.

use serde_json::json;

use crate::client::Client;
use crate::server::Server;
use crate::web::health;

#[tokio::test]
async fn a_core_that_dies_is_back_and_no_client_hears_of_it() {
    let server = Server::start_with(&["--debug-faults"]);
    let mut client = Client::protoo(&server, "r", "p").await;
    client.ask("join", json!({"displayName": "P"})).await.unwrap();
    let transport = json!({"producing": true, "consuming": false});
    client.ask("createWebRtcTransport", transport).await.unwrap();
    for (signal, words, died, stalled) in
        [("USR1", "worker died", 1, 0), ("USR2", "worker stalled", 1, 1)]
    {
        server.signal(signal);
        server.logged(words);
        let recovered = server.logged("worker recovered");
        assert!(recovered.contains("transports=1"), "{recovered}");
        let health = health(&server).await;
        assert_eq!(health["status"], "ok");
        let workers = &health["workers"];
        let counts = [&workers["died"], &workers["stalled"], &workers["recovered"]];
        assert_eq!(counts, [&json!(died), &json!(stalled), &json!(died + stalled)]);
        assert!(workers["lastRecoveryMs"].as_f64().is_some_and(|ms| ms > 0.0));
    }
    // The same session, and cores that obey.
    let consuming = json!({"producing": false, "consuming": true});
    client.ask("createWebRtcTransport", consuming).await.unwrap();
}

#[tokio::test]
async fn without_the_flag_the_signal_ends_the_server() {
    let mut server = Server::start();
    server.signal("USR1");
    assert!(server.wait().code().is_none(), "the system's default: ended by the signal");
}
