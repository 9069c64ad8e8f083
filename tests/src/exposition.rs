//! What a Prometheus scraper would see.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::requirement::patience;

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text; as it came where it is compressed, with what is no text replaced.
    pub body: String,
    /// The body's bytes.
    pub bytes: Vec<u8>,
}

/// `GET path` from `address`, as plain as HTTP/1.1 allows.
///
/// # Errors
/// Where there is no answer within 5 s ([`patience`]) or it is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    get_with(address, path, &[])
}

/// [`get`] with further header lines.
///
/// # Errors
/// As [`get`].
pub fn get_with(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    exchange(&mut connect(address)?, path, headers)
}

/// `POST path` with `body`, as plain.
///
/// # Errors
/// As [`get`].
pub fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<Answer> {
    let length = body.len().to_string();
    let headers = [headers, &[("Content-Length", &*length)]].concat();
    let mut stream = connect(address)?;
    send(&mut stream, "POST", path, &headers)?;
    stream.write_all(body)?;
    receive(&mut stream)
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let wait = patience(Duration::from_secs(5));
    let stream = TcpStream::connect_timeout(&address, wait)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(wait))?;
    Ok(stream)
}

/// One request and its answer on a connection that ends then.
///
/// # Errors
/// Where the connection breaks, or what comes is not HTTP.
pub fn exchange(
    stream: &mut (impl Read + Write),
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    send(stream, "GET", path, headers)?;
    receive(stream)
}

fn send(
    stream: &mut impl Write,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<()> {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
    Ok(stream.write_all(head.as_bytes())?)
}

fn receive(stream: &mut impl Read) -> anyhow::Result<Answer> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).context("no whole answer")?;
    parse(&all)
}

fn parse(answer: &[u8]) -> anyhow::Result<Answer> {
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("the answer has no end of its header")?;
    let body = &answer[head + 4..];
    let head = std::str::from_utf8(&answer[..head])?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .context("the answer has no status")?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let bytes = match headers.get("transfer-encoding") {
        Some(coding) if coding == "chunked" => dechunk(body)?,
        _ => body.to_owned(),
    };
    Ok(Answer {
        status,
        headers,
        body: String::from_utf8_lossy(&bytes).into_owned(),
        bytes,
    })
}

fn dechunk(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|window| window == b"\r\n");
        let line = line.context("a chunk has no length")?;
        let length = std::str::from_utf8(&body[..line])
            .ok()
            .and_then(|length| usize::from_str_radix(length, 16).ok())
            .context("a chunk's length is no number")?;
        let rest = &body[line + 2..];
        if length == 0 {
            return Ok(whole);
        }
        ensure!(rest.len() >= length + 2, "a chunk is cut short");
        whole.extend_from_slice(&rest[..length]);
        body = &rest[length + 2..];
    }
}

/// The samples of one scrape, by name and labels as the text has them.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Sample>);

/// One line of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Samples {
    /// Reads the text format.
    ///
    /// # Errors
    /// With the first line that is no sample.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Sample::parse)
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// The sum of all samples of `name` (without the prefix `audit_collector_`) whose labels include `labels`; none
    /// where there is no such sample.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self
            .0
            .iter()
            .filter(|sample| sample.name.strip_prefix("audit_collector_") == Some(name))
            .filter(|sample| {
                labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
            })
            .map(|sample| sample.value)
            .peekable();
        found.peek().copied()?;
        Some(found.sum())
    }

    /// [`Samples::sum`] as a whole number.
    ///
    /// # Panics
    /// Where there is no such sample.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self
            .sum(name, labels)
            .unwrap_or_else(|| panic!("/metrics has no audit_collector_{name} {labels:?}"));
        sum as u64
    }

    /// Runs of programs that the kernel left out, as it may where they can be preempted (Linux 7.2). Each may have cost a
    /// call its observation, or the kernel's decision on it.
    pub fn missed_runs(&self) -> u64 {
        let missed = self.sum("ebpf_program_missed_runs_total", &[]);
        missed.unwrap_or_default() as u64
    }
}

impl Sample {
    /// Reads a line that is no comment.
    ///
    /// # Errors
    /// Where it is no sample, with the line.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        Self::read(line).with_context(|| format!("not a sample: {line}"))
    }

    fn read(line: &str) -> Option<Self> {
        let (series, value) = match line.split_once('}') {
            Some((series, value)) => (series, value),
            None => line.split_once(' ')?,
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels
            .split("\",")
            .filter(|label| !label.is_empty())
            .map(|label| {
                let (name, value) = label.split_once("=\"")?;
                Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            name: name.to_owned(),
            labels,
            value: value.split_whitespace().next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_not_asked_for() {
        let samples = Samples::parse(
            "# HELP audit_collector_x_total X.\naudit_collector_x_total{a=\"1\",b=\"2\"} 3\n\
             audit_collector_x_total{a=\"1\",b=\"3\"} 4\naudit_collector_y 2.5\n",
        )
        .unwrap();
        assert_eq!(samples.count("x_total", &[("a", "1")]), 7);
        assert_eq!(samples.count("x_total", &[("b", "3")]), 4);
        assert_eq!(samples.sum("y", &[]), Some(2.5));
        assert_eq!(samples.sum("x_total", &[("a", "2")]), None);
    }

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(
            dechunk(b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n").unwrap(),
            b"abcd"
        );
        assert!(dechunk(b"9\r\nabc\r\n").is_err());
    }
}
