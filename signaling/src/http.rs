//! HTTP: the WebSocket upgrade, the meeting page, and `/healthz`.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use opencall_control::api::Grants;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tower_http::services::{ServeDir, ServeFile};

use crate::addresses::{Addresses, Place};
use crate::auth::Auth;
use crate::auth::claims::Admission;
use crate::auth::presented::Presented;
use crate::connection::Dialect;
use crate::envelope::fields::MAX_NAME_BYTES;
use crate::envelope::protoo;
use crate::gauges::Gauges;

/// TCP connections at most, WebSockets among them: a bound for the memory of those who connect and
/// say nothing, above what one host can serve.
const MAX_TCP_CONNECTIONS: usize = 20_000;

/// How long request headers may take, and how long a kept-alive connection may stay idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Headers are parsed in a buffer of this size; browsers send under 2 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Buffer for what a WebSocket receives, kept as long as the connection: a request without SDP fits,
/// larger ones make it grow. The library's own 128 KiB would be most of what a participant costs,
/// and it is cleared before each read.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Vite names the files in here after their content.
const HASHED_PREFIX: &str = "/assets/";

/// What the page may load and do: itself, its WebSocket, camera, microphone and screen.
const CONTENT_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
    img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
    style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>opencall-sfu</title>\
    <h1>opencall-sfu is running</h1>\
    <p>The meeting page is not built. Run <code>npm ci &amp;&amp; npm run build</code> in \
    <code>client/</code>, or point <code>--page-dir</code> to a built page, and reload.</p>\
    <p>WebSocket clients connect to <code>/ws</code>; <a href=/healthz>/healthz</a> says how the \
    server is.</p>";

/// A WebSocket that has been accepted.
pub struct NewConnection {
    /// The socket.
    pub socket: WebSocket,
    /// Who, in which envelope.
    pub dialect: Dialect,
    /// From where.
    pub remote: IpAddr,
    /// Its place among its address's connections.
    pub place: Place,
}

/// What handlers need to know.
pub struct Front {
    /// Where accepted WebSockets go.
    pub connections: mpsc::Sender<NewConnection>,
    /// Connections by address.
    pub addresses: Arc<Addresses>,
    /// Largest WebSocket message, bytes.
    pub max_message_size: usize,
    /// Who may enter.
    pub auth: Arc<Auth>,
    /// Numbers for `/healthz`.
    pub gauges: Arc<Gauges>,
    /// Number of data cores.
    pub cores: usize,
    /// `uring` or `mmsg`.
    pub io: &'static str,
    /// When the server started.
    pub started: Instant,
    /// The page's folder.
    pub page_dir: PathBuf,
}

/// The address a request comes from.
#[derive(Clone, Copy)]
struct Remote(IpAddr);

/// Serves HTTP on `listener`; never ends.
pub async fn serve(listener: TcpListener, front: Arc<Front>) {
    let router = router(front);
    let slots = Arc::new(Semaphore::new(MAX_TCP_CONNECTIONS));
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept; if too many files are open: ulimit -n");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(%remote, "refused: {MAX_TCP_CONNECTIONS} connections are open");
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            serve_stream(stream, remote, router).await;
            drop(slot);
        });
    }
}

async fn serve_stream(stream: TcpStream, remote: SocketAddr, router: Router) {
    // Signaling is small messages that someone waits for.
    let _ = stream.set_nodelay(true);
    let remote = Remote(remote.ip().to_canonical());
    let service = TowerToHyperService::new(router.layer(Extension(remote)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/v1/server", get(server))
        .route("/ws", get(upgrade))
        .route("/", get(root))
        .fallback(page)
        .with_state(front)
        .layer(middleware::from_fn(headers))
}

/// What every answer carries.
async fn headers(request: Request, next: Next) -> Response {
    let hashed = request.uri().path().starts_with(HASHED_PREFIX);
    let mut response = next.run(request).await;
    let cache = match hashed && response.status().is_success() {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let fixed = [
        (CACHE_CONTROL, cache),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (PERMISSIONS_POLICY, "camera=(self), microphone=(self), display-capture=(self)"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn healthz(State(front): State<Arc<Front>>) -> Response {
    let gauges = &front.gauges;
    let degraded = gauges.is_degraded();
    let counts = gauges.counts();
    let closed: Map<String, Value> =
        gauges.closed().map(|(label, count)| (label.to_owned(), json!(count))).collect();
    let health = json!({
        "status": if degraded { "degraded" } else { "ok" },
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": front.started.elapsed().as_secs(),
        "cores": front.cores,
        "io": front.io,
        "rooms": counts.rooms,
        "peers": counts.peers,
        "transports": counts.transports,
        "producers": counts.producers,
        "consumers": counts.consumers,
        "connections": gauges.connections.load(Ordering::Relaxed),
        "closed": closed,
    });
    let status = if degraded { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(health)).into_response()
}

/// What clients may know before they connect.
async fn server(State(front): State<Arc<Front>>) -> Json<Value> {
    Json(front.auth.describe())
}

/// The ids that protoo clients have in their URL.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ids {
    room_id: Option<String>,
    peer_id: Option<String>,
}

/// `/` is the page, and the WebSocket for those who ask for one.
async fn root(
    State(front): State<Arc<Front>>,
    Extension(remote): Extension<Remote>,
    presented: Presented,
    query: Result<Query<Ids>, QueryRejection>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    match socket {
        Ok(socket) => upgrade(State(front), Extension(remote), presented, query, Ok(socket)).await,
        Err(_) => page(State(front), request).await,
    }
}

async fn upgrade(
    State(front): State<Arc<Front>>,
    Extension(Remote(remote)): Extension<Remote>,
    presented: Presented,
    query: Result<Query<Ids>, QueryRejection>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    // Before all else: browsers hide the answer to an upgrade, but show it to who asks without one.
    let admission = match front.auth.admit(&presented).await {
        Ok(admission) => admission,
        Err(error) => {
            tracing::debug!(%remote, code = error.code(), "refused a token");
            return error.into_response();
        }
    };
    let socket = match socket {
        Ok(socket) => socket,
        Err(_) => {
            return (StatusCode::UPGRADE_REQUIRED, "connect with a WebSocket client\n")
                .into_response();
        }
    };
    let asks_for_one = socket.requested_protocols().next().is_some();
    let socket = socket.protocols([protoo::SUB_PROTOCOL]);
    let dialect = match (socket.selected_protocol().is_some(), asks_for_one) {
        (true, _) => match protoo_dialect(query, admission) {
            Ok(dialect) => dialect,
            Err(refusal) => return *refusal,
        },
        (false, true) => {
            let text = "unknown WebSocket sub-protocol: ask for protoo, or for none\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
        (false, false) => Dialect::OpenCall(admission),
    };
    let Some(place) = front.addresses.place(remote) else {
        tracing::warn!(%remote, "refused: too many connections from this address");
        let text = "too many connections from your address\n";
        return (StatusCode::TOO_MANY_REQUESTS, text).into_response();
    };
    let connections = front.connections.clone();
    socket
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(front.max_message_size)
        .max_frame_size(front.max_message_size)
        .on_upgrade(move |socket| async move {
            // It fails only when the server is stopping.
            let _ = connections.send(NewConnection { socket, dialect, remote, place }).await;
        })
}

/// Who a protoo client is: as its token says, which the URL must not contradict, or as the URL says.
fn protoo_dialect(
    query: Result<Query<Ids>, QueryRejection>,
    admission: Option<Admission>,
) -> Result<Dialect, Box<Response>> {
    let bad_request = |text: String| Box::new((StatusCode::BAD_REQUEST, text).into_response());
    let Ok(Query(ids)) = query else {
        let text = "the query does not parse; expected ?roomId=…&peerId=…\n";
        return Err(bad_request(text.into()));
    };
    let Some(admission) = admission else {
        let (room, peer) = url_ids(ids).map_err(bad_request)?;
        return Ok(Dialect::Protoo { room, peer, grants: Grants::default() });
    };
    let given = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    let (room, peer) = (given(&ids.room_id), given(&ids.peer_id));
    if let Err(error) = admission.check(room.as_deref(), peer.as_deref()) {
        return Err(Box::new(error.into_response()));
    }
    let Admission { room, identity, grants } = admission;
    Ok(Dialect::Protoo { room, peer: identity, grants })
}

fn url_ids(ids: Ids) -> Result<(String, String), String> {
    let id = |name: &str, id: Option<String>| match id {
        Some(id) if id.len() > MAX_NAME_BYTES => {
            Err(format!("{name}: longer than {MAX_NAME_BYTES} bytes\n"))
        }
        Some(id) if !id.is_empty() => Ok(id),
        _ => Err(format!("{name} is missing; connect to /ws?roomId=…&peerId=…\n")),
    };
    Ok((id("roomId", ids.room_id)?, id("peerId", ids.peer_id)?))
}

/// A file of the page, or the page itself for links into it.
async fn page(State(front): State<Arc<Front>>, request: Request) -> Response {
    let path = request.uri().path();
    let is_link = !path.rsplit('/').next().unwrap_or_default().contains('.');
    match ServeDir::new(&front.page_dir).try_call(request).await {
        Ok(response) => response.map(Body::new).into_response(),
        Err(error) if error.kind() == ErrorKind::NotFound => match is_link {
            true => index(&front.page_dir).await,
            false => StatusCode::NOT_FOUND.into_response(),
        },
        Err(error) => {
            tracing::warn!(%error, "cannot read the meeting page");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn index(page_dir: &Path) -> Response {
    let request = Request::new(Body::empty());
    match ServeFile::new(page_dir.join("index.html")).try_call(request).await {
        Ok(response) if response.status().is_success() => response.map(Body::new).into_response(),
        _ => Html(NOT_BUILT).into_response(),
    }
}
