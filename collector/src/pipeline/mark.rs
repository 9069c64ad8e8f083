//! How far the audit stream was read, kept in a file, so that the next start can tell what was missed in between.
//!
//! Owns the file. What was being read when the collector was killed may be up to [`KEEP`] ahead of it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::account::Account;
use crate::audit::record::{Serial, Stamp};
use crate::clock::TimeMs;

/// How often the file is brought up to date.
const KEEP: Duration = Duration::from_millis(500);
/// The first word of the file.
const VERSION: &str = "1";
/// More than a mark takes.
const FILE_LIMIT: u64 = 256;

/// How far the stream of one boot was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The kernel's id of that boot.
    pub(super) boot_id: String,
    /// The furthest serial, and its time.
    pub(super) stamp: Stamp,
    /// The kernel's count of lost records then.
    pub(super) lost: u32,
}

impl Mark {
    /// What the last run left; none where there is no file, or it is of another boot, whose serials say nothing of this one's.
    pub(super) fn read(path: &Path, boot_id: &str) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(FILE_LIMIT).read_to_string(&mut text)?;
        let mark = Self::parse(&text).ok_or(io::ErrorKind::InvalidData)?;
        Ok((mark.boot_id == boot_id).then_some(mark))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        if words.next()? != VERSION {
            return None;
        }
        let boot_id = words.next()?.to_owned();
        let mark = Self {
            boot_id,
            stamp: Stamp {
                time: TimeMs(words.next()?.parse().ok()?),
                serial: Serial(words.next()?.parse().ok()?),
            },
            lost: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(mark)
    }

    /// Writes it beside the file and puts it in the file's place, so that there is always a whole one.
    fn write(&self, path: &Path) -> io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let Stamp { time, serial } = self.stamp;
        let (boot_id, lost) = (&self.boot_id, self.lost);
        let mut file = File::create(&beside)?;
        writeln!(file, "{VERSION} {boot_id} {} {} {lost}", time.0, serial.0)?;
        fs::rename(&beside, path)
    }

    fn of(account: &Account, boot_id: &str) -> Option<Self> {
        Some(Self {
            boot_id: boot_id.to_owned(),
            stamp: account.serials.furthest?,
            lost: account.kernel.status?.lost,
        })
    }
}

/// Keeps the file up to date until there are no more accounts.
pub(super) async fn keep(
    path: PathBuf,
    boot_id: String,
    mut accounts: watch::Receiver<Arc<Account>>,
) {
    let mut kept = None;
    let mut failed = false;
    loop {
        let ended = accounts.changed().await.is_err();
        let mark = Mark::of(&accounts.borrow_and_update(), &boot_id);
        if let Some(mark) = mark.filter(|mark| kept.as_ref() != Some(mark)) {
            let to = path.clone();
            kept = Some(mark.clone());
            let written = tokio::task::spawn_blocking(move || mark.write(&to)).await;
            if let Ok(Err(error)) = written
                && !failed
            {
                failed = true;
                let path = path.display();
                tracing::warn!(%error, %path, "the state file cannot be written; what is missed until the next start will not be told");
            }
        }
        if ended {
            return;
        }
        tokio::time::sleep(KEEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            boot_id: "0b9f3a52-7d7a-4c35-9f0e-4d9a4f0f6c11".to_owned(),
            stamp: Stamp {
                time: TimeMs(1_700_000_000_123),
                serial: Serial(u32::MAX),
            },
            lost: 7,
        }
    }

    #[test]
    fn a_mark_is_read_back_in_the_same_boot_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(Mark::read(&path, "any").unwrap(), None);
        mark().write(&path).unwrap();
        let read = |boot_id: &str| Mark::read(&path, boot_id).unwrap();
        assert_eq!(read(&mark().boot_id), Some(mark()));
        assert_eq!(read("another"), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        for text in [
            "",
            "\n",
            "1 boot 5 6",
            "1 boot 5 6 7",
            "1 boot 5 6 7 8\n",
            "2 boot 5 6 7\n",
            "1 boot 5 4294967296 7\n",
            "1 boot -5 6 7\n",
        ] {
            assert_eq!(Mark::parse(text), None, "{text:?}");
        }
        assert!(Mark::parse("1 boot 5 6 7\n").is_some());
    }
}
