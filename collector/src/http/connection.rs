//! One connection, from its acceptance to its end: TLS where it is spoken, and what bounds a client that is slow or endless.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::GRACE;
use super::reload::Keeper;

/// How long a client may take for the TLS handshake and to send a request's headers, and how long a connection may idle.
pub(super) const HEADER_TIME: Duration = Duration::from_secs(5);
/// Most bytes of headers.
pub(super) const HEADER_BYTES: usize = 16 << 10;
/// How long a connection lives; a client that reads slowly holds its place no longer.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Answers on one connection until the client, the time or `end` ends it.
pub(super) async fn serve(
    stream: TcpStream,
    router: Router,
    keeper: Arc<Keeper>,
    mut end: watch::Receiver<()>,
) {
    let Some(tls) = keeper.current().await.tls.clone() else {
        return answer(stream, router, end).await;
    };
    let handshake = timeout(HEADER_TIME, TlsAcceptor::from(tls).accept(stream));
    tokio::select! {
        shaken = handshake => match shaken {
            Ok(Ok(stream)) => answer(stream, router, end).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS with a client"),
            Err(_) => tracing::debug!("a client took too long for the TLS handshake"),
        },
        _ = end.changed() => {}
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    mut end: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            return;
        }
        _ = timeout(CONNECTION_TIME, end.changed()) => {}
    }
    connection.as_mut().graceful_shutdown();
    // A client that does not take its answer in time is cut off.
    let _done_or_cut_off = timeout(GRACE, connection).await;
}
