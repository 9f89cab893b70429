//! WHIP: an offer of one who publishes, whole or not at all.
#![forbid(unsafe_code)]

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use opencall_control::api::Grants;

use super::problem::Problem;
use super::session::{Entrant, Session};
use super::{Arrived, arrive, created, passing_name, share};
use crate::auth::claims::Admission;
use crate::auth::presented::Presented;
use crate::http::{Client, Door};
use crate::sdp::answer::answer;
use crate::sdp::publication::publications;

pub(super) async fn publish(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    Path(room): Path<String>,
    presented: Presented,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let outcome = async {
        let arrived = arrive(&door, &client, &room, &presented, &headers, body).await?;
        start(&door, &room, arrived).await
    };
    let outcome = outcome.await.unwrap_or_else(IntoResponse::into_response);
    share(&door, &headers, client.proxied, outcome)
}

async fn start(door: &Door, room: &str, arrived: Arrived) -> Result<Response, Problem> {
    let Arrived { offer, id, place, admission } = arrived;
    let wish = &door.front.wish;
    let router = Arc::clone(wish.hub.router_rtp_capabilities());
    let publications = publications(&offer, &router)?;
    let (peer, grants) = match admission {
        Some(Admission { identity, grants, .. }) => (identity, grants),
        None => (passing_name("whip", &id), Grants::default()),
    };
    let entrant = Entrant { room: room.to_owned(), peer, grants };
    let gauges = Arc::clone(&door.front.gauges);
    let mut session = Session::open(&wish.hub, entrant, place, gauges).await?;
    session.join("whip").await?;
    let transport = session.publish(&offer, &publications).await?;
    let text = answer(&offer, &publications, &transport, &router);
    let response = created("whip", (room, &id), text, &transport)?;
    session.serve(id, (room.to_owned(), transport), Arc::clone(&wish.sessions));
    Ok(response)
}
