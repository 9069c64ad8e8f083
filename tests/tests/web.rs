//! HTTP as Prometheus and those who do not mean well meet it: several addresses, gzip, TLS, users, reloading, and clients that
//! are slow or send too much.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use audit_collector_tests::audit_state::AuditGuard;
use audit_collector_tests::exposition::{self, Samples};
use audit_collector_tests::process::{Collector, run_to_end};
use audit_collector_tests::requirement::{self, Requirement};
use audit_collector_tests::tls::{self, Authority, Identity};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use collector::cli::EXIT_USAGE;

/// A collector that changes nothing on the host.
const BESIDE: [&str; 2] = ["--mode=multicast", "--ebpf=off"];

/// How long a scrape may take, and how large it may be compressed.
const SCRAPE_TIME: Duration = Duration::from_millis(5);
const SCRAPE_BYTES: usize = 64 << 10;

fn kernel() -> bool {
    requirement::met(&[Requirement::AuditControl])
}

fn start(arguments: &[&str]) -> Collector {
    let all: Vec<_> = BESIDE.iter().chain(arguments).copied().collect();
    Collector::start(&all).unwrap()
}

fn basic(user: &str, password: &str) -> String {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    // As a configuration is replaced that others read meanwhile.
    fs::write(path.with_extension("new"), text).unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
    path.to_str().unwrap().to_owned()
}

fn write_identity(folder: &Path, identity: &Identity) {
    write(folder, "server.crt", &identity.certificate);
    write(folder, "server.key", &identity.key);
}

fn text_of(gzip: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(gzip)
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn metrics_are_served_at_each_address_small_and_soon() {
    if !kernel() {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let mut collector = Collector::start(&[
        "--web.listen-address=127.0.0.2:10479",
        "--web.telemetry-path=/account",
    ])
    .unwrap();
    collector.wait_until_ready().unwrap();
    let other: SocketAddr = "127.0.0.2:10479".parse().unwrap();

    for address in [collector.address(), other] {
        let page = exposition::get(address, "/").unwrap();
        assert!(page.body.contains("href=\"/account\""), "{}", page.body);
        assert_eq!(exposition::get(address, "/metrics").unwrap().status, 404);
        let plain = exposition::get(address, "/account").unwrap();
        assert!(!plain.headers.contains_key("content-encoding"));
        Samples::parse(&plain.body).unwrap();
    }

    let gzip = [("Accept-Encoding", "gzip")];
    let scrape = || {
        let began = Instant::now();
        let answer = exposition::get_with(other, "/account", &gzip).unwrap();
        (began.elapsed(), answer)
    };
    // Whatever else the machine does only adds to it.
    let fastest = (0..21).map(|_| scrape()).min_by_key(|(took, _)| *took);
    let (took, answer) = fastest.unwrap();
    assert_eq!(answer.headers["content-encoding"], "gzip");
    let text = text_of(&answer.bytes);
    println!(
        "{} series, {} bytes, {} compressed; a scrape takes {took:?} (fastest of 21, connection included)",
        text.lines().filter(|line| !line.starts_with('#')).count(),
        text.len(),
        answer.bytes.len(),
    );
    Samples::parse(&text).unwrap();
    assert!(answer.bytes.len() < SCRAPE_BYTES);
    assert!(took < requirement::patience(SCRAPE_TIME), "{took:?}");
    collector.stop().unwrap();
}

#[test]
fn only_those_with_certificate_and_password_come_in() {
    if !kernel() {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    write_identity(folder, &authority.issue(&["127.0.0.1"]).unwrap());
    write(folder, "clients.pem", &authority.pem());
    let config = |password: &str| {
        let hash = bcrypt::hash(password, 4).unwrap();
        let text = format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_ca_file: clients.pem\n  \
             client_auth_type: RequireAndVerifyClientCert\n  min_version: TLS13\n\
             http_server_config:\n  headers:\n    X-Frame-Options: deny\n\
             basic_auth_users:\n  prometheus: {hash}\n"
        );
        write(folder, "web.yml", &text)
    };
    let file = config("first");
    let collector = start(&[&format!("--web.config.file={file}")]);
    let address = collector.address();
    let client = authority.issue(&["prometheus"]).unwrap();
    let ask = |authority: &Authority, client: Option<&Identity>, password: &str| {
        let authorization = basic("prometheus", password);
        let headers = [("Authorization", authorization.as_str())];
        let answer = tls::get(address, "/metrics", authority, client, &headers);
        answer.map(|answer| (answer.status, answer))
    };

    let (status, answer) = ask(&authority, Some(&client), "first").unwrap();
    assert_eq!(status, 200);
    assert_eq!(answer.headers["x-frame-options"], "deny");
    let metrics = Samples::parse(&answer.body).unwrap();
    assert_eq!(metrics.count("config_last_reload_successful", &[]), 1);
    let (status, answer) = ask(&authority, Some(&client), "second").unwrap();
    assert_eq!(status, 401);
    assert!(answer.headers["www-authenticate"].starts_with("Basic"));
    let nobody = tls::get(address, "/metrics", &authority, Some(&client), &[]);
    assert_eq!(nobody.unwrap().status, 401);
    // Without a certificate, or with one of another authority, or without TLS, there is no answer at all.
    let stranger = other.issue(&["prometheus"]).unwrap();
    assert!(ask(&authority, None, "first").is_err());
    assert!(ask(&authority, Some(&stranger), "first").is_err());
    assert!(exposition::get(address, "/metrics").is_err());

    // Another password and another certificate are in force from the next connection on.
    config("second");
    assert_eq!(ask(&authority, Some(&client), "first").unwrap().0, 401);
    assert_eq!(ask(&authority, Some(&client), "second").unwrap().0, 200);
    write_identity(folder, &other.issue(&["127.0.0.1"]).unwrap());
    assert!(ask(&authority, Some(&client), "second").is_err());
    assert_eq!(ask(&other, Some(&client), "second").unwrap().0, 200);

    // What cannot be used is refused, told once and shown, and what was in force stays.
    write(
        folder,
        "web.yml",
        "tls_server_config:\n  cert_file: 3\nno_such_key: 1\n",
    );
    for _ in 0..3 {
        let (status, answer) = ask(&other, Some(&client), "second").unwrap();
        assert_eq!(status, 200);
        let metrics = Samples::parse(&answer.body).unwrap();
        assert_eq!(metrics.count("config_last_reload_successful", &[]), 0);
    }
    // Nor does a file that asks for no TLS open what was closed.
    write(folder, "web.yml", "");
    assert!(exposition::get(address, "/metrics").is_err());
    config("third");
    let (status, answer) = ask(&other, Some(&client), "third").unwrap();
    assert_eq!(status, 200);
    let metrics = Samples::parse(&answer.body).unwrap();
    assert_eq!(metrics.count("config_last_reload_successful", &[]), 1);
    let stderr = collector.stop().unwrap().stderr;
    assert_eq!(
        stderr.matches("web config file is refused").count(),
        2,
        "{stderr}"
    );
    assert!(!stderr.contains("$2"), "a hash in the log: {stderr}");
}

#[test]
fn slow_and_endless_clients_do_not_keep_others_out() {
    if !kernel() {
        return;
    }
    let _guard = AuditGuard::take().unwrap();
    let collector = start(&[]);
    let address = collector.address();
    // More than are served at a time, and none ever ends its request.
    let mut slow: Vec<_> = (0..80)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX-A:").unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    while exposition::get(address, "/metrics").is_err() {
        assert!(
            began.elapsed() < requirement::patience(Duration::from_secs(15)),
            "slow clients keep others out"
        );
        for stream in &mut slow {
            // One byte more every now and then does not buy time.
            let _ = stream.write_all(b"a");
        }
        thread::sleep(Duration::from_millis(200));
    }
    println!("a scrape came through after {:?}", began.elapsed());
    drop(slow);

    let sent = |request: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        // The server may refuse before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let endless = "x".repeat(1 << 20);
    for (request, status) in [
        (format!("GET /{endless} HTTP/1.1\r\n\r\n"), "4"),
        (format!("GET / HTTP/1.1\r\nX: {endless}\r\n\r\n"), "431"),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(20_000)),
            "431",
        ),
        (
            format!("GET /metrics HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n{endless}"),
            "413",
        ),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = sent(request.as_bytes());
        // A reset may overtake the answer to a client that goes on sending.
        let wanted = format!("HTTP/1.1 {status}");
        assert!(answer.is_empty() || answer.starts_with(&wanted), "{answer}");
    }
    assert_eq!(exposition::get(address, "/metrics").unwrap().status, 200);
    collector.stop().unwrap();
}

#[test]
fn a_wrong_web_config_file_is_named_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    for (text, wanted) in [
        (
            "tls_server_config:\n  cert_file: nowhere.crt\n  key_file: nowhere.key\n",
            "nowhere.crt",
        ),
        ("basic_auth_users:\n  a: plain\n", "basic_auth_users"),
        ("a: 1\n", "web.yml:1"),
    ] {
        let file = write(folder.path(), "web.yml", text);
        let ended = run_to_end(
            &[
                "run".to_owned(),
                "--output=/dev/null".to_owned(),
                "--web.listen-address=127.0.0.1:0".to_owned(),
                format!("--web.config.file={file}"),
            ],
            Duration::from_secs(5),
        )
        .unwrap();
        assert_eq!(ended.code, Some(i32::from(EXIT_USAGE)), "{ended:?}");
        assert!(ended.stderr.contains(wanted), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}
