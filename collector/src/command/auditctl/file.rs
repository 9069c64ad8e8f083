//! `auditctl -R`: a file of rules, line by line.

use std::io::Write;
use std::path::Path;

use super::{Auditctl, DONE, FILE_FAILED, Failure};
use crate::audit::language::{self, Directive};
use crate::command::held_signals;
use crate::ruleset::source::{self, Trust};
use crate::ruleset::{LocalHost, OnError};

impl<O: Write, E: Write> Auditctl<'_, O, E> {
    /// Follows each line of the file until one fails; with `-i` or `-c` in it, to the end.
    pub(super) fn read_file(&mut self, path: &Path) -> u8 {
        held_signals::hold();
        match self.client().and_then(|client| Ok(client.status()?)) {
            Ok(status) if status.enabled != 2 => {}
            Ok(_) => {
                self.say(&Failure::Locked.to_string());
                return DONE;
            }
            Err(failure) => {
                self.say(&failure.to_string());
                return match failure.is_no_failure_for_rules() {
                    true => DONE,
                    false => FILE_FAILED,
                };
            }
        }
        let lines = match source::read_file(path, Trust::Root) {
            Ok(lines) => lines,
            Err(error) => {
                self.say(&error.to_string());
                return FILE_FAILED;
            }
        };
        let mut on_error = OnError::Restore;
        let mut failed = false;
        for source in &lines {
            let place = &source.place;
            let result = match language::parse_line(&source.text, &LocalHost) {
                Ok(line) => {
                    for directive in &line.directives {
                        match directive {
                            Directive::ContinueOnErrors => on_error = OnError::Continue,
                            Directive::IgnoreErrors if on_error == OnError::Restore => {
                                on_error = OnError::Ignore;
                            }
                            _ => {}
                        }
                    }
                    self.follow(&line)
                        .map_err(|failure| self.say(&failure.to_string()))
                }
                Err(faults) => {
                    for fault in faults {
                        self.say(&fault.to_string());
                    }
                    Err(())
                }
            };
            if result.is_err() {
                let file = path.display();
                self.say(&format!(
                    "There was an error in line {} of {file}",
                    place.line
                ));
                failed = true;
                if on_error == OnError::Restore {
                    return FILE_FAILED;
                }
            }
        }
        match failed && on_error != OnError::Ignore {
            true => FILE_FAILED,
            false => DONE,
        }
    }
}
