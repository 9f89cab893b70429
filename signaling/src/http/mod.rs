//! HTTP: the WebSocket upgrade, the meeting page, and `/healthz`, each within limits that strangers
//! cannot exceed.
//!
//! * [`listener`] — from the listening socket to HTTP; [`tls`] and [`proxy`] on the way.
//! * [`open`], [`stream`] — the open connections: their pace, and who makes way when there are too
//!   many.
//! * [`admin`] — the admin API.
//! * [`broadcasters`] — pipelines of plain RTP.
//! * [`bucket`] — rates; [`crate::addresses`] counts by address.
//! * `metrics` — what Prometheus scrapes.
//! * [`wish`] — those who publish by WHIP or watch by WHEP.
//! * [`origin`] — which pages may connect; [`files`] — the meeting page; [`refusals`] — who was
//!   refused.
//!
//! Nothing in here knows of meetings: an accepted WebSocket goes to [`Front::connections`].
#![forbid(unsafe_code)]

pub mod admin;
pub mod broadcasters;
pub mod bucket;
pub mod files;
mod health;
pub mod listener;
mod metrics;
pub mod open;
pub mod origin;
pub mod proxy;
pub mod refusals;
pub mod stream;
pub mod tls;
pub mod wish;

use std::fmt::Display;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::body::{Frame, SizeHint};
use opencall_control::api::Grants;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use self::admin::Admin;
use self::broadcasters::Broadcasters;
use self::bucket::Rate;
use self::files::Files;
use self::listener::Ways;
use self::open::{Connection, OpenConnections};
use self::refusals::{Refusal, Refusals};
use self::wish::Wish;
use crate::addresses::{Address, AddressLimits, Addresses, Place};
use crate::auth::Auth;
use crate::auth::claims::Admission;
use crate::auth::presented::Presented;
use crate::config::{Limits, WebConfig};
use crate::connection::Dialect;
use crate::envelope::fields::MAX_NAME_BYTES;
use crate::envelope::protoo;
use crate::gauges::Gauges;
use crate::ice_tcp::Lodge;

/// Buffer for what a WebSocket receives, kept as long as the connection: a request without SDP
/// fits, larger ones make it grow. The library's own 128 KiB would be most of what a participant
/// costs, and it is cleared before each read.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// TCP connections of one address beside its WebSockets: an office that has used up its WebSockets
/// still gets the page, and an answer that says why. All together it gets half of what there is.
const PLAIN_CONNECTIONS: u32 = 64;

/// What one address may send in the long run, bytes per second, and at once: eight people behind it
/// may enter a room of 500 at the same time. At 15 ns per byte, 12 % of a CPU.
const ADDRESS_BYTES: Rate = Rate { per_second: 8_388_608.0, burst: 134_217_728.0 };

/// What a request is charged, in bytes: it takes 25 µs.
const REQUEST_COST: f64 = 2048.0;

/// What a refused request is charged, in bytes: the connection reads the next one so much later,
/// and a flood gets few answers.
const REFUSED_COST: f64 = 262_144.0;

/// Vite names the files in here after their content.
const HASHED_PREFIX: &str = "/assets/";

/// What the page may load and do: itself, its WebSocket, camera, microphone and screen.
const CONTENT_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
    img-src 'self' data: blob:; media-src 'self' blob: mediastream:; \
    style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'";

/// What the page of administrators may load and do: itself, and ask this server. Nobody shows it in
/// a frame.
const ADMIN_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Where that page is, and its file.
const ADMIN_PAGE: (&str, &str) = ("/admin", "/admin.html");

/// For a year, browsers come by TLS only (RFC 6797).
const TRANSPORT_SECURITY: &str = "max-age=31536000";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>opencall-sfu</title>\
    <h1>opencall-sfu is running</h1>\
    <p>The meeting page is not built. Run <code>npm ci &amp;&amp; npm run build</code> in \
    <code>client/</code>, or point <code>--page-dir</code> to a built page.</p>\
    <p>WebSocket clients connect to <code>/ws</code>; <a href=/healthz>/healthz</a> says how the \
    server is.</p>";

/// A WebSocket that has been accepted.
pub struct NewConnection {
    /// The socket.
    pub socket: WebSocket,
    /// Who, in which envelope.
    pub dialect: Dialect,
    /// From where; behind trusted proxies, the client's own address.
    pub remote: IpAddr,
    /// Its place among the connections.
    pub place: SocketPlace,
}

/// A WebSocket's place among its address's connections; dropping it gives the place back.
pub struct SocketPlace {
    connection: Arc<Connection>,
    place: Place,
}

impl SocketPlace {
    /// The client has entered a room: from now on it does not make way for newcomers.
    pub fn settle(&self) {
        self.connection.settle(now());
    }

    /// The address, or the network, by which this client is counted; `None` where nobody is.
    pub fn account(&self) -> Option<IpAddr> {
        self.place.account()
    }
}

/// What the web side needs to know.
pub struct Front {
    /// Where accepted WebSockets go.
    pub connections: mpsc::Sender<NewConnection>,
    /// Where ICE over TCP goes that comes by the same port.
    pub ice_tcp: Option<Lodge>,
    /// Limits of connections.
    pub limits: Limits,
    /// Who may enter.
    pub auth: Arc<Auth>,
    /// The admin API.
    pub admin: Admin,
    /// Those who publish or watch without a WebSocket.
    pub wish: Wish,
    /// Pipelines that send or take plain RTP.
    pub broadcasters: Broadcasters,
    /// Numbers for `/healthz`.
    pub gauges: Arc<Gauges>,
    /// `uring` or `mmsg`.
    pub io: &'static str,
    /// When the server started.
    pub started: Instant,
    /// The configuration of the web side.
    pub web: WebConfig,
}

/// The front and what belongs to it while it serves.
struct Door {
    front: Front,
    addresses: Arc<Addresses>,
    open: Arc<OpenConnections>,
    refusals: Refusals,
    files: Arc<Files>,
    policy: HeaderValue,
    /// Says once that a proxy is not trusted.
    unknown_proxy: Once,
}

/// A connection on which requests come.
#[derive(Clone)]
struct Arrival {
    connection: Arc<Connection>,
    /// The other end of the TCP connection.
    peer: IpAddr,
    /// The client, as far as the connection tells.
    client: IpAddr,
    /// Whether it came through a trusted proxy.
    proxied: bool,
    tls: bool,
}

/// Who makes a request.
#[derive(Clone)]
struct Client {
    /// The other end of the TCP connection.
    peer: IpAddr,
    /// The client's own address.
    ip: IpAddr,
    /// Its entry.
    address: Address,
    /// Whether it came through a trusted proxy.
    proxied: bool,
    /// Whether a proxy, trusted or not, says that it passed this on.
    forwarded: bool,
    connection: Arc<Connection>,
}

/// The time, for buckets.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Serves HTTP on a socket of [`listener::listen`]; never ends. To be called within a runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    metrics: Option<std::net::TcpListener>,
    front: Front,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let metrics = metrics.map(TcpListener::from_std).transpose()?;
    if let Some(tls) = &front.web.tls {
        tokio::spawn(Arc::clone(&tls.certificate).watch());
    }
    let files = Files::read(front.web.page_dir.clone());
    tokio::spawn(Arc::clone(&files).watch());
    let max_connections = listener::max_connections();
    let policy = format!("{CONTENT_POLICY}; frame-ancestors {}", front.web.frame_ancestors);
    let door = Arc::new(Door {
        addresses: Addresses::new(
            address_limits(&front, max_connections),
            front.web.proxies.include_loopback(),
        ),
        open: OpenConnections::new(max_connections),
        refusals: Refusals::default(),
        files,
        policy: HeaderValue::from_str(&policy)
            .unwrap_or(HeaderValue::from_static("frame-ancestors 'self'")),
        unknown_proxy: Once::new(),
        front,
    });
    if let Some(listener) = metrics {
        let (door, router) = (Arc::clone(&door), metrics_router(&door));
        tokio::spawn(listener::accept(listener, door, router, Ways::default()));
    }
    let router = router(Arc::clone(&door));
    let tls = door.front.web.tls.as_ref().map(|tls| tls.acceptor.clone());
    let ways = Ways { tls, ice: door.front.ice_tcp.clone() };
    listener::accept(listener, door, router, ways).await;
    Ok(())
}

fn address_limits(front: &Front, max_connections: usize) -> AddressLimits {
    let half = u32::try_from(max_connections / 2).unwrap_or(u32::MAX);
    let sockets = front.limits.sessions_per_address.min(half);
    AddressLimits {
        connections: sockets.saturating_add(PLAIN_CONNECTIONS).min(half),
        sockets,
        requests: front.web.requests,
        bytes: ADDRESS_BYTES,
    }
}

fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/health", get(health))
        .route("/v1/server", get(server))
        .route("/ws", get(upgrade))
        .route("/", get(root))
        .route(ADMIN_PAGE.0, get(admin_page))
        .merge(admin::routes(&door))
        .merge(broadcasters::routes(&door))
        .merge(wish::routes())
        .fallback(page)
        .with_state(Arc::clone(&door))
        .layer(middleware::from_fn_with_state(door, admit))
}

/// What is served on `--metrics-listen`.
fn metrics_router(door: &Arc<Door>) -> Router {
    Router::new()
        .route("/metrics", get(metrics::answer))
        .with_state(Arc::clone(door))
        .layer(middleware::from_fn_with_state(Arc::clone(door), admit))
}

impl Door {
    fn refuse(&self, refusal: Refusal, remote: IpAddr, detail: &dyn Display) {
        self.refusals.note(refusal, remote, detail, now());
    }

    fn client(&self, arrival: Arrival, headers: &HeaderMap) -> Client {
        let proxies = &self.front.web.proxies;
        let ip = proxies.client(arrival.client, headers);
        let forwarded = proxy::is_forwarded(headers);
        if forwarded && !arrival.proxied && arrival.peer.is_loopback() {
            self.unknown_proxy.call_once(|| {
                tracing::warn!(
                    "a proxy on this machine passes requests on: set --trusted-proxy 127.0.0.1, so \
                     that limits count the addresses behind it"
                );
            });
        }
        Client {
            peer: arrival.peer,
            ip,
            address: self.addresses.address(ip, now()),
            proxied: arrival.proxied,
            forwarded,
            connection: arrival.connection,
        }
    }

    /// What every answer carries.
    fn dress(&self, response: &mut Response, (hashed, admin): (bool, bool), tls: bool) {
        let cache = match hashed && response.status().is_success() {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        let fixed = [
            (CACHE_CONTROL, cache),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (PERMISSIONS_POLICY, "camera=(self), microphone=(self), display-capture=(self)"),
        ];
        let headers = response.headers_mut();
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let policy = if admin { ADMIN_POLICY } else { self.policy.clone() };
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        if tls {
            let value = HeaderValue::from_static(TRANSPORT_SECURITY);
            headers.insert(STRICT_TRANSPORT_SECURITY, value);
        }
    }
}

/// Every request: who makes it, whether it is within the rate, and what the answer carries.
async fn admit(
    State(door): State<Arc<Door>>,
    Extension(arrival): Extension<Arrival>,
    mut request: Request,
    next: Next,
) -> Response {
    let (tls, path) = (arrival.tls, request.uri().path());
    let admin = path == ADMIN_PAGE.0 || path == ADMIN_PAGE.1;
    let page = (path.starts_with(HASHED_PREFIX), admin);
    let client = door.client(arrival, request.headers());
    let connection = Arc::clone(&client.connection);
    connection.busy(now());
    // One read may hold hundreds of requests, and others have their turn after each.
    tokio::task::yield_now().await;
    let mut response = match client.address.request(now()) {
        Ok(()) => {
            connection.charge(REQUEST_COST, now());
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(wait) => {
            connection.charge(REQUEST_COST, now());
            connection.charge_alone(REFUSED_COST, now());
            door.refuse(Refusal::Requests, client.ip, &"too many requests from this address");
            too_many_requests(wait)
        }
    };
    door.dress(&mut response, page, tls);
    response.map(|body| Body::new(AnswerBody { body, connection }))
}

fn too_many_requests(wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    let text = "too many requests from your address; try again later\n";
    let headers = [(RETRY_AFTER, HeaderValue::from(seconds))];
    (StatusCode::TOO_MANY_REQUESTS, headers, text).into_response()
}

/// Nobody new is let in.
fn full(reason: &str, wait: Duration) -> Response {
    let body = Json(json!({"code": "draining", "reason": reason}));
    let headers = [(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))];
    (StatusCode::SERVICE_UNAVAILABLE, headers, body).into_response()
}

/// A body that tells when it has been handed over.
struct AnswerBody {
    body: Body,
    connection: Arc<Connection>,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.idle(now());
    }
}

async fn health(State(door): State<Arc<Door>>, Extension(client): Extension<Client>) -> Response {
    health::answer(&door, &client)
}

/// What clients may know before they connect.
async fn server(State(door): State<Arc<Door>>) -> Json<Value> {
    let mut about = door.front.auth.describe();
    if let Some(about) = about.as_object_mut() {
        about.insert("draining".to_owned(), door.front.admin.draining().is_some().into());
    }
    Json(about)
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
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    presented: Presented,
    query: Result<Query<Ids>, QueryRejection>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    match socket {
        Ok(socket) => {
            let headers = request.headers().clone();
            upgrade(State(door), Extension(client), presented, query, Ok(socket), headers).await
        }
        Err(_) => page(State(door), request).await,
    }
}

async fn upgrade(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    presented: Presented,
    query: Result<Query<Ids>, QueryRejection>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: HeaderMap,
) -> Response {
    if let Err(reason) = door.front.web.origins.check(&headers, client.proxied) {
        door.refuse(Refusal::Origin, client.ip, &reason);
        return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
    }
    // Before the upgrade: browsers hide the answer to one, but show it to who asks without one.
    let admission = match door.front.auth.admit(&presented).await {
        Ok(admission) => admission,
        Err(error) => {
            tracing::debug!(remote = %client.ip, code = error.code(), "refused a token");
            door.front.gauges.count_token_refused(&error);
            return error.into_response();
        }
    };
    if let Some(draining) = door.front.admin.draining() {
        door.refuse(Refusal::Draining, client.ip, &"the server drains");
        return full(&draining.reason, draining.retry_after(Instant::now()));
    }
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
    let Some(place) = client.address.socket(now()) else {
        door.refuse(Refusal::Sockets, client.ip, &"too many WebSockets from this address");
        let text = "too many connections from your address\n";
        return (StatusCode::TOO_MANY_REQUESTS, text).into_response();
    };
    let connection = client.connection;
    connection.socket(client.address, now());
    let place = SocketPlace { connection, place };
    let (connections, remote) = (door.front.connections.clone(), client.ip);
    let max_message_size = door.front.limits.max_message_size;
    socket
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(max_message_size)
        .max_frame_size(max_message_size)
        .on_upgrade(move |socket| async move {
            // It fails only when the server is stopping.
            let _ = connections.send(NewConnection { socket, dialect, remote, place }).await;
        })
}

/// Who a protoo client is: as its token says, which the URL must not contradict, or as the URL
/// says.
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

/// The page of administrators, which asks for their key.
async fn admin_page(State(door): State<Arc<Door>>, request: Request) -> Response {
    let answer = door.files.answer(request.method(), ADMIN_PAGE.1, request.headers());
    answer.unwrap_or_else(|| Html(NOT_BUILT).into_response())
}

/// A file of the page, or the page itself for links into it.
async fn page(State(door): State<Arc<Door>>, request: Request) -> Response {
    let answer = door.files.answer(request.method(), request.uri().path(), request.headers());
    answer.unwrap_or_else(|| Html(NOT_BUILT).into_response())
}
