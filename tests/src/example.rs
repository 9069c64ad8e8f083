//! A Prometheus set up as the repository's example says, but that its hosts are a test's own and that time goes faster.
//!
//! Owns what the files of `dashboards/prometheus` are turned into; what the hosts go through is the tests' own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::prometheus::Prometheus;
use crate::{grafana, time_scale};

/// How fast time goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many times as fast as in the committed rules.
    pub scale: u64,
    /// Between two scrapes, in whole seconds.
    pub scrape_interval: Duration,
}

/// A host: the name that its series have, and where its collector is.
pub type Host = (&'static str, SocketAddr);

/// Starts it, with its files in `folder`. The first of `hosts` is in no cluster, as this host is in the example; the others
/// are in the cluster `test`.
///
/// # Errors
/// Where a file cannot be read or written, is not what it should be, or Prometheus does not start.
pub fn start(folder: &Path, pace: Pace, hosts: &[Host]) -> anyhow::Result<Prometheus> {
    for name in ["recording.yml", "alerts.yml"] {
        let scaled = time_scale::divide(&committed(name)?, pace.scale)?;
        fs::write(folder.join(name), scaled)?;
    }
    let (first, others) = hosts.split_first().context("no host")?;
    set_others(folder, others)?;
    let mut config: Value = serde_saphyr::from_str(&committed("scrape.yml")?)?;
    let interval = format!("{}s", pace.scrape_interval.as_secs());
    config["global"] = json!({"scrape_interval": interval, "evaluation_interval": interval});
    let jobs = &mut config["scrape_configs"];
    let mut set = |place: &str, value: Value| -> anyhow::Result<()> {
        *jobs.pointer_mut(place).context("the example has changed")? = value;
        Ok(())
    };
    set("/0/static_configs", json!([entry(*first, json!({}))]))?;
    set("/1/file_sd_configs/0/files", json!(["hosts.json"]))?;
    let place = folder.join("prometheus.yml");
    fs::write(&place, config.to_string())?;
    Prometheus::start(&place)
}

/// Has the Prometheus of `folder` scrape `others` beside the first host, from now on.
///
/// # Errors
/// Where the file cannot be written.
pub fn set_others(folder: &Path, others: &[Host]) -> anyhow::Result<()> {
    let cluster = json!({"cluster": "test"});
    let entries: Vec<Value> = others
        .iter()
        .map(|host| entry(*host, cluster.clone()))
        .collect();
    // In one step, as Prometheus reads it whenever it changes.
    let new = folder.join("hosts.json.new");
    fs::write(&new, Value::from(entries).to_string())?;
    Ok(fs::rename(new, folder.join("hosts.json"))?)
}

/// A file of `dashboards/prometheus`.
///
/// # Errors
/// Where it cannot be read.
pub fn committed(name: &str) -> anyhow::Result<String> {
    let place = grafana::folder().join("prometheus").join(name);
    fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))
}

/// The rules of such a file.
///
/// # Errors
/// Where it is no file of rules.
pub fn rules(name: &str) -> anyhow::Result<Vec<Value>> {
    let mut file: Value = serde_saphyr::from_str(&committed(name)?)?;
    let groups = file["groups"].as_array_mut().context("no groups")?;
    let of_group = |group: &mut Value| match group["rules"].take() {
        Value::Array(rules) => Ok(rules),
        _ => anyhow::bail!("a group without rules"),
    };
    let rules: Vec<Vec<Value>> = groups
        .iter_mut()
        .map(of_group)
        .collect::<anyhow::Result<_>>()?;
    Ok(rules.concat())
}

fn entry((name, address): Host, mut labels: Value) -> Value {
    labels["instance"] = name.into();
    json!({"targets": [address.to_string()], "labels": labels})
}
