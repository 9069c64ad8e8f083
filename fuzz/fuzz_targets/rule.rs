//! Any bytes as a line of a rule file: no panic, faults lie in the line, and a rule that is read is printed as a line
//! that is read as a rule which is printed alike.
//!
//! `cargo fuzz run -s none rule` runs it with the pinned toolchain.
#![no_main]

use collector::audit::language::{Directive, Host, LINE_LIMIT, parse_arguments, parse_line};
use collector::audit::rules::{Field, FilterList, Placement, Rule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let words: Vec<_> = data.split(|byte| *byte == b'\n').collect();
    let length = data.len() + 1;
    for result in [parse_line(data, &Anyone), parse_arguments(&words, &Anyone)] {
        match result {
            Ok(line) => {
                for warning in &line.warnings {
                    assert!(warning.span.start <= warning.span.end && warning.span.end <= length);
                }
                for directive in &line.directives {
                    if let Directive::Add { rule, .. } | Directive::Delete { rule } = directive {
                        round(rule);
                    }
                }
            }
            Err(faults) => {
                assert!(!faults.is_empty());
                for fault in faults {
                    assert!(fault.span.start <= fault.span.end && fault.span.end <= length);
                    assert!(
                        !fault.to_string().contains(char::is_control),
                        "forged a line"
                    );
                }
            }
        }
    }
});

fn round(rule: &Rule) {
    let bytes = rule
        .encode(Placement::Last)
        .expect("what is read fits the layout");
    assert_eq!(Rule::decode(&bytes).as_ref(), Ok(rule));
    let text = rule.to_string();
    assert!(!text.contains(char::is_control), "forged a line");
    if !can_be_said(rule, &text) {
        return;
    }
    let line = parse_line(text.as_bytes(), &Anyone).expect("what was printed is read");
    let [Directive::Add { rule: again, .. }] = line.directives.as_slice() else {
        panic!("{text} is not one rule");
    };
    assert_eq!(again.to_string(), text);
}

/// Whether a line can say all of a rule. It cannot say bytes that are not printable, nor what looks like an operator in
/// the value of a field; and on lists for which system calls are not said, neither what depends on one.
fn can_be_said(rule: &Rule, text: &str) -> bool {
    let names_calls = matches!(rule.list, FilterList::EXIT | FilterList::URING_EXIT);
    let sayable = |byte: &u8| matches!(byte, b' '..=b'~') && !b"=!<>&".contains(byte);
    text.len() <= LINE_LIMIT
        && rule.keys().all(|key| !key.is_empty())
        && rule.conditions.iter().all(|condition| {
            let string = condition.string.as_deref().unwrap_or_default();
            match condition.field {
                Field::FILTERKEY => {
                    names_calls && string.iter().all(|byte| *byte == 1 || sayable(byte))
                }
                Field::PERM => names_calls,
                _ => string.iter().all(sayable),
            }
        })
}

/// A host where every name is that of somebody, and every other path a directory.
struct Anyone;

impl Host for Anyone {
    fn user_id(&self, name: &str) -> Option<u32> {
        Some(name.len() as u32)
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        Some(name.len() as u32)
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path.len() % 2 == 0
    }
}
