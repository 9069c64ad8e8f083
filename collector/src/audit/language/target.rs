//! The list and the action of a rule: `-a`, `-A`, `-d`.

use super::fault::{Fault, shown};
use super::words::Word;
use crate::audit::rules::{Action, FilterList};

/// `list,action` or `action,list`.
pub(super) fn list_and_action(value: &Word) -> Result<(FilterList, Action), Fault> {
    let mut parts = value.text.split(|byte| *byte == b',');
    let (Some(first), Some(second), None) = (parts.next(), parts.next(), parts.next()) else {
        let what = format!("`{}` is not a list and an action", shown(&value.text));
        return Err(Fault::new(value.span(), what).suggest("write `always,exit`"));
    };
    let (mut list, mut action) = (None, None);
    let mut at = 0;
    for part in [first, second] {
        let span = value.span_of(at..at + part.len());
        at += part.len() + 1;
        let twice = match part {
            b"always" => action.replace(Action::Always).is_some(),
            b"never" => action.replace(Action::Never).is_some(),
            b"possible" => {
                let fault = Fault::new(span, "there is no action `possible` any more");
                return Err(fault.suggest("write `always`"));
            }
            b"entry" => {
                let fault = Fault::new(span, "there is no list `entry` any more");
                return Err(fault.suggest("write `exit`"));
            }
            _ => {
                let name = String::from_utf8_lossy(part);
                let Some(found) = LISTS.into_iter().find(|list| list.name() == name) else {
                    let what = format!("`{}` is neither a list nor an action", shown(part));
                    let names = LISTS.into_iter().map(FilterList::name);
                    let known = names.chain(["always", "never"]);
                    return Err(Fault::new(span, what).suggest_name(&name, known));
                };
                list.replace(found).is_some()
            }
        };
        if twice {
            let what = "a list and an action are needed, not two of one kind";
            return Err(Fault::new(value.span(), what));
        }
    }
    match (list, action) {
        (Some(list), Some(action)) => Ok((list, action)),
        _ => Err(Fault::new(value.span(), "a list and an action are needed")),
    }
}

const LISTS: [FilterList; 6] = [
    FilterList::TASK,
    FilterList::EXIT,
    FilterList::USER,
    FilterList::EXCLUDE,
    FilterList::FILESYSTEM,
    FilterList::URING_EXIT,
];
