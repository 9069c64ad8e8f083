//! Debian's Prometheus: a process of a test's own, on a free port of loopback, its data in a folder that goes with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::exposition;
use crate::process::free_address;
use crate::remote_write;
use crate::requirement::{find_program, patience};

/// What a test that starts it has to name among its requirements.
pub const PROGRAM: &str = "prometheus";

/// How long it may take until it is ready, and to end.
const TIME: Duration = Duration::from_secs(30);

/// A Prometheus that runs until this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels, `__name__` among them where it has a name.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970, and the value then; one of them where the query was for one moment.
    pub values: Vec<(f64, f64)>,
}

/// The moments that a query over time is answered for, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// The first.
    pub from: f64,
    /// None is later.
    pub until: f64,
    /// What lies between two.
    pub step: f64,
}

impl Prometheus {
    /// Starts it with the config file `config` and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not become ready in time, with what it said.
    pub fn start(config: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let child = Command::new(find_program(PROGRAM).context("prometheus is not installed")?)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args([
                "--web.enable-lifecycle",
                "--web.enable-remote-write-receiver",
            ])
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("stderr"))?)
            .spawn()
            .context("cannot run prometheus")?;
        let mut prometheus = Self {
            child,
            address,
            folder,
        };
        let began = Instant::now();
        while !exposition::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200) {
            if let Some(status) = prometheus.child.try_wait()? {
                bail!("prometheus ended with {status}: {}", prometheus.stderr());
            }
            if began.elapsed() > patience(TIME) {
                bail!("prometheus is not ready: {}", prometheus.stderr());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(prometheus)
    }

    /// Has it read its config file again.
    ///
    /// # Errors
    /// Where it refuses it, with its words.
    pub fn reload(&self) -> anyhow::Result<()> {
        let answer = exposition::post(self.address, "/-/reload", &[], &[])?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(())
    }

    /// Gives it values as if it had had them at their time. None may be much older than what it holds already, nor older than
    /// what it holds of the same series.
    ///
    /// # Errors
    /// Where it refuses one, with its words.
    pub fn remember(&self, series: &[Series]) -> anyhow::Result<()> {
        let headers = [
            ("Content-Encoding", "snappy"),
            ("Content-Type", "application/x-protobuf"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let body = remote_write::request(series)?;
        let answer = exposition::post(self.address, "/api/v1/write", &headers, &body)?;
        ensure!(answer.status == 204, "{}: {}", answer.status, answer.body);
        Ok(())
    }

    /// Where it serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has said on stderr so far: warnings and errors.
    pub fn stderr(&self) -> String {
        let text = fs::read(self.folder.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// `data` of what its HTTP API answers at `/api/v1/PATH?PARAMETERS`.
    ///
    /// # Errors
    /// Where it answers an error or a warning, with its words.
    pub fn api(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Value> {
        let encoded: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let path = format!("/api/v1/{path}?{}", encoded.join("&"));
        let answer = exposition::get(self.address, &path)?;
        let mut body: Value = serde_json::from_slice(&answer.bytes)
            .with_context(|| format!("{}: {}", answer.status, answer.body))?;
        ensure!(
            body["status"] == "success" && body["warnings"].is_null(),
            "{parameters:?}: {} {}",
            body["error"],
            body["warnings"]
        );
        Ok(body["data"].take())
    }

    /// What `expr` is now.
    ///
    /// # Errors
    /// Where it is not answered, or by other than a vector.
    pub fn query(&self, expr: &str) -> anyhow::Result<Vec<Series>> {
        series(&self.api("query", &[("query", expr)])?)
    }

    /// What `expr` was at `moments`.
    ///
    /// # Errors
    /// Where it is not answered, or by other than series.
    pub fn query_range(&self, expr: &str, moments: Moments) -> anyhow::Result<Vec<Series>> {
        let [from, until, step] =
            [moments.from, moments.until, moments.step].map(|number| number.to_string());
        let parameters = [
            ("query", expr),
            ("start", &from),
            ("end", &until),
            ("step", &step),
        ];
        series(&self.api("query_range", &parameters)?)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > patience(TIME) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Reads a vector or a matrix.
fn series(data: &Value) -> anyhow::Result<Vec<Series>> {
    let (kind, result) = (data["resultType"].as_str(), data["result"].as_array());
    let result = result.context("the answer has no result")?;
    let of = |one: &Value| {
        let values = match kind {
            Some("vector") => std::slice::from_ref(&one["value"]),
            Some("matrix") => one["values"].as_array()?,
            _ => return None,
        };
        let labels = one["metric"].as_object()?.iter();
        Some(Series {
            labels: labels
                .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect::<Option<_>>()?,
            values: values
                .iter()
                .map(|pair| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?)))
                .collect::<Option<_>>()?,
        })
    };
    result
        .iter()
        .map(|one| of(one).with_context(|| format!("not a series: {one}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_matrices_are_read() {
        let vector = serde_json::json!({
            "resultType": "vector",
            "result": [{"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "+Inf"]}],
        });
        let read = series(&vector).unwrap();
        assert_eq!(read[0].labels["job"], "a");
        assert_eq!(read[0].values, [(1.5, f64::INFINITY)]);
        let matrix = serde_json::json!({
            "resultType": "matrix",
            "result": [{"metric": {}, "values": [[1, "2"], [2, "NaN"]]}],
        });
        let read = series(&matrix).unwrap();
        assert_eq!(read[0].values[0], (1.0, 2.0));
        assert!(read[0].values[1].1.is_nan());
        let scalar = serde_json::json!({"resultType": "scalar", "result": [1, "2"]});
        assert!(series(&scalar).is_err());
    }
}
