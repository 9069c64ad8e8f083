//! The order of rule files and of their lines, as augenrules(8) makes it.

use std::cmp::Ordering;

use super::place::{Place, SourceLine};

/// Lines in the order they are loaded in.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    /// The lines that count.
    pub(super) lines: Vec<SourceLine>,
    /// Lines another line stands in for, with that line's place.
    pub(super) replaced: Vec<(SourceLine, Place)>,
}

/// Of `-D` alone, `-b`, `-f` and `-e` the last line of each counts. The first three begin, `-e` ends; the rest stays in
/// its order.
pub(super) fn arrange(lines: Vec<SourceLine>) -> Arranged {
    const LEADING: [Kind; 3] = [Kind::DeleteAll, Kind::Backlog, Kind::Failure];
    let mut kept: [Option<SourceLine>; 4] = Default::default();
    let mut rest = Vec::new();
    let mut former = Vec::new();
    for line in lines {
        match kind(&line.text) {
            Kind::Rest => rest.push(line),
            kind => former.extend(kept[kind as usize].replace(line).map(|line| (kind, line))),
        }
    }
    let replaced = former
        .into_iter()
        .filter_map(|(kind, line)| {
            let last = kept[kind as usize].as_ref()?;
            Some((line, last.place.clone()))
        })
        .collect();
    let mut arranged: Vec<_> = LEADING
        .into_iter()
        .filter_map(|kind| kept[kind as usize].take())
        .collect();
    arranged.append(&mut rest);
    arranged.extend(kept[Kind::Enabled as usize].take());
    Arranged {
        lines: arranged,
        replaced,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    DeleteAll,
    Backlog,
    Failure,
    Enabled,
    Rest,
}

fn kind(text: &[u8]) -> Kind {
    match text.trim_ascii() {
        b"-D" => Kind::DeleteAll,
        [b'-', b'b', ..] => Kind::Backlog,
        [b'-', b'f', ..] => Kind::Failure,
        [b'-', b'e', ..] => Kind::Enabled,
        _ => Kind::Rest,
    }
}

/// The order of `ls -v` (GNU coreutils manual, "Version sort ordering"): runs of digits compare as numbers, `~` comes
/// before everything, also before the end, letters before other characters; the endings of names count only where the
/// rest is equal.
pub(super) fn by_version(left: &[u8], right: &[u8]) -> Ordering {
    compare_parts(without_ending(left), without_ending(right))
        .then_with(|| compare_parts(left, right))
        .then_with(|| left.cmp(right))
}

/// The name without what the regular expression `(\.[A-Za-z~][A-Za-z0-9~]*)*$` takes off it.
fn without_ending(name: &[u8]) -> &[u8] {
    let mut stem = name;
    while let Some(dot) = stem.iter().rposition(|byte| *byte == b'.') {
        let is_ending = match &stem[dot + 1..] {
            [first, others @ ..] => {
                (first.is_ascii_alphabetic() || *first == b'~')
                    && others
                        .iter()
                        .all(|b| b.is_ascii_alphanumeric() || *b == b'~')
            }
            [] => false,
        };
        if !is_ending || dot == 0 {
            break;
        }
        stem = &stem[..dot];
    }
    stem
}

/// Compares runs of other characters and runs of digits in turn.
fn compare_parts(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        loop {
            let next = |text: &[u8]| text.first().copied().filter(|byte| !byte.is_ascii_digit());
            let (one, other) = (next(left), next(right));
            if one.is_none() && other.is_none() {
                break;
            }
            match weight(one).cmp(&weight(other)) {
                Ordering::Equal => (left, right) = (&left[1..], &right[1..]),
                unequal => return unequal,
            }
        }
        let (one, other) = (take_number(&mut left), take_number(&mut right));
        let order = one.len().cmp(&other.len()).then_with(|| one.cmp(other));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Where a character that is no digit sorts; none is the end, or a digit.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(letter),
        Some(other) => i32::from(other) + 256,
    }
}

/// Takes the digits off the front, and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    *text = rest;
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<SourceLine> {
        (1..)
            .zip(text.lines())
            .map(|(line, text)| SourceLine {
                place: Place {
                    file: Path::new("x").into(),
                    line,
                },
                text: text.as_bytes().into(),
            })
            .collect()
    }

    #[test]
    fn settings_are_where_augenrules_puts_them() {
        let arranged = arrange(lines(
            "-e 1\n-w /a\n-D\n-b 1\n -f 0\n--backlog_wait_time 5\n-b 2\n-e 2\n-D -k x\n\t-D \n-r 3",
        ));
        let order: Vec<_> = arranged.lines.iter().map(|line| line.place.line).collect();
        assert_eq!(order, [10, 7, 5, 2, 6, 9, 11, 8]);
        let replaced: Vec<_> = arranged
            .replaced
            .iter()
            .map(|(line, by)| (line.place.line, by.line))
            .collect();
        assert_eq!(replaced, [(4, 7), (1, 8), (3, 10)]);
    }

    #[test]
    fn names_are_in_natural_order() {
        let mut names = [
            "30-z.rules",
            "9-a.rules",
            "10-base.rules",
            "10-base-config.rules",
            "audit.rules",
            "99-finalize.rules",
            "010-x.rules",
            "Zeta.rules",
        ];
        names.sort_by(|a, b| by_version(a.as_bytes(), b.as_bytes()));
        assert_eq!(
            names,
            [
                "9-a.rules",
                "10-base.rules",
                "10-base-config.rules",
                "010-x.rules",
                "30-z.rules",
                "99-finalize.rules",
                "Zeta.rules",
                "audit.rules",
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_order_is_that_of_ls(names in proptest::collection::hash_set("[a0-9~._Z-]{1,8}\\.rules", 2..40)) {
            let folder = tempfile::tempdir().unwrap();
            let mut names: Vec<String> =
                names.into_iter().filter(|name| !name.starts_with('.')).collect();
            for name in &names {
                File::create(folder.path().join(name)).unwrap();
            }
            names.sort_by(|a, b| by_version(a.as_bytes(), b.as_bytes()));
            let listed = Command::new("ls").arg("-1v").arg(folder.path()).output().unwrap();
            let listed = std::ffi::OsString::from_vec(listed.stdout).into_string().unwrap();
            prop_assert_eq!(names, listed.lines().collect::<Vec<_>>());
        }
    }
}
