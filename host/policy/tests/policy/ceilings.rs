//! The ceiling on what releases may ask for, and the comparison of grants.

use std::net::IpAddr;

use isopod_policy::ceiling::{Asked, Bytes, Ceiling, Excess, FolderCeiling, named};
use isopod_policy::{Access, AppName, AppType, Grants, HttpGrant, Limits, MiddlewareUse};
use proptest::prelude::*;
use serde_json::{Value, json};

fn grants(value: &Value) -> Grants {
    serde_json::from_value(value.clone()).expect("valid grants")
}

fn uses(plugin: &str) -> MiddlewareUse {
    MiddlewareUse::new(plugin.parse().expect("a reference"))
}

fn ceiling(text: &str) -> Ceiling {
    toml::from_str(text).expect("a valid ceiling")
}

fn excesses(ceiling: &Ceiling, grants: &Grants) -> Vec<String> {
    let asked = Asked { grants, middleware: &[], limits: &Limits::default(), app_type: AppType::Dev };
    ceiling.check(&asked).iter().map(ToString::to_string).collect()
}

#[test]
fn the_usual_ceiling_refuses_private_and_metadata_addresses_only() {
    let asked = json!({ "http": ["*", "api.github.com", "8.8.8.8", "127.0.0.1:9000", "localhost:80", "10.0.0.1",
                                 "[::1]:80", "169.254.169.254", "[::ffff:169.254.169.254]:80"],
                        "files": { "data": "read-write" }, "keyvalue": true, "events": ["billing"] });
    let private = |host: &str| format!("http \"{host}\" (a private address)");
    let metadata = |host: &str| format!("http \"{host}\" (a metadata service)");
    let expected = [
        private("127.0.0.1:9000"),
        private("localhost:80"),
        private("10.0.0.1"),
        private("[::1]:80"),
        metadata("169.254.169.254"),
        metadata("169.254.169.254:80"),
    ];
    assert_eq!(excesses(&Ceiling::usual(), &grants(&asked)), expected);
    assert_eq!(excesses(&Ceiling::default(), &grants(&asked)), expected[4..], "no setting allows metadata services");
}

#[test]
fn hosts_are_compared_with_the_listed_patterns() {
    let limited =
        ceiling("http = [\"*.example.org\", \"api.github.com:443\", \"127.0.0.1:9000\"]\nprivate_addresses = false");
    for (host, is_within) in [
        ("a.example.org", true),
        ("a.example.org:8443", true),
        ("*.b.example.org", true),
        ("*.example.org:1", true),
        ("example.org", false),
        ("xexample.org", false),
        ("*", false),
        ("api.github.com:443", true),
        ("api.github.com", false),
        ("127.0.0.1:9000", true),
        ("127.0.0.1:9001", false),
        ("localhost:9000", false),
    ] {
        let found = excesses(&limited, &grants(&json!({ "http": [host] })));
        assert_eq!(found.is_empty(), is_within, "{host}: {found:?}");
    }
    let all_public = ceiling("http = [\"*\"]");
    assert!(excesses(&all_public, &grants(&json!({ "http": ["*:8443", "8.8.8.8:1"] }))).is_empty());
    let found = excesses(&all_public, &grants(&json!({ "http": ["intranet"] })));
    assert_eq!(found, ["http \"intranet\" (allowed: *)"]);
}

#[test]
fn every_excess_is_named_with_its_ceiling() {
    let limited = ceiling(
        "files = \"read-only\"\nkeyvalue = false\nevents = [\"crm\"]\nmiddleware = [\"cors\"]\nmemory = \"64MiB\"\n\
         instances = 10\ntypes = [\"dev\", \"staging\"]",
    );
    let wide = grants(&json!({ "files": { "data": "read-write", "in": "read-only" }, "keyvalue": true,
                               "events": ["billing", "crm"] }));
    let limits = Limits { memory_bytes: 128 << 20, instances_max: 11, ..Limits::default() };
    let uses = ["jwt", "cors", "jwt"].map(uses);
    let asked = Asked { grants: &wide, middleware: &uses, limits: &limits, app_type: AppType::Production };
    assert_eq!(
        named(&limited.check(&asked)),
        "files data = \"read-write\" (folders are read-only), keyvalue (no key-value data), events \"billing\" \
         (allowed: crm), middleware \"jwt\" (allowed: cors), memory 128MiB (at most 64MiB), instances_max 11 (at most \
         10), type production (allowed: dev, staging)"
    );
    let without = Asked { middleware: &uses[1..2], ..asked };
    let added = limited.check_change(&asked, Some(&without));
    assert_eq!(named(&added), "middleware \"jwt\" (allowed: cors)", "the rest is part of the current release");
    let kept = Asked { limits: &Limits { memory_bytes: 256 << 20, ..limits.clone() }, ..asked };
    assert_eq!(limited.check_change(&asked, Some(&kept)), [], "the current release keeps what it has");
}

#[test]
fn own_settings_take_precedence_over_those_of_the_host() {
    let host = ceiling("keyvalue = false\nmemory = \"1GiB\"\nprivate_addresses = false");
    let own = ceiling("keyvalue = true\nhttp = [\"10.0.0.5:5432\"]");
    let both = host.with(&own);
    assert_eq!((both.keyvalue, both.memory, both.private_addresses), (Some(true), Some(Bytes(1 << 30)), Some(false)));
    assert!(excesses(&both, &grants(&json!({ "http": ["10.0.0.5:5432"], "keyvalue": true }))).is_empty());
    assert_eq!(host.with(&Ceiling::default()), host);
}

#[test]
fn invalid_ceilings_are_refused_with_the_reason() {
    for (text, why) in [
        ("http = [\"http://x/\"]", "without scheme and path"),
        ("http = [\"a*.example.org\"]", "'*' must be alone"),
        ("http = [\"169.254.169.254\"]", "metadata service"),
        ("http = \"*\"", "sequence"),
        ("files = \"write\"", "read-write"),
        ("memory = 64", "string"),
        ("memory = \"64MB\"", "unknown unit"),
        ("types = [\"test\"]", "production"),
        ("instances = -1", "-1"),
        ("private = true", "private_addresses"),
        ("events = [\"A b\"]", "lowercase"),
    ] {
        let error = toml::from_str::<Ceiling>(text).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let many = vec!["a.example.org"; 300];
    assert!(serde_json::from_value::<Ceiling>(json!({ "http": many })).is_err());
    assert!(serde_json::from_value::<Ceiling>(json!({ "events": vec!["crm"; 300] })).is_err());
    assert!(serde_json::from_value::<Ceiling>(json!({ "types": vec!["dev"; 300] })).is_err());
    let written = json!({ "http": ["*.example.org"], "memory": "64MiB", "files": "none" });
    let read: Ceiling = serde_json::from_value(written.clone()).expect("a valid ceiling");
    assert_eq!((serde_json::to_value(&read).expect("it is JSON"), read.files), (written, Some(FolderCeiling::None)));
}

const HOSTS: [&str; 16] = [
    "*",
    "*:8443",
    "*.example.org",
    "*.a.example.org",
    "*.example.org:443",
    "a.example.org",
    "b.a.example.org:8443",
    "a.example.org:80",
    "api.github.com",
    "localhost:9000",
    "intranet",
    "127.0.0.1:9000",
    "10.0.0.1",
    "8.8.8.8",
    "169.254.169.254",
    "[::1]:80",
];

fn some_hosts() -> impl Strategy<Value = Vec<HttpGrant>> {
    prop::sample::subsequence(HOSTS.to_vec(), 0..5)
        .prop_map(|hosts| hosts.into_iter().map(|host| host.parse().expect("a host")).collect())
}

fn some_apps() -> impl Strategy<Value = Vec<AppName>> {
    prop::sample::subsequence(vec!["billing", "crm"], 0..=2)
        .prop_map(|apps| apps.into_iter().map(|app| app.parse().expect("a name")).collect())
}

fn some_grants() -> impl Strategy<Value = Grants> {
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let files = prop::collection::btree_map("[ab]", access, 0..3);
    let interfaces = some_apps().prop_map(|providers| {
        let granted = |provider: AppName| (format!("a:b/{provider}").parse().expect("a name"), provider.into());
        providers.into_iter().map(granted).collect()
    });
    (some_hosts(), files, any::<bool>(), some_apps(), interfaces)
        .prop_map(|(http, files, keyvalue, events, interfaces)| Grants { http, files, keyvalue, events, interfaces })
}

fn some_limits() -> impl Strategy<Value = Limits> {
    (1_u64..9, 1_u32..20).prop_map(|(memory, instances_max)| Limits {
        memory_bytes: memory << 20,
        instances_max,
        ..Limits::default()
    })
}

fn some_ceiling() -> impl Strategy<Value = Ceiling> {
    let hosts = prop::option::of(some_hosts().prop_filter_map("no metadata", |hosts| hosts.try_into().ok()));
    let files = prop_oneof![Just(FolderCeiling::None), Just(FolderCeiling::ReadOnly), Just(FolderCeiling::ReadWrite)];
    let flag = || prop::option::of(any::<bool>());
    let types = prop::option::of(prop::sample::subsequence(AppType::ALL.to_vec(), 0..=3));
    (
        (hosts, flag(), prop::option::of(files), flag(), prop::option::of(some_apps())),
        (prop::option::of(1_u64..9), prop::option::of(1_u32..20), types, flag()),
        (prop::option::of(some_apps()), prop::option::of(some_apps())),
    )
        .prop_map(
            |((http, private_addresses, files, keyvalue, events), (memory, instances, types, approve), plugins)| {
                let (providers, middleware) = plugins;
                Ceiling {
                    http,
                    private_addresses,
                    files,
                    keyvalue,
                    events,
                    providers,
                    middleware,
                    memory: memory.map(|memory| Bytes(memory << 20)),
                    instances,
                    types,
                    approve,
                }
            },
        )
}

/// Returns a part of the grants: every second one, and folders without writing.
fn part(grants: &Grants) -> Grants {
    Grants {
        http: grants.http.iter().step_by(2).cloned().collect(),
        files: grants.files.keys().map(|name| (name.clone(), Access::ReadOnly)).collect(),
        keyvalue: false,
        events: grants.events.iter().skip(1).cloned().collect(),
        interfaces: grants.interfaces.clone().into_iter().skip(1).collect(),
    }
}

const ADDRESSES: [&str; 5] = ["8.8.8.8", "127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"];

/// Returns whether a request to this host may reach this address.
fn reaches(grants: &Grants, host: &str, port: u16, address: IpAddr) -> bool {
    grants.allows_http(host, port, false).is_some_and(|reach| reach.admits(address))
}

proptest! {
    #[test]
    fn a_smaller_request_never_exceeds_more(
        ceiling in some_ceiling(), grants in some_grants(), limits in some_limits(), smaller in 0_u64..9,
    ) {
        let asked = Asked { grants: &grants, middleware: &[], limits: &limits, app_type: AppType::Dev };
        let less_grants = part(&grants);
        let memory_bytes = limits.memory_bytes.min(smaller << 20);
        let less_limits = Limits { memory_bytes, instances_max: limits.instances_max.div_ceil(2), ..limits.clone() };
        let less = Asked { grants: &less_grants, middleware: &[], limits: &less_limits, app_type: AppType::Dev };
        let more = ceiling.check(&asked);
        prop_assert!(ceiling.check(&less).len() <= more.len());
        prop_assert!(!more.is_empty() || ceiling.check(&less).is_empty());
        prop_assert_eq!(ceiling.check_change(&less, Some(&asked)), vec![], "a part of the current release is kept");
    }

    #[test]
    fn a_change_is_judged_by_what_it_adds(ceiling in some_ceiling(), now in some_grants(), then in some_grants()) {
        let limits = Limits::default();
        let asked = |grants| Asked { grants, middleware: &[], limits: &limits, app_type: AppType::Staging };
        let (now, then) = (asked(&now), asked(&then));
        prop_assert_eq!(ceiling.check_change(&then, None), ceiling.check(&then));
        prop_assert!(ceiling.check_change(&then, Some(&now)).len() <= ceiling.check(&then).len());
        prop_assert_eq!(ceiling.check_change(&then, Some(&then)), vec![]);
    }

    #[test]
    fn a_metadata_service_exceeds_every_ceiling(ceiling in some_ceiling()) {
        let grants = grants(&json!({ "http": ["169.254.169.254"] }));
        let asked = Asked { grants: &grants, middleware: &[], limits: &Limits::default(), app_type: AppType::Dev };
        let names_it = |excess: &Excess| matches!(excess, Excess::Grant { why, .. } if why.contains("metadata"));
        prop_assert!(ceiling.check(&asked).iter().any(names_it));
    }

    #[test]
    fn grants_that_do_not_widen_reach_nothing_more(before in some_grants(), after in some_grants()) {
        prop_assert_eq!(before.beyond(&before), vec![]);
        if after.beyond(&before).is_empty() {
            for host in ["a.example.org", "b.a.example.org", "api.github.com", "localhost", "intranet", "other.net"] {
                for (port, address) in [80, 443, 8443, 9000].into_iter().zip(ADDRESSES.iter().cycle()) {
                    let address = address.parse().expect("an address");
                    prop_assert!(!reaches(&after, host, port, address) || reaches(&before, host, port, address));
                }
            }
            let pairs = ADDRESSES.iter().flat_map(|address| [80, 443, 8443, 9000].map(|port| (address, port)));
            for (address, port) in pairs {
                let ip = address.parse().expect("an address");
                prop_assert!(!reaches(&after, address, port, ip) || reaches(&before, address, port, ip), "{address}");
            }
        }
    }
}
