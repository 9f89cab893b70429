//! The WebSocket below both envelopes.
#![forbid(unsafe_code)]

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::ANSWER_TIMEOUT;

/// Room for what one read brings: it is cleared each time, and most messages are short.
const READ_BUFFER_LEN: usize = 4096;

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
        let (socket, _) = connected.map_err(|error| {
            let hint = match error {
                // Whoever speaks only the one refuses the other in either way.
                Error::Http(_) | Error::Protocol(_) => "; does it speak the --protocol asked for?",
                Error::Url(_) => "; --target is a ws:// URL",
                _ => "",
            };
            format!("{url}: {error}{hint}")
        })?;
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
