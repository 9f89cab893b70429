//! Many clients at once: people who take what they are offered, and a witness in a room of its own
//! who measures how long its requests take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::client::Client;
use crate::server::Server;

/// Someone who has joined over protoo, accepts every consumer and reads on and on.
pub struct Person {
    reader: JoinHandle<()>,
    /// The server has closed the connection, or the network has.
    pub gone: Arc<AtomicBool>,
}

impl Drop for Person {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Joins a room with a receiving transport.
pub async fn enter(server: &Server, room: &str, peer: &str) -> Client {
    let mut client = Client::protoo(server, room, peer).await;
    let capabilities = client.ask("getRouterRtpCapabilities", json!({})).await.unwrap();
    let recv = json!({"producing": false, "consuming": true});
    client.ask("createWebRtcTransport", recv).await.unwrap();
    let join = json!({"displayName": peer, "rtpCapabilities": capabilities});
    client.ask("join", join).await.unwrap();
    client
}

/// Joins, and from then on only reads and accepts.
pub async fn person(server: &Server, room: &str, peer: &str) -> Person {
    let mut client = enter(server, room, peer).await;
    let gone = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let gone = Arc::clone(&gone);
        async move {
            client.accept_everything().await;
            gone.store(true, Ordering::Relaxed);
        }
    });
    Person { reader, gone }
}

/// A raw WebSocket in the protoo dialect, for what [`Client`] would not send.
pub async fn raw(
    server: &Server,
    room: &str,
    peer: &str,
) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>> {
    let url = format!("ws://{}/ws?roomId={room}&peerId={peer}", server.address);
    let mut request = url.into_client_request().unwrap();
    let protoo = HeaderValue::from_static("protoo");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protoo);
    connect_async(request).await.unwrap().0
}

/// Sends `frame` as often as the server takes it, on a connection of its own, and reads what comes.
pub fn flood(
    server: &Server,
    room: &str,
    peer: &str,
    frame: impl Fn(usize) -> String + Send + Sync + 'static,
) -> (JoinHandle<()>, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let url = (server.address, room.to_owned(), peer.to_owned());
    let counter = Arc::clone(&sent);
    let task = tokio::spawn(async move {
        let (address, room, peer) = url;
        let mut request =
            format!("ws://{address}/ws?roomId={room}&peerId={peer}").into_client_request().unwrap();
        let protoo = HeaderValue::from_static("protoo");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protoo);
        let Ok((socket, _)) = connect_async(request).await else { return };
        let (mut sink, mut stream) = socket.split();
        let reads = async { while let Some(Ok(_)) = stream.next().await {} };
        let writes = async {
            for number in 0.. {
                if sink.send(Message::text(frame(number))).await.is_err() {
                    return;
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::select! { () = reads => {}, () = writes => {} }
    });
    (task, sent)
}

/// Someone in a room of its own, who asks 50 times a second; on a thread of its own, so that it does
/// not wait for the clients that flood.
pub struct Witness(SocketAddr);

impl Witness {
    pub fn new(server: &Server) -> Self {
        Witness(server.address)
    }

    /// How long requests take, for a while, in order of length.
    pub async fn latencies(&self, duration: Duration) -> Latencies {
        let address = self.0;
        let measured = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(measure(address, duration))
        });
        measured.await.unwrap()
    }
}

async fn measure(address: SocketAddr, duration: Duration) -> Latencies {
    let path = "/ws?roomId=quiet&peerId=witness";
    let mut client = Client::connect_to(address, path, Some("protoo")).await.unwrap();
    let send = json!({"producing": true, "consuming": false});
    let transport = client.ask("createWebRtcTransport", send).await.unwrap()["id"].clone();
    client.ask("join", json!({"displayName": "Witness"})).await.unwrap();
    let end = Instant::now() + duration;
    let mut all = Vec::new();
    while Instant::now() < end || all.len() < 100 {
        let begin = Instant::now();
        client.ask("restartIce", json!({"transportId": transport})).await.unwrap();
        all.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.close().await;
    all.sort_unstable();
    Latencies(all)
}

/// Sorted.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}
