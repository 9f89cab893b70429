//! Many clients at once: people who take what they are offered, and a witness in a room of its own
//! who measures how long its requests take.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

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
pub async fn raw(server: &Server, room: &str, peer: &str) -> Socket {
    raw_at(server.address, &format!("/ws?roomId={room}&peerId={peer}")).await.unwrap()
}

/// The same, if the server takes it.
async fn raw_at(address: SocketAddr, path: &str) -> Option<Socket> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    let protoo = HeaderValue::from_static("protoo");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protoo);
    Some(connect_async(request).await.ok()?.0)
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What floods, and how many of its frames or requests the server has taken.
pub type Flood = (JoinHandle<()>, Arc<AtomicUsize>);

/// Sends `frame` as often as the server takes it, on a connection of its own, and reads what comes.
pub fn flood(
    server: &Server,
    room: &str,
    peer: &str,
    frame: impl Fn(usize) -> String + Send + Sync + 'static,
) -> Flood {
    let sent = Arc::new(AtomicUsize::new(0));
    let (address, path) = (server.address, format!("/ws?roomId={room}&peerId={peer}"));
    let counter = Arc::clone(&sent);
    let task = tokio::spawn(async move {
        // Whoever is closed comes again.
        loop {
            let Some(socket) = raw_at(address, &path).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
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
        }
    });
    (task, sent)
}

/// A message that never ends, of empty frames (RFC 6455 section 5.4).
pub fn continuation_flood(server: &Server, room: &str, peer: &str) -> Flood {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let (address, path) = (server.address, format!("/ws?roomId={room}&peerId={peer}"));
    let task = tokio::spawn(async move {
        loop {
            let Some(mut socket) = raw_at(address, &path).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let mut code = OpCode::Data(Data::Text);
            loop {
                let frame = Message::Frame(Frame::message(Vec::new(), code, false));
                code = OpCode::Data(Data::Continue);
                if socket.feed(frame).await.is_err() {
                    break;
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (task, sent)
}

/// Asks for a path as often as the server lets it, over connection after connection.
pub fn http_flood(server: &Server, path: &str) -> Flood {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let address = server.address;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(16);
    let task = tokio::spawn(async move {
        loop {
            let Ok(mut socket) = TcpStream::connect(address).await else { continue };
            let (mut reads, mut writes) = socket.split();
            let read = async {
                let mut buffer = [0; 4096];
                while reads.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            };
            let write = async {
                while writes.write_all(request.as_bytes()).await.is_ok() {
                    counter.fetch_add(16, Ordering::Relaxed);
                }
            };
            tokio::select! { () = read => {}, () = write => {} }
        }
    });
    (task, sent)
}

/// Who floods has machines of its own. Here it shares the server's, so its threads come after it:
/// those of this process but for the witness's.
pub fn strangers_come_second() {
    let mut renice = Command::new("renice");
    renice.args(["-n", "10", "-p"]);
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap().path();
        let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        if name.trim_end() != WITNESS {
            renice.arg(thread.file_name().unwrap());
        }
    }
    // A thread may end meanwhile, and without the program they only compete.
    let _ = renice.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

const WITNESS: &str = "witness";

/// Someone in a room of its own, who asks 50 times a second; on a thread of its own, so that it
/// does not wait for the clients that flood.
pub struct Witness(std::sync::mpsc::Sender<(Duration, tokio::sync::oneshot::Sender<Latencies>)>);

impl Witness {
    pub fn new(server: &Server) -> Self {
        let address = server.address;
        let (sender, asked) = std::sync::mpsc::channel();
        let witness = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for (duration, answer) in asked {
                let answer: tokio::sync::oneshot::Sender<_> = answer;
                // Nobody waits where a test has failed.
                let _ = answer.send(runtime.block_on(measure(address, duration)));
            }
        };
        std::thread::Builder::new().name(WITNESS.to_owned()).spawn(witness).unwrap();
        Witness(sender)
    }

    /// How long requests take, for a while, in order of length.
    pub async fn latencies(&self, duration: Duration) -> Latencies {
        let (sender, measured) = tokio::sync::oneshot::channel();
        self.0.send((duration, sender)).unwrap();
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
