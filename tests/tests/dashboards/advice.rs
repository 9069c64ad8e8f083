//! What alerts, runbooks and panels tell people to run and to read is there.

use std::fs;
use std::path::Path;

use audit_collector_tests::{example, grafana};
use clap::{CommandFactory as _, Parser as _};
use collector::cli::Cli;
use serde_json::Value;

const PROGRAM: &str = "audit-collector";
/// What manages services, and the services that others bring. The repository has no unit of its own to name.
const MANAGERS: [&str; 2] = ["systemctl", "journalctl"];
const UNITS_OF_OTHERS: [&str; 1] = ["auditd"];

/// A text for people: where it stands, and its words.
type Text = (String, String);

fn runbooks() -> Vec<Text> {
    let entries = fs::read_dir(grafana::folder().join("runbooks")).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn annotations() -> Vec<Text> {
    let rules = example::rules("alerts.yml").unwrap();
    let of_rule = |rule: &Value| {
        let place = rule["alert"].as_str().unwrap().to_owned();
        let texts = rule["annotations"].as_object().unwrap().values();
        let texts: Vec<Text> = texts
            .map(|text| (place.clone(), text.as_str().unwrap().to_owned()))
            .collect();
        texts
    };
    rules.iter().flat_map(of_rule).collect()
}

fn descriptions() -> Vec<Text> {
    let boards = grafana::Dashboard::all().unwrap();
    let panels = boards
        .iter()
        .flat_map(|board| board.0["panels"].as_array().unwrap());
    panels
        .filter_map(|panel| {
            let text = |name: &str| Some(panel[name].as_str()?.to_owned());
            Some((text("title")?, text("description")?))
        })
        .collect()
}

fn texts() -> Vec<Text> {
    [runbooks(), annotations(), descriptions()].concat()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Each option of the program and of its commands, with its dashes.
fn options() -> Vec<String> {
    let mut commands = vec![Cli::command()];
    let mut options = Vec::new();
    while let Some(command) = commands.pop() {
        let names = command.get_arguments().filter_map(|one| one.get_long());
        options.extend(names.map(|name| format!("--{name}")));
        commands.extend(command.get_subcommands().cloned());
    }
    options
}

#[test]
fn every_command_that_is_named_can_be_given() {
    let options = options();
    let (mut wrong, mut n_commands) = (Vec::new(), 0);
    for (place, text) in texts() {
        for code in quoted(&text) {
            let words: Vec<&str> = code.split_whitespace().collect();
            match words[..] {
                [PROGRAM, _, ..] => {
                    n_commands += 1;
                    if let Err(error) = Cli::try_parse_from(&words) {
                        wrong.push(format!("{place}: {code}: {error}"));
                    }
                }
                [option, ..] if option.starts_with("--") => {
                    let option = option.split('=').next().unwrap();
                    if !options.iter().any(|known| known == option) {
                        wrong.push(format!("{place}: {code} is no option"));
                    }
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_commands > 30, "{n_commands} commands were found");
}

#[test]
fn a_command_that_cannot_be_given_is_found() {
    for wrong in [
        "rules check",
        "set --backlog-limits 1",
        "explain",
        "status --who",
    ] {
        let words = [PROGRAM].into_iter().chain(wrong.split_whitespace());
        assert!(Cli::try_parse_from(words).is_err(), "{wrong}");
    }
}

#[test]
fn no_service_is_named_that_nobody_brings() {
    let mut wrong = Vec::new();
    for (place, text) in texts() {
        for code in quoted(&text) {
            let mut words = code.split_whitespace();
            if !words.next().is_some_and(|word| MANAGERS.contains(&word)) {
                continue;
            }
            let unit = words.next_back().unwrap_or_default();
            if !UNITS_OF_OTHERS.contains(&unit) {
                wrong.push(format!("{place}: {code}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_alert_says_what_is_wrong_where_and_what_to_read() {
    for rule in example::rules("alerts.yml").unwrap() {
        let name = rule["alert"].as_str().unwrap();
        let text = |name: &str| rule["annotations"][name].as_str().unwrap_or_default();
        let (summary, description) = (text("summary"), text("description"));
        assert!(
            summary.contains("$labels.instance") || summary.contains("$labels.cluster"),
            "{name}: {summary}"
        );
        assert!(
            !summary.ends_with('.') && description.ends_with('.'),
            "{name}"
        );
        let (_, runbook) = text("runbook_url").rsplit_once("/dashboards/").unwrap();
        assert_eq!(runbook, format!("runbooks/{name}.md"));
        check_link(&grafana::folder(), runbook, name);
    }
}

#[test]
fn links_between_runbooks_lead_somewhere() {
    for (place, text) in runbooks() {
        for part in text.split("](").skip(1) {
            let (target, _) = part.split_once(')').unwrap();
            check_link(&grafana::folder().join("runbooks"), target, &place);
        }
    }
}

/// `target` is a file below `folder`, and has the heading that is asked for behind `#`.
fn check_link(folder: &Path, target: &str, place: &str) {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let text = fs::read_to_string(folder.join(file))
        .unwrap_or_else(|error| panic!("{place}: {target}: {error}"));
    let mut headings = text.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#').strip_prefix(' ')?;
        line.starts_with('#')
            .then(|| heading.to_lowercase().replace(' ', "-"))
    });
    assert!(
        anchor.is_empty() || headings.any(|heading| heading == anchor),
        "{place}: {target} has no such heading"
    );
}
