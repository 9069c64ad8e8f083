//! One HTTP server for all collectors of a fleet: host 7 is at `/metrics/7`.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::hosts::Fleet;
use super::recording::now;

/// Requests answered at the same time.
const THREADS: usize = 2;
/// Of a request's head.
const LONGEST: u64 = 16 << 10;

/// Serves until dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(fleet: &Arc<Fleet>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let threads = (0..THREADS).map(|_| {
            let (listener, fleet, ends) = (
                listener.try_clone().unwrap(),
                Arc::clone(fleet),
                Arc::clone(&ends),
            );
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let (stream, _) = listener.accept().unwrap();
                    // Who goes before the answer is there has had enough of it.
                    let _ = answer(stream, &fleet);
                }
            })
        });
        Self {
            address,
            threads: threads.collect(),
            ends,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for _ in 0..THREADS {
            let _ = TcpStream::connect(self.address);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A host that is down gives no answer.
fn answer(mut stream: TcpStream, fleet: &Fleet) -> std::io::Result<()> {
    let mut head = BufReader::new(Read::by_ref(&mut stream).take(LONGEST));
    let mut first = String::new();
    head.read_line(&mut first)?;
    let mut line = String::from("-");
    while !line.trim_end().is_empty() {
        line.clear();
        head.read_line(&mut line)?;
    }
    let host = first
        .strip_prefix("GET /metrics/")
        .and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok())
        .and_then(|number| fleet.hosts.get(number));
    let Some(text) = host.and_then(|host| fleet.exposition(host, now())) else {
        return Ok(());
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}
