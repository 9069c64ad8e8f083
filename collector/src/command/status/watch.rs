//! One answer after the other in the same place, as watch(1) does.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use terminal_size::{Height, Width, terminal_size};

/// Where answers are shown.
pub(super) enum Screen {
    /// Each in the place of the last.
    Terminal {
        /// How long each stands.
        pause: Duration,
    },
    /// One below the other.
    Plain,
}

impl Screen {
    pub(super) const fn of(is_terminal: bool, pause: Duration) -> Self {
        match is_terminal {
            true => Self::Terminal { pause },
            false => Self::Plain,
        }
    }

    pub(super) fn show(&self, text: &str, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Plain => writeln!(out, "{text}"),
            Self::Terminal { pause } => {
                let seconds = pause.as_secs();
                let heading = format!("audit-collector status, every {seconds} s");
                let size = terminal_size().map(|(Width(columns), Height(rows))| (columns, rows));
                out.write_all(frame(&heading, text, size).as_bytes())
            }
        }
    }
}

/// What draws `text` over the last answer: no more of it than the terminal has room for, so that it does not scroll.
fn frame(heading: &str, text: &str, size: Option<(u16, u16)>) -> String {
    let (columns, rows) = size.unwrap_or((80, 24));
    let lines: Vec<&str> = [heading, ""].into_iter().chain(text.lines()).collect();
    // The cursor stands in the last row.
    let room = usize::from(rows.max(2)) - 1;
    let hidden = lines.len().saturating_sub(room);
    let shown = lines.len() - hidden;
    let mut frame = String::from("\x1b[H");
    for (number, line) in lines.iter().take(shown).enumerate() {
        let last = hidden > 0 && number + 1 == shown;
        let more = format!("… and {} lines more", hidden + 1);
        let line = if last { more.as_str() } else { line };
        for character in line.chars().take(usize::from(columns)) {
            frame.push(character);
        }
        let _ = writeln!(frame, "\x1b[K");
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_says_what_it_leaves_out() {
        let text = "one\ntwo is long\nthree\nfour\n";
        assert_eq!(
            frame("head", text, Some((6, 6))),
            "\x1b[Hhead\x1b[K\n\x1b[K\none\x1b[K\ntwo is\x1b[K\n… and \x1b[K\n\x1b[J"
        );
        let whole = frame("head", text, Some((80, 24)));
        assert!(whole.contains("four\x1b[K\n\x1b[J"), "{whole:?}");
        let tiny = frame("head", text, Some((80, 1)));
        assert_eq!(tiny.lines().count(), 2, "{tiny:?}");
    }

    #[test]
    fn elsewhere_answers_stand_below_each_other() {
        let mut out = Vec::new();
        let screen = Screen::of(false, Duration::from_secs(2));
        screen.show("a\n", &mut out).unwrap();
        screen.show("b\n", &mut out).unwrap();
        assert_eq!(out, b"a\n\nb\n\n");
    }
}
