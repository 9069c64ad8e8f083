//! Serves `/metrics`, liveness, readiness and a page that links to them.
//!
//! Owns the listener and its bounds: at most `CONNECTIONS` at a time, `HEADER_TIME` to send a request, headers of at
//! most `HEADER_BYTES`, `CONNECTION_TIME` per connection. Answers come from the last published [`Account`]; nothing
//! here reaches into the pipeline, so that a scrape can neither slow it down nor be held up by it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::account::Account;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::metrics::{CONTENT_TYPE, Metrics};

/// Most connections served at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long a client may take to send a request's headers, and how long a connection may idle.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Most bytes of headers.
const HEADER_BYTES: usize = 16 << 10;
/// How long a connection lives; a client that reads slowly holds its place no longer.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// How long an answer under way may still take when its connection is to end.
const GRACE: Duration = Duration::from_secs(1);
/// How old the account may be before the pipeline counts as stuck, for readiness and for liveness.
const STALE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// Why HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be had.
    #[error("cannot listen on {address} (--listen takes another address, or off)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// A listener that is bound but does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the address.
    pub async fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let error = |source| HttpError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        Ok(Self { listener, address })
    }

    /// The address that is served, with the port the kernel chose where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets answers under way finish.
    pub async fn serve(
        self,
        accounts: watch::Receiver<Arc<Account>>,
        shutdown: impl Future<Output = ()>,
    ) {
        let router = router(accounts);
        let (ending, end) = watch::channel(());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            while connections.try_join_next().is_some() {}
            if let Some((stream, place)) = accepted {
                let (router, end) = (router.clone(), end.clone());
                connections.spawn(async move {
                    serve_connection(stream, router, end).await;
                    drop(place);
                });
            }
        }
        drop((self.listener, ending));
        // Each connection ends within its own grace; what does not is cut off when the set is dropped.
        let _all_or_not = timeout(GRACE * 2, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // Out of descriptors, or the client went away: neither goes by asking again at once.
            tracing::debug!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, mut end: watch::Receiver<()>) {
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

#[derive(Clone)]
struct Served {
    accounts: watch::Receiver<Arc<Account>>,
    metrics: Arc<Metrics>,
}

impl Served {
    fn account(&self) -> Arc<Account> {
        Arc::clone(&self.accounts.borrow())
    }
}

fn router(accounts: watch::Receiver<Arc<Account>>) -> Router {
    Router::new()
        .route("/", get(landing_page))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/healthz", get(healthy))
        .route("/-/ready", get(ready))
        .route("/readyz", get(ready))
        .with_state(Served {
            accounts,
            metrics: Arc::new(Metrics::new()),
        })
}

async fn landing_page() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>audit-collector</title></head>\n",
        "<body>\n<h1>audit-collector ",
        env!("CARGO_PKG_VERSION"),
        "</h1>\n<ul>\n<li><a href=\"/metrics\">/metrics</a>: the account, for Prometheus</li>\n",
        "<li><a href=\"/-/healthy\">/-/healthy</a>: whether the collector lives</li>\n",
        "<li><a href=\"/-/ready\">/-/ready</a>: whether all its parts work</li>\n</ul>\n</body>\n</html>\n",
    ))
}

async fn metrics(State(served): State<Served>) -> Response {
    match served.metrics.render(&served.account()) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
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

fn wall_now() -> TimeMs {
    RealtimeOffset::sample().wall(KtimeNs::now())
}

/// The body of a health answer.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Health {
    status: &'static str,
    failing: Vec<Failing>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Failing {
    component: String,
    problem: String,
}

impl Health {
    fn of(failing: Vec<Failing>) -> Self {
        let status = if failing.is_empty() { "ok" } else { "failing" };
        Self { status, failing }
    }
}

fn failing(component: impl Into<String>, problem: impl Into<String>) -> Failing {
    Failing {
        component: component.into(),
        problem: problem.into(),
    }
}

fn answer(health: &Health) -> Response {
    let status = if health.failing.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut body = serde_json::to_vec(health).unwrap_or_default();
    body.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn age(at: TimeMs, now: TimeMs) -> Duration {
    Duration::from_millis(now.0.saturating_sub(at.0))
}

/// Alive: the pipeline has not begun yet, or publishes its account.
fn liveness(account: &Account, now: TimeMs) -> Health {
    let began = account.at != TimeMs::default();
    let age = age(account.at, now);
    Health::of(
        (began && age > STALE.1)
            .then(|| failing("pipeline", format!("no account for {} s", age.as_secs())))
            .into_iter()
            .collect(),
    )
}

/// Ready: every part that takes part works.
fn readiness(account: &Account, now: TimeMs) -> Health {
    let mut problems = Vec::new();
    if account.at == TimeMs::default() {
        problems.push(failing("pipeline", "not started"));
        return Health::of(problems);
    }
    let stale = age(account.at, now);
    if stale > STALE.0 {
        let problem = format!("no account for {} s", stale.as_secs());
        problems.push(failing("pipeline", problem));
    }
    if account.input.source != "replay" {
        match account.kernel.last_success {
            None => problems.push(failing("kernel_status", "never read")),
            Some(at) if age(at, account.at) > STALE.0 => {
                let seconds = age(at, account.at).as_secs();
                problems.push(failing(
                    "kernel_status",
                    format!("not read for {seconds} s"),
                ));
            }
            Some(_) => {}
        }
    }
    let programs = account.ebpf.iter().flat_map(|ebpf| &ebpf.programs);
    for (program, _) in programs.filter(|(_, attached)| !**attached) {
        problems.push(failing(format!("ebpf:{program}"), "not attached"));
    }
    for (name, _) in account.sinks.iter().filter(|(_, sink)| !sink.up) {
        problems.push(failing(format!("sink:{name}"), "the last write failed"));
    }
    Health::of(problems)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::*;
    use crate::account::{Ebpf, Sink};

    struct Running {
        address: SocketAddr,
        accounts: watch::Sender<Arc<Account>>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(account: Account) -> Running {
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address();
        let (accounts, receiver) = watch::channel(Arc::new(account));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve(receiver, async {
            stopped.await.ok();
        }));
        Running {
            address,
            accounts,
            stop,
            task,
        }
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn working() -> Account {
        Account {
            at: wall_now(),
            kernel: crate::account::Kernel {
                last_success: Some(wall_now()),
                ..Default::default()
            },
            ..Account::default()
        }
    }

    #[tokio::test]
    async fn metrics_have_the_content_type_prometheus_wants() {
        let running = start(working()).await;
        let answer = ask(running.address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let wanted = "content-type: text/plain; version=0.0.4; charset=utf-8\r\n";
        assert!(answer.contains(wanted), "{answer}");
        assert!(answer.contains("\naudit_collector_serial_gaps_total 0\n"));
    }

    #[tokio::test]
    async fn a_scrape_sees_the_account_published_last() {
        let running = start(working()).await;
        let mut account = working();
        account.serials.gaps = 3;
        running.accounts.send(Arc::new(account)).unwrap();
        let answer = ask(running.address, "/metrics").await;
        assert!(answer.contains("\naudit_collector_serial_gaps_total 3\n"));
    }

    #[tokio::test]
    async fn ready_names_what_fails() {
        let running = start(Account::default()).await;
        let answer = ask(running.address, "/-/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\"component\":\"pipeline\""), "{answer}");
        let answer = ask(running.address, "/-/healthy").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        running.accounts.send(Arc::new(working())).unwrap();
        let answer = ask(running.address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.ends_with("{\"status\":\"ok\",\"failing\":[]}\n"),
            "{answer}"
        );
    }

    #[test]
    fn each_part_that_fails_is_named() {
        let mut account = working();
        let now = account.at;
        account.kernel.last_success = Some(TimeMs(now.0 - 60_000));
        account.ebpf = Some(Ebpf {
            programs: [("sys_exit", false), ("sys_enter", true)].into(),
            ..Ebpf::default()
        });
        account.sinks.insert("file".to_owned(), Sink::default());
        let names = |health: Health| -> Vec<String> {
            health.failing.into_iter().map(|f| f.component).collect()
        };
        assert_eq!(
            names(readiness(&account, now)),
            ["kernel_status", "ebpf:sys_exit", "sink:file"]
        );
        let later = TimeMs(now.0 + 61_000);
        assert_eq!(names(liveness(&account, now)), [""; 0]);
        assert_eq!(names(liveness(&account, later)), ["pipeline"]);
    }

    #[tokio::test]
    async fn a_busy_port_is_one_clear_error() {
        let running = start(working()).await;
        let error = Server::bind(running.address).await.unwrap_err().to_string();
        let address = running.address;
        assert!(
            error.starts_with(&format!("cannot listen on {address} (")),
            "{error}"
        );
        assert!(error.contains("--listen"), "{error}");
    }

    #[tokio::test]
    async fn it_ends_when_told_although_a_client_idles() {
        let running = start(working()).await;
        let _idle = TcpStream::connect(running.address).await.unwrap();
        ask(running.address, "/").await;
        running.stop.send(()).unwrap();
        timeout(GRACE * 4, running.task).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_ends_its_request_is_cut_off() {
        let running = start(working()).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost:")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let read = timeout(HEADER_TIME * 3, stream.read_to_end(&mut answer)).await;
        read.unwrap().unwrap();
    }

    #[tokio::test]
    async fn headers_beyond_the_bound_are_refused() {
        let running = start(working()).await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nX: {}\r\n\r\n",
            "y".repeat(HEADER_BYTES * 2)
        );
        stream.write_all(request.as_bytes()).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
