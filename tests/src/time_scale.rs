//! Prometheus's rules in quick motion: each duration in them divided by one number, so that a test sees within seconds what
//! takes minutes.
//!
//! Durations are what an alert waits for (`for`), the ranges of selectors (`[5m]`), how long ago something is asked for (`offset 1h`),
//! and ages in seconds (`time() - … > 300`, or `<`).

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The rule file `text` with every duration divided by `scale`.
///
/// # Errors
/// Where it has not the form of a rule file, or a duration that the number does not divide to milliseconds.
pub fn divide(text: &str, scale: u64) -> anyhow::Result<String> {
    let mut file: Value = serde_saphyr::from_str(text).context("not YAML")?;
    let groups = file["groups"].as_array_mut().context("no groups")?;
    for group in groups {
        for rule in group["rules"].as_array_mut().context("no rules")? {
            let expr = rule["expr"].as_str().context("a rule without expression")?;
            rule["expr"] = expression(expr, scale)?.into();
            if let Some(lasting) = rule.get("for").and_then(Value::as_str) {
                rule["for"] = duration(lasting, scale)?.into();
            }
        }
    }
    // Every JSON document is YAML.
    Ok(file.to_string())
}

fn expression(expr: &str, scale: u64) -> anyhow::Result<String> {
    let ranges = after_each(expr, "[", |rest| {
        let (range, rest) = rest.split_once(']').context("a range without an end")?;
        Ok(format!("{}]{rest}", duration(range, scale)?))
    })?;
    let offsets = after_each(&ranges, " offset ", |rest| {
        let end = rest.find(|character: char| !character.is_ascii_alphanumeric());
        let (offset, rest) = rest.split_at(end.unwrap_or(rest.len()));
        Ok(duration(offset, scale)? + rest)
    })?;
    after_each(&offsets, "time() - ", |rest| {
        let limit = rest.find(" > ").into_iter().chain(rest.find(" < ")).min();
        let limit = limit.context("an age without a limit")? + " > ".len();
        Ok(format!(
            "{}{}",
            &rest[..limit],
            seconds(&rest[limit..], scale)?
        ))
    })
}

/// `text` with what follows each `mark`, up to the next, as `divide` makes it.
fn after_each(
    text: &str,
    mark: &str,
    divide: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut parts = text.split(mark);
    let mut divided = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        divided += mark;
        divided += &divide(part)?;
    }
    Ok(divided)
}

/// `text` with the whole number of seconds that it begins with divided.
fn seconds(text: &str, scale: u64) -> anyhow::Result<String> {
    let end = text.find(|character: char| !character.is_ascii_digit());
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    let number: u64 = number.parse().context("a limit that is no whole number")?;
    let number = milliseconds(1_000 * number, scale)? as f64 / 1_000.0;
    Ok(format!("{number}{rest}"))
}

fn duration(text: &str, scale: u64) -> anyhow::Result<String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => anyhow::bail!("not a duration: {text}"),
    };
    let number: u64 = number
        .parse()
        .with_context(|| format!("not a duration: {text}"))?;
    Ok(format!("{}ms", milliseconds(number * unit * 1_000, scale)?))
}

fn milliseconds(whole: u64, scale: u64) -> anyhow::Result<u64> {
    ensure!(
        whole.is_multiple_of(scale),
        "{whole} ms is no multiple of {scale}"
    );
    Ok(whole / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_divided_and_nothing_else_is() {
        let rules = "groups:\n- name: a\n  rules:\n  - alert: B\n    for: 5m\n    labels: {x: 5m}\n    expr: >-\n      \
                     (time() - c > 300) and c > 0 or sum by (d) (increase(e[1h])) > 20\n";
        let divided: Value = serde_json::from_str(&divide(rules, 20).unwrap()).unwrap();
        let rule = &divided["groups"][0]["rules"][0];
        assert_eq!(rule["for"], "15000ms");
        assert_eq!(rule["labels"]["x"], "5m");
        assert_eq!(
            rule["expr"],
            "(time() - c > 15) and c > 0 or sum by (d) (increase(e[180000ms])) > 20"
        );
        for (whole, divided) in [
            (
                "(time() - a{b=\"c\"} < 300) and d",
                "(time() - a{b=\"c\"} < 15) and d",
            ),
            ("time() - a > 60 + 2 * b", "time() - a > 3 + 2 * b"),
            ("a offset 1h unless b", "a offset 180000ms unless b"),
        ] {
            assert_eq!(expression(whole, 20).unwrap(), divided);
        }
        assert!(divide(rules, 7).is_err());
        assert!(divide(&rules.replace("5m\n", "5y\n"), 20).is_err());
    }
}
