//! `replay`: an audit log or a capture through the same core as `run`.
//!
//! Time is that of the input: an event of a log times out when the log has moved on, so that a replay gives the same
//! lines on every machine.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account::Account;
use crate::audit::capture::{self, CaptureReadError, CaptureReader, Frame};
use crate::audit::message::Kind;
use crate::audit::reassemble::{self, EventEnd};
use crate::audit::record::Record;
use crate::clock::{KtimeNs, RealtimeOffset, TimeMs};
use crate::core::{Core, CoreConfig};
use crate::output::render::Renderer;
use crate::probe::texts::TextMirror;
use crate::verify::Sampling;

/// The longest line of a log that is read as one, in bytes; longer ones are cut there and what is left counts as malformed.
const LINE_LIMIT: usize = 1 << 20;
/// How many lines pass between two looks at what has timed out.
const LINES_PER_TICK: u64 = 256;
/// A stamp this far behind the newest begins another log, not a late record.
const ANOTHER_LOG: Duration = Duration::from_secs(3_600);

/// Why a replay ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The input could not be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The input.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The capture is not one, or is damaged.
    #[error("cannot read capture {}", path.display())]
    Capture {
        /// The input.
        path: PathBuf,
        /// What is wrong with it.
        source: CaptureReadError,
    },
    /// The output could not be written.
    #[error("cannot write the output")]
    Write(#[source] io::Error),
}

/// Reads `path` (`-` is standard input) to its end and writes its events to `out`.
///
/// # Errors
/// Where the input cannot be read or the output cannot be written; lines that are no records are counted, not errors.
pub fn run(path: &Path, renderer: Renderer, out: &mut impl Write) -> Result<Account, ReplayError> {
    let read = |source| ReplayError::Read {
        path: path.to_owned(),
        source,
    };
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(read)?)
    };
    let mut input = BufReader::with_capacity(1 << 18, input);
    let captured = capture::is_capture(input.fill_buf().map_err(read)?);
    // auditd leaves the end-of-event records out of its logs.
    let end = if captured {
        EventEnd::EndOfEvent
    } else {
        EventEnd::Proctitle
    };
    let reassembly = reassemble::Limits {
        end,
        ..reassemble::Limits::default()
    };
    let config = CoreConfig {
        source: "replay",
        reassembly,
        reorder_window: Duration::from_secs(5),
        began: TimeMs(0),
        // There are no observations.
        verify: Sampling::PerSecond(0),
        texts: TextMirror::Off,
    };
    let mut replay = Replay {
        core: Core::new(&config, RealtimeOffset(0)),
        renderer,
        line: Vec::new(),
        now: KtimeNs(0),
    };
    if captured {
        replay.capture(input, path, out)?;
    } else {
        replay.log(input, path, out)?;
    }
    replay.core.finish(replay.now);
    replay.write(out)?;
    out.flush().map_err(ReplayError::Write)?;
    let mut account = Account::default();
    replay
        .core
        .account(TimeMs(replay.now.0 / 1_000_000), &mut account);
    Ok(account)
}

struct Replay {
    core: Core,
    renderer: Renderer,
    line: Vec<u8>,
    now: KtimeNs,
}

impl Replay {
    fn log(
        &mut self,
        mut input: impl BufRead,
        path: &Path,
        out: &mut impl Write,
    ) -> Result<(), ReplayError> {
        let mut line = Vec::new();
        let mut lines = 0_u64;
        loop {
            line.clear();
            read_line(&mut input, &mut line).map_err(|source| ReplayError::Read {
                path: path.to_owned(),
                source,
            })?;
            if line.is_empty() {
                return Ok(());
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let mut now = self.now;
            let mut another = false;
            self.core.log_line(&line, |record| {
                let stamp = instant(record);
                another = now.since(stamp) > ANOTHER_LOG;
                now = if another { stamp } else { now.max(stamp) };
                now
            });
            self.now = now;
            lines += 1;
            if another || lines.is_multiple_of(LINES_PER_TICK) {
                self.core.tick(self.now, RealtimeOffset(0));
                self.write(out)?;
            }
        }
    }

    fn capture(
        &mut self,
        input: impl BufRead,
        path: &Path,
        out: &mut impl Write,
    ) -> Result<(), ReplayError> {
        let error = |source| ReplayError::Capture {
            path: path.to_owned(),
            source,
        };
        let mut reader = CaptureReader::new(input).map_err(error)?;
        let mut offset = reader.header().offset;
        while let Some(frame) = reader.next() {
            match frame.map_err(error)? {
                Frame::Clock {
                    offset: stepped, ..
                } => offset = stepped,
                Frame::Datagram(captured) => {
                    self.now = self.now.max(captured.arrived);
                    if let Some(datagram) = captured.datagram()
                        && datagram.kind() == Kind::Record
                    {
                        self.core
                            .datagram(datagram.message_type, datagram.payload, self.now);
                    }
                    reader.recycle(captured);
                }
            }
            self.core.tick(self.now, offset);
            self.write(out)?;
        }
        Ok(())
    }

    fn write(&mut self, out: &mut impl Write) -> Result<(), ReplayError> {
        let mut written = Ok(());
        self.core.each_output(|output| {
            self.line.clear();
            self.renderer.render(output, &mut self.line);
            if written.is_ok() {
                written = out.write_all(&self.line);
            }
        });
        written.map_err(ReplayError::Write)
    }
}

/// Appends to `line` what comes up to the next line end, that included, and not more than [`LINE_LIMIT`] makes room for;
/// nothing at the end of the input. As [`BufRead::read_until`], whose search is a slower one.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    while line.len() < LINE_LIMIT {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let room = LINE_LIMIT - line.len();
        let available = &available[..available.len().min(room)];
        let end = memchr::memchr(b'\n', available).map(|at| at + 1);
        let taken = end.unwrap_or(available.len());
        line.extend_from_slice(&available[..taken]);
        input.consume(taken);
        if end.is_some() || taken == 0 {
            break;
        }
    }
    Ok(())
}

fn instant(record: &Record<'_>) -> KtimeNs {
    KtimeNs(record.stamp.time.0.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whole_across_the_buffer_and_cut_at_the_limit() {
        let long = vec![b'x'; LINE_LIMIT];
        let text = [&b"one\n\n"[..], &long, b"rest\nlast"].concat();
        let mut input = BufReader::with_capacity(7, text.as_slice());
        let mut next = || {
            let mut line = Vec::new();
            read_line(&mut input, &mut line).unwrap();
            line
        };
        assert_eq!(next(), b"one\n");
        assert_eq!(next(), b"\n");
        assert!(next() == long);
        assert_eq!(next(), b"rest\n");
        assert_eq!(next(), b"last");
        assert_eq!(next(), b"");
    }
}
