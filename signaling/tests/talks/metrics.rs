//! `/metrics`: who may read it, that Prometheus can, and that its series do not grow with clients.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::json;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::{PATIENCE, Server};
use crate::web::{get, get_on, get_with};

const SECRET: &str = "an admin secret for tests of 32 bytes";
const KEY: &str = "--admin-key=ops=an admin secret for tests of 32 bytes";

/// A server with a listener for metrics, and where that is.
fn start(flags: &[&str]) -> (Server, SocketAddr) {
    let flags = [&["--metrics-listen", "127.0.0.1:0"], flags].concat();
    let server = Server::start_with(&flags);
    let said = server.start_log.iter().find_map(|line| line.split_once("metrics: http://"));
    let address = said.expect("where metrics are").1.split('/').next().unwrap().parse().unwrap();
    (server, address)
}

async fn scrape(address: SocketAddr) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (status, head, body) = get_on(stream, "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    body
}

/// Series and their values.
fn series(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name, value.parse().unwrap())
        })
        .collect()
}

/// A scrape once it is as expected; counts are refreshed a few times a second.
async fn scrape_when(
    address: SocketAddr,
    expected: impl Fn(&BTreeMap<&str, f64>) -> bool,
) -> String {
    let search = async {
        loop {
            let text = scrape(address).await;
            if expected(&series(&text)) {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("metrics as expected")
}

#[tokio::test]
async fn it_wants_an_admin_key_or_a_listener_of_its_own() {
    let (server, address) = start(&[KEY]);
    assert_eq!(get(&server, "/metrics").await.0, 401);
    let header = format!("Authorization: Bearer {SECRET}\r\n");
    let (status, _, body) = get_with(&server, "/metrics", &header).await;
    assert!(status == 200 && body.contains("opencall_rooms 0"), "{body}");
    assert!(scrape(address).await.contains("opencall_rooms 0"));
    // Nothing else is served there.
    for path in ["/", "/ws", "/healthz", "/v1/rooms"] {
        let stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(get_on(stream, path, "").await.0, 404, "{path}");
    }
    let server = Server::start();
    assert_eq!(get(&server, "/metrics").await.0, 404);
}

#[tokio::test]
async fn rooms_and_participants_add_no_series() {
    let (server, address) = start(&[KEY]);
    let cores = "opencall_core_up{core=\"0\"}";
    let before = scrape_when(address, |series| series.contains_key(cores)).await;
    let mut clients = Vec::new();
    for room in 0..5 {
        for peer in 0..3 {
            let mut client =
                Client::protoo(&server, &format!("room{room}"), &format!("peer{peer}")).await;
            client.ask("join", json!({})).await.unwrap();
            clients.push(client);
        }
    }
    let after = scrape_when(address, |series| series["opencall_participants"] == 15.0).await;
    let names = |text: &str| series(text).into_keys().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(names(&before), names(&after));
    let series = series(&after);
    assert_eq!((series["opencall_rooms"], series["opencall_joins_total"]), (5.0, 15.0));
    assert_eq!(series["opencall_connections"], 15.0);
    assert!(!after.contains("room0") && !after.contains("peer0"));
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let token_key = "--auth-key=key=a secret for tests of 32 bytes or";
    let (server, address) = start(&[KEY, token_key]);
    for _ in 0..3 {
        assert_eq!(get(&server, "/ws?access_token=nonsense").await.0, 401);
    }
    let wrong = "Authorization: Bearer wrong\r\n";
    assert_eq!(get_with(&server, "/v1/rooms", wrong).await.0, 401);
    let text = scrape(address).await;
    let series = series(&text);
    assert_eq!(series["opencall_tokens_refused_total{reason=\"malformed_token\"}"], 3.0);
    assert_eq!(series["opencall_refused_total{reason=\"adminKey\"}"], 1.0);
}

#[tokio::test]
async fn promtool_finds_nothing_to_criticise() {
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: no {promtool}; scripts/test fetches it");
        return;
    };
    let (_server, address) = start(&[]);
    let cores = "opencall_core_up{core=\"0\"}";
    let text = scrape_when(address, |series| series.contains_key(cores)).await;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}

/// The dashboard's queries name series that exist.
#[tokio::test]
async fn the_grafana_dashboard_asks_for_what_there_is() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let (_server, address) = start(&[]);
    let up = "opencall_core_up{core=\"0\"}";
    let text = scrape_when(address, |series| series.contains_key(up)).await;
    let named: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|w| w.starts_with("opencall_") || w.starts_with("process_")) {
                assert!(named.contains(word), "{word} in {query}");
                asked += 1;
            }
        }
    }
    assert!(asked > 10, "{asked}");
}
