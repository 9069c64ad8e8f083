//! Serves metrics, liveness, readiness and a page that links to them, as Prometheus's exporters do.
//!
//! Owns the listeners and their bounds: at most `CONNECTIONS` at a time, `HEADER_TIME` for the TLS handshake and to send a
//! request, headers of at most `HEADER_BYTES`, no bodies, `CONNECTION_TIME` per connection. Answers come from the last
//! published [`Account`]; nothing here reaches into the pipeline, so that a scrape can neither slow it down nor be held up by it.

mod access;
mod client_certificate;
mod connection;
mod health;
mod pages;
mod rate_limit;
mod reload;
mod tls;
mod web_config;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::account::Account;
use crate::config::{LoadState, TelemetryPath, WebSettings};
use crate::metrics::Metrics;
use access::Gate;
use pages::{Entrance, Served};
use reload::Keeper;
pub use web_config::WebConfigError;

/// Most connections served at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long an answer under way may still take when its connection is to end.
const GRACE: Duration = Duration::from_secs(1);

/// Why HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be had.
    #[error("cannot listen on {address} (--web.listen-address takes another address, or off)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The web config file is wrong.
    #[error("the web config file cannot be used")]
    Config(#[from] WebConfigError),
    /// The kernel has no random numbers.
    #[error("the kernel gives no random numbers")]
    Random,
}

/// Listeners that are bound but do not serve yet.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(TcpListener, SocketAddr)>,
    keeper: Arc<Keeper>,
    gate: Arc<Gate>,
    state: Arc<LoadState>,
    telemetry_path: TelemetryPath,
}

impl Server {
    /// Reads the web config file and takes the addresses.
    ///
    /// # Errors
    /// Where the file is wrong or an address cannot be had.
    pub async fn bind(settings: &WebSettings) -> Result<Self, HttpError> {
        let state = Arc::new(LoadState::default());
        let keeper = Keeper::new(settings.config_file.as_deref(), Arc::clone(&state))?;
        let mut listeners = Vec::with_capacity(settings.listen.len());
        for address in &settings.listen {
            let error = |source| HttpError::Bind {
                address: *address,
                source,
            };
            let listener = bind(*address).await.map_err(error)?;
            let taken = listener.local_addr().map_err(error)?;
            listeners.push((listener, taken));
        }
        Ok(Self {
            listeners,
            keeper: Arc::new(keeper),
            gate: Arc::new(Gate::new().ok_or(HttpError::Random)?),
            state,
            telemetry_path: settings.telemetry_path.clone(),
        })
    }

    /// The addresses that are served, with the port the kernel chose where port 0 was asked for.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(|(_, address)| *address)
    }

    /// Serves until `shutdown`, then lets answers under way finish.
    pub async fn serve(
        self,
        accounts: watch::Receiver<Arc<Account>>,
        shutdown: impl Future<Output = ()>,
    ) {
        let router = pages::router(
            Served {
                accounts,
                metrics: Arc::new(Metrics::new(self.state)),
                telemetry_path: self.telemetry_path,
            },
            Entrance {
                keeper: Arc::clone(&self.keeper),
                gate: self.gate,
            },
        );
        let (ending, end) = watch::channel(());
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut accepting = JoinSet::new();
        for (listener, _) in self.listeners {
            let (router, keeper) = (router.clone(), Arc::clone(&self.keeper));
            let (places, end) = (Arc::clone(&places), end.clone());
            accepting.spawn(async move {
                let mut connections = JoinSet::new();
                let mut ended = pin!(ended(end.clone()));
                loop {
                    let accepted = tokio::select! {
                        () = &mut ended => break,
                        accepted = accept(&listener, &places) => accepted,
                    };
                    while connections.try_join_next().is_some() {}
                    if let Some((stream, place)) = accepted {
                        let (router, keeper, end) =
                            (router.clone(), Arc::clone(&keeper), end.clone());
                        connections.spawn(async move {
                            connection::serve(stream, router, keeper, end).await;
                            drop(place);
                        });
                    }
                }
                drop(listener);
                while connections.join_next().await.is_some() {}
            });
        }
        shutdown.await;
        drop((ending, end));
        // Each connection ends within its own grace; what does not is cut off when the sets are dropped.
        let _all_or_not = timeout(GRACE * 2, async {
            while accepting.join_next().await.is_some() {}
        })
        .await;
    }
}

/// `[::]` takes IPv4 as well; where there is no IPv6, `0.0.0.0` is what was meant.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                && address.is_ipv6()
                && address.ip().is_unspecified() =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Waits until the sender of `end` is gone.
async fn ended(mut end: watch::Receiver<()>) {
    while end.changed().await.is_ok() {}
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The connection first: a listener that waits for one must not hold a place that another could use.
    match listener.accept().await {
        Ok((stream, _)) => {
            let place = Arc::clone(places).acquire_owned().await.ok()?;
            Some((stream, place))
        }
        Err(error) => {
            // Out of descriptors, or the client went away: neither goes by asking again at once.
            tracing::debug!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    use super::connection::{HEADER_BYTES, HEADER_TIME};
    use super::pages::wall_now;
    use super::*;

    struct Running {
        address: SocketAddr,
        accounts: watch::Sender<Arc<Account>>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    fn at(address: SocketAddr) -> WebSettings {
        WebSettings {
            listen: vec![address],
            telemetry_path: TelemetryPath::default(),
            config_file: None,
        }
    }

    async fn start(account: Account) -> Running {
        let server = Server::bind(&at("127.0.0.1:0".parse().unwrap()))
            .await
            .unwrap();
        let address = server.addresses().next().unwrap();
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

    #[tokio::test]
    async fn a_busy_port_is_one_clear_error() {
        let running = start(working()).await;
        let error = Server::bind(&at(running.address))
            .await
            .unwrap_err()
            .to_string();
        let address = running.address;
        assert!(
            error.starts_with(&format!("cannot listen on {address} (")),
            "{error}"
        );
        assert!(error.contains("--web.listen-address"), "{error}");
    }

    #[tokio::test]
    async fn it_ends_when_told_although_a_client_idles() {
        let running = start(working()).await;
        let _idle = TcpStream::connect(running.address).await.unwrap();
        ask(running.address, "/").await;
        running.stop.send(()).unwrap();
        timeout(GRACE * 4, running.task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_body_is_refused() {
        let running = start(working()).await;
        for request in [
            "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n",
        ] {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        }
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
