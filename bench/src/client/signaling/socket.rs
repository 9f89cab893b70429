//! The WebSocket below both envelopes.
#![forbid(unsafe_code)]

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::ANSWER_TIMEOUT;

/// Room for what one read brings: it is cleared each time, and most messages are short.
const READ_BUFFER_LEN: usize = 4096;

/// Of what a server says to a refusal, this much is shown.
const MAX_SHOWN_CHARS: usize = 120;

/// A connection that carries JSON.
pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn connect(url: &str, subprotocol: Option<&'static str>) -> Result<Self, String> {
        let mut request = url.into_client_request().map_err(|error| format!("{url}: {error}"))?;
        if let Some(name) = subprotocol {
            let name = HeaderValue::from_static(name);
            request.headers_mut().insert("Sec-WebSocket-Protocol", name);
        }
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_LEN);
        let connecting = connect_async_with_config(request, Some(config), true);
        let connecting = timeout(ANSWER_TIMEOUT, connecting).await;
        let connected = connecting.map_err(|_| format!("{url} does not answer"))?;
        let (socket, _) = connected.map_err(|error| refusal(url, subprotocol, &error))?;
        Ok(Socket(socket))
    }

    pub async fn send(&mut self, frame: Value) -> Result<(), String> {
        self.0.send(Message::text(frame.to_string())).await.map_err(|error| error.to_string())
    }

    /// The next frame that is not ignored.
    pub async fn next(&mut self, is_ignored: fn(&str) -> bool) -> Result<Value, String> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) if is_ignored(&text) => {}
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(|error| error.to_string());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(format!("the server closed the connection: {frame:?}"));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the connection is gone".into()),
            }
        }
    }

    pub async fn close(mut self) {
        // The server notices the end of the connection even without a close frame.
        let _ = self.0.close(None).await;
    }
}

/// Why a server did not take a connection, and what may be the remedy.
fn refusal(url: &str, subprotocol: Option<&str>, error: &Error) -> String {
    match (error, subprotocol) {
        (Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)), _) => {
            format!(
                "{url}: the server does not speak protoo: check the path, or use --protocol opencall"
            )
        }
        (Error::Http(response), spoken) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(body);
            let body: String = body.trim().chars().take(MAX_SHOWN_CHARS).collect();
            let other = if spoken.is_some() { "opencall" } else { "protoo" };
            format!(
                "{url}: the server refuses the connection ({}) {body:?}: check the path, or use \
                 --protocol {other}",
                response.status(),
            )
        }
        (Error::Url(_), _) => format!("{url}: {error}; --target is a ws:// URL"),
        _ => format!("{url}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What is said of a server that answers every handshake with this.
    async fn refused_with(answer: &'static str, subprotocol: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (_, connected) = tokio::join!(serve, Socket::connect(&url, subprotocol));
        connected.err().expect("it was refused")
    }

    #[tokio::test]
    async fn who_is_refused_hears_why_and_what_to_do() {
        let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 15\r\n\r\nroomId missing\n";
        let error = refused_with(answer, Some("protoo")).await;
        assert!(error.contains("400 Bad Request) \"roomId missing\""), "{error}");
        assert!(error.ends_with("or use --protocol opencall"), "{error}");
        let error = refused_with(answer, None).await;
        assert!(error.ends_with("or use --protocol protoo"), "{error}");
    }
}
