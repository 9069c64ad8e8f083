//! The maps of the BPF programs that another process has loaded.

use std::fs;

use anyhow::{Context as _, anyhow};
use aya::Pod;
use aya::maps::{HashMap, Map, MapData};

/// The map of process `pid` that is called `name`, keyed by the address of a task, with values of `BYTES` bytes.
///
/// # Errors
/// Where it has none, or it cannot be opened.
pub fn by_task<const BYTES: usize>(
    pid: u32,
    name: &str,
) -> anyhow::Result<HashMap<MapData, u64, [u8; BYTES]>>
where
    [u8; BYTES]: Pod,
{
    let ids = fs::read_dir(format!("/proc/{pid}/fdinfo"))?.filter_map(|entry| {
        // A descriptor may be gone by now.
        let text = fs::read_to_string(entry.ok()?.path()).ok()?;
        let id = text.lines().find_map(|line| line.strip_prefix("map_id:"))?;
        id.trim().parse().ok()
    });
    for id in ids {
        let map = MapData::from_id(id).context("cannot open a map")?;
        if map.info()?.name_as_str() == Some(name) {
            return Ok(Map::HashMap(map).try_into()?);
        }
    }
    Err(anyhow!("process {pid} has no map {name}"))
}
