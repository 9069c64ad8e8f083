//! Measuring side by side: in every round each subject has its turn, forth in one round and back in the next, so that what
//! the machine does besides falls on all of them alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::figure::Figure;
use crate::report::{Column, Group, Ratio, Row, Target};

/// What one turn found, by the key of a column. What does not apply to a subject is left out.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// One of the things that are compared.
pub(crate) struct Subject<'a> {
    name: String,
    measure: Box<dyn FnMut() -> anyhow::Result<Sample> + 'a>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        measure: impl FnMut() -> anyhow::Result<Sample> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            measure: Box::new(measure),
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What ends in a few minutes.
    Usual,
    /// The whole matrix.
    Full,
}

/// What all benches of a run share.
pub(crate) struct Session {
    pub(crate) rounds: usize,
    pub(crate) extent: Extent,
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl Session {
    /// Has each subject measured once a round.
    pub(crate) fn alternate(
        &self,
        title: &str,
        columns: &[Column],
        mut subjects: Vec<Subject<'_>>,
    ) -> anyhow::Result<Group> {
        let began = Instant::now();
        let mut found: Vec<Vec<Sample>> = subjects.iter().map(|_| Vec::new()).collect();
        for round in 0..self.rounds {
            eprint!("\r  {title}: round {} of {} …", round + 1, self.rounds);
            let mut turns: Vec<usize> = (0..subjects.len()).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for turn in turns {
                ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
                let subject = &mut subjects[turn];
                let sample = (subject.measure)()
                    .with_context(|| format!("{title}: {} in round {}", subject.name, round + 1))?;
                found[turn].push(sample);
            }
        }
        eprintln!(
            "\r  {title}: {} rounds in {:.0} s",
            self.rounds,
            began.elapsed().as_secs_f64()
        );
        let rows = subjects
            .into_iter()
            .zip(found)
            .map(|(subject, samples)| Row {
                name: subject.name,
                figures: figures(columns, &samples),
            })
            .collect();
        Ok(Group {
            title: title.to_owned(),
            columns: columns.to_vec(),
            rows,
        })
    }
}

fn figures(columns: &[Column], samples: &[Sample]) -> BTreeMap<&'static str, Figure> {
    columns
        .iter()
        .filter_map(|column| {
            let values = samples.iter().filter_map(|sample| sample.get(column.key));
            Some((column.key, Figure::of(values.copied().collect())?))
        })
        .collect()
}

impl Group {
    fn measured(&self, name: &str, key: &str) -> Option<&Figure> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        row.figures.get(key)
    }

    /// A figure of `name`'s own that has a target. None where there is no such figure.
    pub(crate) fn figure(
        &self,
        what: impl Into<String>,
        key: &str,
        name: &str,
        decimals: usize,
        target: Target,
    ) -> Option<Ratio> {
        Some(Ratio {
            what: what.into(),
            figure: self.measured(name, key)?.clone(),
            decimals,
            target: Some(target),
        })
    }

    /// By how much the figures of `ours` exceed those of `theirs`, round by round. None where either has none.
    pub(crate) fn difference(
        &self,
        what: impl Into<String>,
        key: &str,
        ours: &str,
        theirs: &str,
        target: Option<Target>,
    ) -> Option<Ratio> {
        let difference = |ours, theirs| ours - theirs;
        self.compare(what.into(), key, [ours, theirs], difference, 0, target)
    }

    /// How the figures of `ours` compare with those of `theirs`, round by round. None where either has none.
    pub(crate) fn ratio(
        &self,
        what: impl Into<String>,
        key: &str,
        ours: &str,
        theirs: &str,
        target: Option<Target>,
    ) -> Option<Ratio> {
        let ratio = |ours, theirs| ours / theirs;
        self.compare(what.into(), key, [ours, theirs], ratio, 2, target)
    }

    fn compare(
        &self,
        what: String,
        key: &str,
        [ours, theirs]: [&str; 2],
        how: impl Fn(f64, f64) -> f64,
        decimals: usize,
        target: Option<Target>,
    ) -> Option<Ratio> {
        let ours = &self.measured(ours, key)?.samples;
        let each = ours.iter().zip(&self.measured(theirs, key)?.samples);
        Some(Ratio {
            what,
            figure: Figure::of(each.map(|(ours, theirs)| how(*ours, *theirs)).collect())?,
            decimals,
            target,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn session(rounds: usize) -> Session {
        Session {
            rounds,
            extent: Extent::Usual,
            interrupted: Arc::default(),
        }
    }

    #[test]
    fn subjects_take_turns_forth_and_back() {
        let turns = RefCell::new(String::new());
        let subject = |name: &'static str, value: f64| {
            let turns = &turns;
            Subject::new(name, move || {
                turns.borrow_mut().push_str(name);
                Ok(Sample::from([("x", value)]))
            })
        };
        let columns = [Column::new("x", "x", 0), Column::new("none", "-", 0)];
        let subjects = vec![subject("a", 1.0), subject("b", 4.0)];
        let group = session(3).alternate("t", &columns, subjects).unwrap();
        assert_eq!(*turns.borrow(), "abbaab");
        assert_eq!(group.rows[1].figures["x"].samples, [4.0; 3]);
        assert!(!group.rows[1].figures.contains_key("none"));
        let ratio = group.ratio("a of b", "x", "a", "b", None).unwrap();
        assert_eq!(ratio.figure.median, 0.25);
        assert!(group.ratio("", "x", "a", "nobody", None).is_none());
        let more = group.difference("b over a", "x", "b", "a", None);
        assert_eq!(more.unwrap().figure.median, 3.0);
    }

    #[test]
    fn an_interrupted_session_ends_before_the_next_turn() {
        let session = session(1);
        session.interrupted.store(true, Ordering::Relaxed);
        let subject = Subject::new("a", || panic!("had a turn"));
        assert!(session.alternate("t", &[], vec![subject]).is_err());
    }
}
