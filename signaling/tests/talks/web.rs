//! Plain HTTP: health, the page, and what browsers are told about it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::server::{PATIENCE, Server};

/// Status, headers in lower case, body.
pub async fn get(server: &Server, path: &str) -> (u16, String, String) {
    get_with(server, path, "").await
}

/// The same with header lines of one's own, each with its line end.
pub async fn get_with(server: &Server, path: &str, headers: &str) -> (u16, String, String) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    get_on(stream, path, headers).await
}

/// The same on any stream.
pub async fn get_on(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &str,
) -> (u16, String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // What ends without TLS's own goodbye has ended all the same.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

/// A folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("opencall-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub async fn health(server: &Server) -> Value {
    let (status, _, body) = get(server, "/healthz").await;
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

/// Health once it is as expected, or the last one seen: counts are refreshed now and then.
pub async fn health_when(server: &Server, expected: impl Fn(&Value) -> bool) -> Value {
    let mut seen = health(server).await;
    let deadline = Instant::now() + PATIENCE;
    while !expected(&seen) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = health(server).await;
    }
    seen
}

#[tokio::test]
async fn health_is_one_line_of_json() {
    let server = Server::start();
    let mut client = Client::protoo(&server, "r", "p").await;
    client.ask("join", json!({})).await.unwrap();
    let (_, _, body) = get(&server, "/healthz").await;
    assert_eq!(body.lines().count(), 1);
    let health = health_when(&server, |health| health["peers"] == 1).await;
    assert_eq!((&health["status"], &health["cores"]), (&json!("ok"), &json!(1)));
    assert!(["uring", "mmsg"].contains(&health["io"].as_str().unwrap()));
    assert_eq!((&health["rooms"], &health["peers"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn the_page_is_served_with_headers_that_keep_it_safe() {
    let folder = Folder::new("page");
    folder.write("index.html", "<title>page</title>");
    folder.write("assets/app-1a2b.js", "1");
    folder.write("admin.html", "<title>admin</title>");
    let server = Server::start_with(&["--page-dir", folder.path()]);

    let (status, head, body) = get(&server, "/").await;
    assert_eq!((status, body.as_str()), (200, "<title>page</title>"));
    assert!(head.contains("content-type: text/html"));
    assert!(head.contains("cache-control: no-cache"));
    assert!(head.contains("content-security-policy: default-src 'self'"));
    assert!(head.contains("; frame-ancestors 'self'\r\n"), "{head}");
    assert!(!head.contains("strict-transport-security"));
    assert!(head.contains("x-content-type-options: nosniff"));
    for path in ["/admin", "/admin.html"] {
        let (status, head, body) = get(&server, path).await;
        assert_eq!((status, body.as_str()), (200, "<title>admin</title>"), "{path}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"));
        assert!(head.contains("frame-ancestors 'none'"), "{head}");
    }
    let (status, head, _) = get(&server, "/assets/app-1a2b.js").await;
    assert_eq!(status, 200);
    assert!(head.contains("immutable"));
    // A link into the page is the page; a file that is not there is not.
    assert_eq!(get(&server, "/meeting/42").await.0, 200);
    assert_eq!(get(&server, "/assets/gone.js").await.0, 404);
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/assets/..%2f..%2fetc/passwd"] {
        let (_, _, body) = get(&server, path).await;
        assert!(!body.contains("[package]") && !body.contains("root:"), "{path}");
    }
}

#[tokio::test]
async fn without_a_built_page_it_says_how_to_build_one() {
    let server = Server::start_with(&["--page-dir", "/nowhere"]);
    let (status, _, body) = get(&server, "/").await;
    assert_eq!(status, 200);
    assert!(body.contains("npm run build"));
    // WebSockets are served all the same, on either path.
    for path in ["/", "/ws"] {
        let mut client = Client::connect(&server, path, None).await.unwrap();
        let data = json!({"meetingId": "m"});
        client.request("getRouterCapabilities", data).await.unwrap();
    }
    assert_eq!(get(&server, "/ws").await.0, 426);
}

#[tokio::test]
async fn other_pages_show_it_in_a_frame_only_where_allowed() {
    let flags = ["--frame-ancestors", "self,https://intranet.example.org"];
    let server = Server::start_with(&flags);
    let (_, head, _) = get(&server, "/").await;
    assert!(head.contains("; frame-ancestors 'self' https://intranet.example.org\r\n"), "{head}");
}

#[tokio::test]
async fn files_come_compressed_once_and_are_taken_anew_when_they_change() {
    let folder = Folder::new("files");
    let script = "console.log('x');\n".repeat(1000);
    folder.write("index.html", "<title>old</title>");
    folder.write("assets/app.js", &script);
    folder.write("assets/a name.png", [0x89, 0x50]);
    let server = Server::start_with(&["--page-dir", folder.path()]);
    let (_, head, body) = get(&server, "/assets/app.js").await;
    assert!(head.contains("content-type: text/javascript") && !head.contains("content-encoding"));
    assert_eq!(body, script);
    let gzip = "Accept-Encoding: br, gzip;q=0.8\r\n";
    let (_, head, body) = get_with(&server, "/assets/app.js", gzip).await;
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"));
    assert!(body.len() < 1000);
    let none = "Accept-Encoding: gzip;q=0\r\n";
    assert_eq!(get_with(&server, "/assets/app.js", none).await.2, script);

    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let known = format!("{gzip}If-None-Match: \"other\", W/{etag}\r\n");
    let (status, _, body) = get_with(&server, "/assets/app.js", &known).await;
    assert_eq!((status, body.as_str()), (304, ""));
    let plain = format!("If-None-Match: {etag}\r\n");
    assert_eq!(get_with(&server, "/assets/app.js", &plain).await.0, 200, "another coding");
    assert_eq!(get(&server, "/assets/a%20name.png").await.0, 200);

    folder.write("index.html", "<title>the new one</title>");
    server.logged("took the new page");
    assert_eq!(get(&server, "/").await.2, "<title>the new one</title>");
    // A page that is being built anew stays as it was.
    std::fs::remove_file(folder.0.join("index.html")).unwrap();
    assert_eq!(get(&server, "/").await.2, "<title>the new one</title>");
}

#[tokio::test]
async fn strangers_learn_only_that_the_server_is_well() {
    let server = Server::start_with(&["--trusted-proxy", "127.0.0.2"]);
    for path in ["/healthz", "/health"] {
        let (status, _, body) = get(&server, path).await;
        assert_eq!(status, 200);
        assert!(body.contains("\"uptimeSeconds\""), "{body}");
        // What a proxy passes on is a stranger's, also where nobody told the server of it.
        for header in ["X-Forwarded-For: 203.0.113.9\r\n", "Via: 1.1 proxy\r\n"] {
            let (status, _, body) = get_with(&server, path, header).await;
            assert_eq!((status, body.as_str()), (200, "{\"status\":\"ok\"}"));
        }
    }
    server.logged("set --trusted-proxy");
    // A trusted proxy that forgets to say for whom it asks.
    let server = Server::start_with(&["--trusted-proxy", "127.0.0.1"]);
    assert_eq!(get(&server, "/healthz").await.2, "{\"status\":\"ok\"}");
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_connect() {
    let server = Server::start();
    let own = format!("http://{}", server.address);
    for origin in [own.as_str(), &own.to_uppercase()] {
        assert!(Client::with_headers(&server, &[("origin", origin)]).await.is_ok(), "{origin}");
    }
    assert!(Client::with_headers(&server, &[]).await.is_ok());
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let refused = Client::with_headers(&server, &[("origin", origin)]).await;
        let (status, text) = refused.err().unwrap();
        assert_eq!(status, 403);
        assert!(text.contains(origin) && text.contains("--allowed-origins"), "{text}");
    }
    assert!(server.logged("reason=\"origin\"").contains("https://evil.example"));
    assert_eq!(health(&server).await["refused"]["origin"], 3);

    let listed = Server::start_with(&["--allowed-origins", "https://meet.example.org"]);
    let own = format!("http://{}", listed.address);
    for (origin, allowed) in [("https://meet.example.org", true), (&own, false)] {
        let result = Client::with_headers(&listed, &[("origin", origin)]).await;
        assert_eq!(result.is_ok(), allowed, "{origin}");
    }
    let any = Server::start_with(&["--allowed-origins", "*"]);
    assert!(Client::with_headers(&any, &[("origin", "null")]).await.is_ok());
}

#[tokio::test]
async fn an_unknown_sub_protocol_is_refused() {
    let server = Server::start();
    assert!(Client::connect(&server, "/ws", Some("mqtt")).await.is_err());
    let client = Client::connect(&server, "/ws?roomId=r&peerId=p", Some("mqtt, protoo")).await;
    assert!(client.is_ok());
}
