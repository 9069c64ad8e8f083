//! What is served, and what each request has to pass before.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;
use tower_http::compression::CompressionLayer;

use super::access::Gate;
use super::health::{answer, liveness, readiness};
use super::reload::Keeper;
use crate::account::Account;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::config::TelemetryPath;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// What the pages are made from.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) accounts: watch::Receiver<Arc<Account>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) telemetry_path: TelemetryPath,
}

impl Served {
    fn account(&self) -> Arc<Account> {
        Arc::clone(&self.accounts.borrow())
    }
}

/// What lets requests in.
#[derive(Clone)]
pub(super) struct Entrance {
    pub(super) keeper: Arc<Keeper>,
    pub(super) gate: Arc<Gate>,
}

/// The pages behind the entrance.
pub(super) fn router(served: Served, entrance: Entrance) -> Router {
    Router::new()
        .route("/", get(landing_page))
        .route(served.telemetry_path.as_str(), get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/healthz", get(healthy))
        .route("/-/ready", get(ready))
        .route("/readyz", get(ready))
        .with_state(served)
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(entrance, enter))
        .layer(from_fn(refuse_body))
}

/// Nothing here takes a body: one is refused unread, and its connection ends.
async fn refuse_body(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let close = [(header::CONNECTION, "close")];
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        close,
        "no request here has a body\n",
    )
        .into_response()
}

/// What the web config file asks of a request and of its answer.
async fn enter(State(entrance): State<Entrance>, request: Request, next: Next) -> Response {
    let config = entrance.keeper.current().await;
    if let Some(limit) = &config.rate_limit
        && !limit.allows(Instant::now())
    {
        return (StatusCode::TOO_MANY_REQUESTS, "too many requests\n").into_response();
    }
    let admitted = entrance.gate.admits(&config.users, request.headers());
    let mut response = match admitted.await {
        true => next.run(request).await,
        false => {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"audit-collector\"")];
            (
                StatusCode::UNAUTHORIZED,
                ask,
                "user and password are needed\n",
            )
                .into_response()
        }
    };
    for (name, value) in &config.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

async fn landing_page(State(served): State<Served>) -> Html<String> {
    let telemetry = served.telemetry_path.as_str();
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>audit-collector</title></head>\n\
         <body>\n<h1>audit-collector {}</h1>\n<p>Accounts for every Linux audit event, and gives the lost ones back.</p>\n\
         <ul>\n<li><a href=\"{telemetry}\">{telemetry}</a>: the account, for Prometheus</li>\n\
         <li><a href=\"/-/healthy\">/-/healthy</a>: whether the collector lives</li>\n\
         <li><a href=\"/-/ready\">/-/ready</a>: whether all its parts work</li>\n</ul>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
    ))
}

async fn metrics(State(served): State<Served>) -> Response {
    match served.metrics.render(&served.account()) {
        Ok(text) => {
            let content_type = HeaderValue::from_static(CONTENT_TYPE);
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

async fn healthy(State(served): State<Served>) -> Response {
    answer(&liveness(&served.account(), wall_now()))
}

async fn ready(State(served): State<Served>) -> Response {
    answer(&readiness(&served.account(), wall_now()))
}

pub(super) fn wall_now() -> TimeMs {
    RealtimeOffset::sample().wall(KtimeNs::now())
}
