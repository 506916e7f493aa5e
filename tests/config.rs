//! The settings file: what is read, what is refused, and in which words.
//!
//! Each file in `fixtures/config/valid` must be read with the warnings in `NAME.warnings`; each one
//! in `invalid` must be refused with the lines in `NAME.errors`. `FILE` stands for its path.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use proptest::prelude::*;

use tailover::config::options::{find, OPTIONS};
use tailover::config::{
    load, parse, uci, Cure, ExternalIp, Host, Mark, Settings, Target, Url, Warning,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/config")
        .join(name)
}

/// The fixtures of a folder; there must be some.
fn fixtures(folder: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(fixture(folder))
        .expect("the folder of fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_none())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures in {folder}");
    paths
}

fn expected(path: &Path, extension: &str) -> String {
    fs::read_to_string(path.with_extension(extension)).unwrap_or_default()
}

fn lines(warnings: &[Warning], path: &Path) -> String {
    warnings
        .iter()
        .map(|warning| format!("{warning}\n").replace(&path.display().to_string(), "FILE"))
        .collect()
}

fn main_with(line: &str) -> String {
    format!("config tailover 'main'\n\t{line}\n")
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

#[test]
fn valid_files_are_read_with_the_expected_warnings() {
    for path in fixtures("valid") {
        let (_, warnings) = load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            lines(&warnings, &path),
            expected(&path, "warnings"),
            "{path:?}"
        );
    }
}

#[test]
fn invalid_files_are_refused_with_every_error_they_have() {
    for path in fixtures("invalid") {
        let error = load(&path).expect_err("an invalid file").to_string();
        let text = error.replace(&path.display().to_string(), "FILE") + "\n";
        assert_eq!(text, expected(&path, "errors"), "{path:?}");
    }
}

#[test]
fn every_option_reaches_its_place() {
    let (settings, _) = load(&fixture("valid/all-options")).expect("a valid file");
    let url = |tls, host, port, path: &str| Url {
        tls,
        host,
        port,
        path: path.to_owned(),
    };
    let ip = |text: &str| Host::Ip(text.parse().expect("an address"));
    let name = |text: &str| Host::Name(text.to_owned());
    let expected = Settings {
        enabled: false,
        log_level: LevelFilter::Debug,
        uplinks: vec!["wan".to_owned(), "wwan".to_owned()],
        metered: vec!["eth0.2@lan-15chars".to_owned()],
        targets: vec![
            Target::Derp,
            Target::Tcp {
                host: ip("2001:4860:4860::8888"),
                port: 53,
            },
            Target::Tcp {
                host: name("resolver.example"),
                port: 5353,
            },
            Target::Http(url(false, ip("192.0.2.1"), 8080, "/generate_204")),
            Target::Http(url(true, ip("2001:db8::1"), 443, "/up?x=1")),
            Target::Http(url(true, name("status.example"), 443, "/")),
        ],
        external_ip: vec![
            ExternalIp::Stun,
            ExternalIp::Http(url(false, ip("192.0.2.9"), 80, "/ip")),
        ],
        interval: seconds(10.0),
        other_interval: seconds(120.5),
        settle: seconds(0.0),
        probe_timeout: seconds(0.25),
        tcp_timeout: seconds(1.0),
        tls_timeout: seconds(2.0),
        http_timeout: seconds(4.125),
        hold: seconds(0.0),
        cures: vec![Cure::Steer, Cure::Restart],
        restart_min: seconds(5.0),
        restart_max: seconds(5.0),
        restarts_per_hour: 0,
        service: "tailscale-vpn".to_owned(),
        socket: "/tmp/a b.sock".into(),
        ubus_socket: "/tmp/ubus.sock".into(),
        mark: Mark {
            value: 0x80000,
            mask: 0x80000,
        },
        mmx_mask: 0xff00,
        priority: 500,
        table: 30000,
        protocol: 150,
        state_dir: "/tmp/tailover".into(),
        history: Some("/etc/tailover/history".into()),
        ca_file: Some("/etc/ssl/ca.pem".into()),
    };
    assert_eq!(settings, expected);
}

#[test]
fn the_fixture_that_sets_every_option_does_so() {
    let text = fs::read(fixture("valid/all-options")).expect("the fixture");
    let (sections, _) = uci::parse(&text);
    let items: Vec<&uci::Item> = sections.iter().flat_map(|section| &section.items).collect();
    for option in OPTIONS {
        assert!(
            items.iter().any(|item| item.name == option.name),
            "{} is missing",
            option.name
        );
    }
}

#[test]
fn later_lines_win_and_lists_grow() {
    let (settings, _) = load(&fixture("valid/odd-but-legal")).expect("a valid file");
    assert_eq!(settings.interval, seconds(50.0));
    assert_eq!(settings.hold, seconds(7.0));
    assert_eq!(settings.uplinks, ["wan", "wan6", "lte"]);
    assert_eq!(settings.settle, Settings::default().settle);
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let settings = Settings::default();
    assert!(settings.enabled);
    assert_eq!(settings.log_level, LevelFilter::Info);
    let targets: Vec<String> = settings.targets.iter().map(Target::to_string).collect();
    assert_eq!(targets, ["derp", "tcp:8.8.8.8:53", "tcp:1.1.1.1:53"]);
    let ipify = Url::parse("https://api.ipify.org?format=json").expect("a URL");
    assert_eq!(ipify.path, "/?format=json");
    assert_eq!(
        settings.external_ip,
        [ExternalIp::Stun, ExternalIp::Http(ipify)]
    );
    assert_eq!(settings.settle, Duration::from_millis(200));
    assert_eq!(settings.hold, seconds(30.0));
    assert_eq!(settings.cures, Cure::ALL);
    assert_eq!(settings.mark.to_string(), "0x80000/0xff0000");
    assert_eq!(settings.mmx_mask, 0x3f00);
    assert_eq!((settings.priority, settings.table), (990, 17400));
    assert_eq!(settings.protocol, 122);
    assert_eq!(settings.ca_file, None);
}

#[test]
fn every_default_is_a_value_that_the_file_may_have() {
    for option in OPTIONS {
        let word = if option.kind.is_list() {
            "list"
        } else {
            "option"
        };
        let text: String = option
            .default
            .iter()
            .map(|value| format!("\t{word} {} '{value}'\n", option.name))
            .collect();
        let (settings, warnings) =
            parse("t", main_with("") + &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings, Settings::default(), "{}", option.name);
        assert_eq!(warnings, [], "{}", option.name);
    }
}

#[test]
fn option_names_are_unique() {
    for (index, option) in OPTIONS.iter().enumerate() {
        let first = OPTIONS.iter().position(|other| other.name == option.name);
        assert_eq!(first, Some(index), "{}", option.name);
        assert!(find(option.name).is_some());
    }
    assert!(find("colour").is_none());
}

#[test]
fn the_ends_of_every_range_are_allowed_and_the_next_values_are_not() {
    let cases = [
        ("interval", "1", "3600", "0.999", "3600.001"),
        ("other_interval", "1", "86400", "0.999", "86400.001"),
        ("settle", "0", "10", "-0", "10.001"),
        ("tcp_timeout", "0.1", "60", "0.099", "60.001"),
        ("hold", "0", "86400", "", "86400.001"),
        ("restarts_per_hour", "0", "60", "-1", "61"),
        ("priority", "3", "998", "2", "999"),
        ("table", "256", "65000", "255", "65001"),
        ("protocol", "100", "185", "99", "186"),
    ];
    for (name, low, high, below, above) in cases {
        let read = |value: &str| parse("t", main_with(&format!("option {name} '{value}'")));
        assert!(read(low).is_ok() && read(high).is_ok(), "{name}");
        assert!(below.is_empty() || read(below).is_err(), "{name} {below}");
        assert!(read(above).is_err(), "{name} {above}");
    }
}

#[test]
fn external_addresses_can_be_off() {
    let (settings, _) = parse("t", main_with("option external_ip 'off'")).expect("valid");
    assert_eq!(settings.external_ip, []);
}

#[test]
fn a_missing_file_gives_the_defaults_and_a_warning() {
    let path = fixture("there-is-none");
    let (settings, warnings) = load(&path).expect("the defaults");
    assert_eq!(settings, Settings::default());
    assert_eq!(
        lines(&warnings, &path),
        "FILE: is not there: every option has its default\n"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let error = load(&fixture("valid")).expect_err("a folder").to_string();
    assert!(error.contains("valid: cannot be read: "), "{error}");
    let error = load(Path::new("/dev/zero")).expect_err("too long");
    assert_eq!(
        error.to_string(),
        "/dev/zero: cannot be read: longer than 262144 bytes"
    );
}

/// Text that is nearly UCI, which plain random bytes would never be.
fn near_uci() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("config tailover 'main'\n".to_owned()),
        Just("\toption ".to_owned()),
        Just("\tlist ".to_owned()),
        (0..OPTIONS.len()).prop_map(|index| format!("{} ", OPTIONS[index].name)),
        proptest::sample::select(vec![
            "'",
            "\"",
            "\\",
            "\n",
            ";",
            "#",
            " ",
            "\r\n",
            "0",
            "1",
            "3600",
            "tcp:[::1]:53",
            "http://",
            "https:https://a/",
            "0x80000/0xff0000",
            "derp",
            "stun",
            "off",
            "é"
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = parse("t", &bytes);
    }

    #[test]
    fn anything_near_uci_is_read_or_refused_with_lines_that_exist(text in near_uci()) {
        let last = text.lines().count() + 1;
        match parse("t", &text) {
            Ok((settings, warnings)) => {
                prop_assert!(!settings.targets.is_empty() && !settings.cures.is_empty());
                prop_assert!(settings.restart_min <= settings.restart_max);
                prop_assert_eq!(settings.mark.mask & settings.mmx_mask, 0);
                prop_assert!(warnings.iter().all(|warning| warning.line <= last));
            }
            Err(error) => {
                prop_assert!(!error.0.is_empty());
                prop_assert!(error.0.iter().all(|problem| (1..=last).contains(&problem.line)));
                prop_assert_eq!(error.to_string().lines().count(), error.0.len());
            }
        }
    }

    #[test]
    fn any_value_comes_back_from_single_quotes(value in "[^']*") {
        let text = format!("config a\n\toption b '{value}'\n");
        let (sections, errors) = uci::parse(text.as_bytes());
        prop_assert_eq!(errors, []);
        let values: Vec<&str> = sections
            .iter()
            .flat_map(|section| &section.items)
            .map(|item| item.value.as_str())
            .collect();
        prop_assert_eq!(values, [value.as_str()]);
    }

    #[test]
    fn a_target_reads_back_what_it_writes(text in "(tcp:|http://|https://)[a-z0-9.:\\[\\]]{1,24}(/[a-z?=]{0,8})?") {
        if let Some(target) = Target::parse(&text) {
            prop_assert_eq!(Target::parse(&target.to_string()), Some(target));
        }
    }
}
