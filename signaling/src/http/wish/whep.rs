//! WHEP: an offer of one who watches. It is shown whoever speaks, or one participant; whoever comes
//! and goes, its sections stay.
#![forbid(unsafe_code)]

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{LINK, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use opencall_control::api::Grants;
use opencall_dataplane::message::Layers;
use serde::Deserialize;

use super::problem::Problem;
use super::session::{Entrant, Session};
use super::{Arrived, JSON, admit, arrive, created, is_of_type, passing_name, share};
use crate::auth::claims::Admission;
use crate::auth::presented::Presented;
use crate::http::{Client, Door};
use crate::sdp::answer::watch_answer;
use crate::sdp::subscription::{Wanted, subscriptions};

/// Layers of a section can be chosen.
const LAYER_EXTENSION: &str = "urn:ietf:params:whep:ext:core:layer";

/// More layers than any stream has: the best there is.
const BEST: u8 = 7;

/// What of the room is wanted, in the query.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice {
    /// Of whom, by its id.
    participant: Option<String>,
    /// `screen`, before the camera; else `camera`.
    source: Option<String>,
}

impl Choice {
    fn wanted(self) -> Result<Wanted, Problem> {
        let screen = match self.source.as_deref() {
            None | Some("camera") => false,
            Some("screen") => true,
            Some(_) => return Err(Problem::query("source is camera or screen")),
        };
        match self.participant {
            None if screen => Err(Problem::query("whose screen? participant is missing")),
            participant => Ok(Wanted { participant, screen }),
        }
    }
}

pub(super) async fn watch(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    Path(room): Path<String>,
    query: Result<Query<Choice>, QueryRejection>,
    presented: Presented,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let outcome = async {
        let arrived = arrive(&door, &client, &room, &presented, &headers, body).await?;
        let query = query.map_err(|_| Problem::query("expected ?participant=…&source=…"))?;
        start(&door, &room, query.0.wanted()?, arrived).await
    };
    let outcome = outcome.await.unwrap_or_else(IntoResponse::into_response);
    share(&door, &headers, client.proxied, outcome)
}

async fn start(
    door: &Door,
    room: &str,
    wanted: Wanted,
    arrived: Arrived,
) -> Result<Response, Problem> {
    let Arrived { offer, id, place, admission } = arrived;
    let wish = &door.front.wish;
    let subscriptions = subscriptions(&offer, wish.hub.router_rtp_capabilities(), &wanted)?;
    let mut grants = Grants::default();
    if let Some(Admission { identity, grants: proven, .. }) = admission {
        grants = proven;
        grants.display_name.get_or_insert(identity);
    }
    // Many may watch with one token, also beside the page of its holder: none replaces another.
    grants.identity_proven = false;
    let peer = passing_name("whep", &id);
    let entrant = Entrant { room: room.to_owned(), peer, grants };
    let gauges = Arc::clone(&door.front.gauges);
    let mut session = Session::open(&wish.hub, entrant, place, gauges).await?;
    let views = session.views(&subscriptions).await?;
    session.join("whep").await?;
    let (transport, sent) = session.watch(&offer, &subscriptions, views).await?;
    let text = watch_answer(&offer, &sent, &transport);
    let mut response = created("whep", (room, &id), text, &transport)?;
    let fields = response.headers_mut();
    if let Some(place) = fields.get(LOCATION).and_then(|place| place.to_str().ok()) {
        let link = format!("<{place}/layers>; rel=\"{LAYER_EXTENSION}\"");
        fields.extend(HeaderValue::try_from(link).ok().map(|link| (LINK, link)));
    }
    session.serve(id, (room.to_owned(), transport), Arc::clone(&wish.sessions));
    Ok(response)
}

/// Which layers are wanted of a section at most; without any, the best that its path carries.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerChoice {
    /// The section's MID.
    media_id: String,
    /// From 0; of simulcast, the encoding.
    #[serde(default, alias = "maxSpatialLayerId")]
    spatial_layer_id: Option<u8>,
    /// From 0.
    #[serde(default, alias = "maxTemporalLayerId")]
    temporal_layer_id: Option<u8>,
}

pub(super) async fn choose(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    Path((room, id)): Path<(String, String)>,
    presented: Presented,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let outcome = async {
        admit(&door, &client, &room, &presented, &headers).await?;
        if !is_of_type(&headers, JSON) {
            return Err(Problem::wrong_type(JSON));
        }
        let body = body.map_err(|_| Problem::too_large())?;
        let choice: LayerChoice = serde_json::from_slice(&body)
            .map_err(|_| Problem::body("expected {mediaId, spatialLayerId?, temporalLayerId?}"))?;
        let layers = Layers {
            spatial: choice.spatial_layer_id.unwrap_or(BEST),
            temporal: Some(choice.temporal_layer_id.unwrap_or(BEST)),
        };
        door.front.wish.session(&id)?.choose(&room, Some(choice.media_id), layers).await
    };
    let response = match outcome.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    };
    share(&door, &headers, client.proxied, response)
}

/// The best that the path carries, of all sections.
pub(super) async fn choose_no_more(
    State(door): State<Arc<Door>>,
    Extension(client): Extension<Client>,
    Path((room, id)): Path<(String, String)>,
    presented: Presented,
    headers: HeaderMap,
) -> Response {
    let outcome = async {
        admit(&door, &client, &room, &presented, &headers).await?;
        let layers = Layers { spatial: BEST, temporal: Some(BEST) };
        door.front.wish.session(&id)?.choose(&room, None, layers).await
    };
    let response = match outcome.await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    };
    share(&door, &headers, client.proxied, response)
}
