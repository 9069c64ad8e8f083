//! Rules, printed and read again.
//!
//! Rules as they are read: the architecture first, the key last, as it is printed. A rule that a program made may
//! have an order no line can say.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::comparisons::COMPARISON_MAX;
use super::super::fields::{Kind, kind, lists, operators};
use super::*;
use crate::audit::rules::{Condition, SYSCALL_LIMIT, Watched};

/// A host on which what begins with `/d` is a directory.
struct Directories;

impl Host for Directories {
    fn user_id(&self, _: &str) -> Option<u32> {
        None
    }

    fn group_id(&self, _: &str) -> Option<u32> {
        None
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path.starts_with(b"/d")
    }
}

/// Text without what splits a condition in two, and not ending with a slash.
fn text() -> impl Strategy<Value = String> {
    r#"[ "-%'-;?-~ä日]{0,20}["-%'-.0-;?-~ä日]"#
}

fn string(field: Field) -> BoxedStrategy<String> {
    match field {
        Field::DIR => text().prop_map(|text| format!("/d{text}")).boxed(),
        Field::WATCH | Field::EXE => text().prop_map(|text| format!("/f{text}")).boxed(),
        Field::FILTERKEY => vec(text(), 1..4)
            .prop_map(|keys| keys.join("\u{1}"))
            .boxed(),
        _ => text().boxed(),
    }
}

fn number(field: Field) -> BoxedStrategy<u32> {
    match kind(field) {
        Kind::Arch => {
            let known: Vec<_> = Arch::names().filter_map(Arch::named).collect();
            select(known).prop_map(|arch| arch.0).boxed()
        }
        Kind::Permissions => (1..=15_u32).boxed(),
        Kind::FileType => (0..=15_u32).prop_map(|bits| bits << 12).boxed(),
        Kind::Family => (0..46_u32).boxed(),
        Kind::Result => prop_oneof![-200..200_i32, any::<i32>()]
            .prop_map(i32::cast_unsigned)
            .boxed(),
        Kind::Number(max) => {
            let small = max.min(300);
            prop_oneof![0..=small, 0..=max, Just(max)].boxed()
        }
        Kind::MessageType => prop_oneof![1000..2600_u32, 0..u32::MAX].boxed(),
        // -1 is no id and no file system.
        _ => prop_oneof![0..2000_u32, 0..u32::MAX].boxed(),
    }
}

fn condition(field: Field) -> BoxedStrategy<Condition> {
    let operator = select(operators(field));
    if field.has_string() {
        (operator, string(field))
            .prop_map(move |(operator, text)| Condition {
                field,
                operator,
                value: text.len() as u32,
                string: Some(text.into_bytes().into()),
            })
            .boxed()
    } else {
        let low = u32::from(field == Field::FIELD_COMPARE);
        (operator, number(field))
            .prop_map(move |(operator, value)| Condition {
                field,
                operator,
                value: value.max(low),
                string: None,
            })
            .boxed()
    }
}

fn conditions(list: FilterList) -> impl Strategy<Value = Vec<Condition>> {
    // Which stand at most once, or only at one end.
    let once = [
        Field::WATCH,
        Field::DIR,
        Field::INODE,
        Field::EXE,
        Field::FILTERKEY,
        Field::ARCH,
    ];
    let several: Vec<_> = Field::NAMED
        .iter()
        .copied()
        .filter(|field| lists(*field).contains(&list) && !once.contains(field))
        .filter(|field| {
            *field != Field::FIELD_COMPARE
                || matches!(list, FilterList::EXIT | FilterList::URING_EXIT)
        })
        .collect();
    let one_of = |fields: &[Field]| {
        let fields: Vec<_> = fields
            .iter()
            .copied()
            .filter(|field| lists(*field).contains(&list))
            .collect();
        if fields.is_empty() {
            return Just(Vec::new()).boxed();
        }
        vec(select(fields).prop_flat_map(condition), 0..=1).boxed()
    };
    // On other lists a key needs something to be put on.
    let key = match list {
        FilterList::EXIT | FilterList::URING_EXIT => one_of(&[Field::FILTERKEY]),
        _ => Just(Vec::new()).boxed(),
    };
    let parts = (
        one_of(&[Field::ARCH]),
        one_of(&[Field::WATCH, Field::DIR, Field::INODE]),
        vec(select(several).prop_flat_map(condition), 0..8),
        one_of(&[Field::EXE]),
        key,
    );
    parts.prop_map(|(arch, path, several, exe, mut key)| {
        for key in &mut key {
            key.operator = Operator::EQUAL;
        }
        [arch, path, several, exe, key].concat()
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let lists = select(vec![
        FilterList::EXIT,
        FilterList::EXIT,
        FilterList::URING_EXIT,
        FilterList::TASK,
        FilterList::USER,
        FilterList::EXCLUDE,
        FilterList::FILESYSTEM,
    ]);
    let action = prop_oneof![Just(Action::Never), Just(Action::Always)];
    let calls = vec(0..SYSCALL_LIMIT - 16, 0..6);
    (lists, action, calls)
        .prop_flat_map(|(list, action, calls)| (Just((list, action, calls)), conditions(list)))
        .prop_map(|((list, action, calls), conditions)| {
            let mut rule = Rule::new(list, action);
            rule.conditions = conditions;
            match list {
                FilterList::TASK => {}
                FilterList::EXIT | FilterList::URING_EXIT if !calls.is_empty() => {
                    for call in calls {
                        rule.set_syscall(call);
                    }
                }
                _ => rule = rule.all_syscalls(),
            }
            rule
        })
}

fn read_again(text: &str) -> Result<Rule, Vec<Fault>> {
    let line = parse_line(text.as_bytes(), &Directories)?;
    match line.directives.as_slice() {
        [Directive::Add { rule, .. }] => Ok(rule.clone()),
        other => panic!("{text}: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_rule_that_is_printed_is_read_as_the_same(rule in rule()) {
        let text = rule.to_string();
        prop_assert_eq!(read_again(&text), Ok(rule), "{}", text);
    }

    #[test]
    fn a_watch_that_is_printed_is_read_as_the_same(
        path in text(), is_directory in any::<bool>(), permissions in 1..=15_u32, keys in vec(text(), 0..3),
    ) {
        let path = format!("/{}{path}", if is_directory { "d" } else { "f" });
        let watched = match is_directory {
            true => Watched::Directory(path.as_bytes()),
            false => Watched::Path(path.as_bytes()),
        };
        let mut rule = Rule::watch(watched, Permissions(permissions));
        if !keys.is_empty() {
            rule = rule.key(keys.join("\u{1}"));
        }
        let text = rule.to_string();
        prop_assert!(text.starts_with("-w "), "{}", text);
        prop_assert_eq!(read_again(&text), Ok(rule), "{}", text);
    }

    #[test]
    fn no_line_makes_reading_panic(line in vec(any::<u8>(), 0..200)) {
        let _ = parse_line(&line, &Directories);
    }

    #[test]
    fn no_words_make_reading_panic(
        parts in vec(prop_oneof![
            select(WORDS).prop_map(|word| word.to_owned()),
            "[ -~]{0,12}",
        ], 0..12),
    ) {
        let arguments: Vec<_> = parts.iter().map(String::as_bytes).collect();
        let length = arguments.iter().map(|word| word.len() + 1).sum::<usize>();
        if let Err(faults) = parse_arguments(&arguments, &Directories) {
            prop_assert!(!faults.is_empty());
            for fault in faults {
                prop_assert!(fault.span.start <= fault.span.end && fault.span.end <= length);
            }
        }
    }
}

/// Words that bring a line further than chance does.
const WORDS: &[&str] = &[
    "-a",
    "always,exit",
    "never,exclude",
    "-A",
    "-d",
    "-S",
    "open,all,99999",
    "-F",
    "uid>=1000",
    "arch=b32",
    "path=/etc",
    "perm=wa",
    "key=k",
    "-C",
    "uid!=euid",
    "-w",
    "/etc",
    "-p",
    "rwxa",
    "-k",
    "key",
    "-D",
    "-e",
    "1",
    "-b",
    "-1",
    "--",
    "--reset",
    "--backlog_wait_time",
    "--signal=HUP",
    "-l",
    "-i",
    "-m",
    "-q",
    "/a,/b",
    "-R",
    "-st",
];

#[test]
fn comparisons_of_every_number_are_read_again() {
    for number in 1..=COMPARISON_MAX {
        let rule = Rule::always_exit().all_syscalls().condition(
            Field::FIELD_COMPARE,
            Operator::NOT_EQUAL,
            number,
        );
        assert_eq!(read_again(&rule.to_string()), Ok(rule));
    }
}
