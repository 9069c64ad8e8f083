use std::path::Path;

use super::*;

fn refused(text: &str) -> String {
    Settings::from_toml(text, Path::new("c.toml"))
        .expect_err("the text is wrong")
        .to_string()
}

#[test]
fn the_defaults_are_what_the_help_says() {
    let config = Config::default();
    assert_eq!(config.audit.receive_buffer, 16 << 20);
    assert_eq!(config.merge.reassembly_timeout, Duration::from_secs(2));
    assert_eq!(config.account_interval, Some(Duration::from_secs(10)));
    let web = config.web.unwrap();
    assert_eq!(web.listen, [DEFAULT_LISTEN.parse().unwrap()]);
    assert_eq!(web.telemetry_path.as_str(), "/metrics");
}

#[test]
fn flags_win_over_the_file() {
    let file = Settings::from_toml("mode = \"daemon\"\nrate_limit = 7\n", Path::new("c")).unwrap();
    let flags = Settings {
        rate_limit: Some("9".parse().unwrap()),
        ..Settings::default()
    };
    let config = flags.over(file).resolve().unwrap();
    assert_eq!(config.audit.mode, Mode::Daemon);
    assert_eq!(config.audit.rate_limit, Some(9));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = refused("mode = \"daemon\"\n\nratelimit = 3\n");
    assert!(error.starts_with("c.toml:3: "), "{error}");
    assert!(error.contains("ratelimit"), "{error}");
}

#[test]
fn a_value_out_of_bounds_is_named_with_its_line_and_key() {
    assert_eq!(
        refused("# one\nmax_events = 3\n"),
        "c.toml:2: max_events: 3 is not between 16 and 1048576"
    );
    assert_eq!(
        refused("ebpf_ring_bytes = \"9GiB\"\n"),
        "c.toml:1: ebpf_ring_bytes: '9GiB' is not a size between 65536 and 1073741824 bytes"
    );
    let error = refused("mode = \"deamon\"\n");
    assert!(
        error.starts_with("c.toml:1: mode: unknown variant"),
        "{error}"
    );
    let error = refused("listen = \"9\"\n");
    assert!(
        error.starts_with("c.toml:1: listen: '9' is neither"),
        "{error}"
    );
    let error = refused("enable = 3\n");
    assert!(error.starts_with("c.toml:1: enable: "), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn broken_toml_is_one_line_with_its_place() {
    let error = refused("mode = \"daemon\"\nrate_limit = = 3\n");
    assert!(error.starts_with("c.toml:2: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn sizes_take_binary_units() {
    assert_eq!("64KiB".parse::<RingBytes>().unwrap().get(), 65_536);
    assert_eq!("1 MiB".parse::<RingBytes>().unwrap().get(), 1 << 20);
    assert!("64kb".parse::<RingBytes>().is_err());
    assert!("99999999999999GiB".parse::<RingBytes>().is_err());
    assert!("-1".parse::<RingBytes>().is_err());
}

#[test]
fn rules_may_be_compared_beside_another_daemon() {
    let text = "mode = \"multicast\"\nrules = [\"/etc/audit/rules.d\", \"/x\"]\n";
    let settings = Settings::from_toml(text, Path::new("c")).unwrap();
    assert_eq!(settings.resolve().unwrap().audit.rules.paths.len(), 2);
}

#[test]
fn a_key_that_would_be_two_is_refused() {
    let error = refused("rules_key = \"a\\u0001b\"\n");
    assert!(error.starts_with("c.toml:1: rules_key: "), "{error}");
    assert!(!error.contains('\u{1}'), "{error}");
    assert!("".parse::<RuleKey>().is_err());
    assert!("k".repeat(RuleKey::LONGEST + 1).parse::<RuleKey>().is_err());
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    let conflict = |text: &str| {
        Settings::from_toml(text, Path::new("c"))
            .unwrap()
            .resolve()
            .expect_err("the settings conflict")
            .to_string()
    };
    let error = conflict("mode = \"multicast\"\nrate_limit = 3");
    assert!(error.starts_with("rate_limit: mode multicast"), "{error}");
    let error = conflict("ebpf_ring_bytes = 100000");
    assert!(error.starts_with("ebpf_ring_bytes: "), "{error}");
    conflict("immutable = true\nenable = false");
    let error = conflict("rules_enforce = true");
    assert_eq!(error, "rules_enforce: there are no rules");
    let error = conflict("rules = [\"/r\"]\nexample_rules = true");
    assert!(error.starts_with("example_rules: "), "{error}");
    let error = conflict("mode = \"multicast\"\nrules = [\"/r\"]\nrules_key = \"k\"");
    assert!(error.starts_with("rules_key: mode multicast"), "{error}");
}

#[test]
fn the_example_file_parses_and_is_all_defaults_but_for_the_canary() {
    let text = include_str!("../../audit-collector.toml");
    let path = Path::new("audit-collector.toml");
    let mut config = Settings::from_toml(text, path).unwrap().resolve().unwrap();
    assert_eq!(config.canary.take(), Some(Duration::from_secs(60)));
    assert_eq!(config, Config::default());

    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter(|line| !line.starts_with(' '))
        .flat_map(|line| [line, "\n"])
        .collect();
    let settings = Settings::from_toml(&uncommented, path).unwrap();
    let absent: Vec<_> = format!("{settings:#?}")
        .lines()
        .filter(|line| line.ends_with(": None,"))
        .map(str::to_owned)
        .collect();
    assert!(absent.is_empty(), "not in the example file: {absent:?}");
}

#[test]
fn http_is_served_at_several_addresses_or_nowhere() {
    let web = |text: &str| Settings::from_toml(text, Path::new("c")).unwrap().resolve();
    assert_eq!(web("listen = \"off\"\n").unwrap().web, None);
    let several = web("web_listen_address = [\"127.0.0.1:1\", \":2\"]\n").unwrap();
    let listen: Vec<_> = several
        .web
        .unwrap()
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(listen, ["127.0.0.1:1", "[::]:2"]);
    let error = web("web_listen_address = [\"off\", \":2\"]\n").unwrap_err();
    assert!(
        error.to_string().starts_with("web_listen_address: "),
        "{error}"
    );
    for path in ["", "metrics", "/", "/-/ready", "/{a}", "/a b", "/a?b", "/*"] {
        let error = refused(&format!("web_telemetry_path = \"{path}\"\n"));
        assert!(error.contains("is not a path such as /metrics"), "{error}");
    }
}
