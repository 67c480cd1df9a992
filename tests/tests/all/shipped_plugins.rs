//! Tests each shipped plugin in front of an app, with its own manifest. Never tests every decision
//! of a plugin; its own tests do.

use isopod_tests::{Answer, Ask, Bundle, Host, Shown, guest, guests::repository, plugins::shipped_plugin};
use serde_json::json;

/// A token of `ada`, issued by `https://id.example.org` for `shop`, which expires in 2100. The key is
/// in `plugins/require-jwt/tests`.
pub(crate) const RS256: &str = "\
    eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEiLCJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUub3JnIiwiYXVkIjoic2hvcCIsImV\
    4cCI6NDEwMjQ0NDgwMH0.rc9jD4Kmx3X_yXGWzj0Ie5PmMW0MS5AElC_qcTvO168XnVA5s5YuLdq8gvvu91oJevRIBdSKr3qHgRF\
    ZmgCVryWG3xiGktDxghIpaxjbsvR-mZhKIQBScy17R4nr1eMlGamM2cXSlGnd7btDGOyaeOQUJdw9scPr1dyyr392fvGK1c3ygrq\
    HtMgq14HsGQClKGndC9crjJT7xqO2CqkkcXUsQguBsxyW0jcTpLnILzx07OXuBKrxNZjE6v5yvZCcKNwefDSh0sq_F6N5vq1guoj\
    eCLXfknTinIdiXe9G7mRY5UlXExXhlqO3r0pr4E2aiLZk8zjRKubVFRxN5H-nDA";

/// The same claims, signed with [`SECRET`].
const HS256: &str = "\
    eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEiLCJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUub3JnIiwiYXVkIjoic2hvcCIsImV\
    4cCI6NDEwMjQ0NDgwMH0.19bHBvSHeJTBRzhBlLKGPc4KP5Rz83lPaU7nsz6gwH8";

const SECRET: &str = "a secret of the tests, 32 bytes long";

/// Starts a host with a plugin of `plugins/` and the example `probe-flat`, which uses it with this
/// config.
fn host_with(plugin: &str, config: &str) -> Host {
    let host = Host::start();
    host.installed(&shipped_plugin(plugin, ""));
    host.deploy("probe-flat", app(plugin, config));
    host
}

fn app(plugin: &str, config: &str) -> Bundle {
    let manifest = format!("name = \"probe-flat\"\n[[middleware]]\nuse = \"{plugin}\"\nconfig = {config}\n");
    Bundle::archive(&manifest, &guest("probe-flat"))
}

/// A change of a flag is a new release of the provider, and of no app.
#[test]
fn feature_flags_are_set_for_an_app_or_a_share_of_its_users() {
    let host = Host::start();
    host.installed(&shipped_plugin("feature-flags", ""));
    let manifest =
        "name = \"flagged\"\n[grants.interfaces]\n\"isopod-plugins:feature-flags/reader@0.1.0\" = \"feature-flags\"\n";
    host.deploy("flagged", Bundle::archive(manifest, &guest("flagged")));
    let on = || (0..40).filter(|user| is_new(&host.get("flagged", &format!("/?user={user}")))).count();
    assert_eq!(on(), 0, "an unknown flag is off");
    for (rules, few, many) in [("other=on, off", 0, 0), ("flagged=50%, off", 5, 35), ("on", 40, 40)] {
        host.set_config("feature-flags", &json!({ "FLAG_NEW_CHECKOUT": rules })).expect(200);
        assert!((few..=many).contains(&on()), "{rules}: {}", on());
    }
    assert_eq!(host.show("flagged")["release"], 1);
}

fn is_new(answer: &Answer) -> bool {
    answer.text() == "the new checkout"
}

#[test]
fn cors_answers_preflight_requests_and_lets_pages_of_its_origins_read_responses() {
    let page = "https://app.example.org";
    let host = host_with("cors", &format!("{{ origins = [\"{page}\"], methods = [\"PUT\"], max_age = \"10m\" }}"));
    let preflight = Ask::new("OPTIONS", "/show").header("origin", page).header("access-control-request-method", "PUT");
    let answer = host.app("probe-flat", preflight).expect(204);
    let seen = ["origin", "methods"].map(|name| answer.header(&format!("access-control-allow-{name}")));
    assert_eq!(seen, [Some(page), Some("PUT")]);
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    for (origin, permitted) in [(page, Some(page)), ("https://other.example", None)] {
        let answer = host.app("probe-flat", Ask::get("/show").header("origin", origin)).expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), permitted, "{answer}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{answer}");
    }
    let refused = [("{ origins = [\"*\"], credentials = true }", "can't contain"), ("{ origin = [] }", "`origins`")];
    for (config, fault) in refused {
        let (code, reason) = host.deploy_failing("probe-flat", &app("cors", config));
        assert!(code == "plugin-config" && reason.contains(fault), "{code}: {reason}");
    }
    assert_eq!(host.plugin("cors")["used_by"], json!(["probe-flat"]));
}

#[test]
fn require_jwt_passes_the_subject_of_a_valid_token_and_refuses_other_requests() {
    let key = std::fs::read_to_string(repository().join("plugins/require-jwt/tests/rsa.pub.pem")).unwrap();
    let rules = "issuer = \"https://id.example.org\", audience = \"shop\"";
    let host = host_with("require-jwt", &format!("{{ key = {key:?}, {rules} }}"));
    let send = |token: &str| {
        let ask = Ask::get("/show").header("authorization", format!("Bearer {token}")).header("x-jwt-subject", "root");
        host.app("probe-flat", ask)
    };
    let subject = |answer: Answer| Shown::read(&answer.expect(200).text()).header("x-jwt-subject").map(str::to_owned);
    assert_eq!(subject(send(RS256)).as_deref(), Some("ada"));
    let unsigned = &RS256[..RS256.rfind('.').unwrap()];
    for token in [HS256, unsigned, "x"] {
        let answer = send(token).expect(401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{answer}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer}");
    }
    let answer = host.get("probe-flat", "/show").expect(401);
    assert_eq!((answer.header("www-authenticate"), &answer.json()["status"]), (Some("Bearer"), &json!(401)));
    host.set_config("require-jwt", &json!({"JWT_SECRET": {"secret": SECRET}})).expect(200);
    host.deploy("probe-flat", app("require-jwt", &format!("{{ secret_var = \"JWT_SECRET\", {rules} }}")));
    assert_eq!(subject(send(HS256)).as_deref(), Some("ada"));
    send(RS256).expect(401);
    host.set_config("require-jwt", &json!({"SHORT": {"secret": "too short"}})).expect(200);
    for (config, fault) in [
        ("{ jwks_uri = \"x\" }", "`jwks_url`"),
        ("{ secret_var = \"MISSING\" }", "no config var MISSING"),
        ("{ secret_var = \"SHORT\" }", "SHORT is shorter than 32 bytes"),
    ] {
        let (code, reason) = host.deploy_failing("probe-flat", &app("require-jwt", config));
        assert!(code == "plugin-config" && reason.contains(fault) && !reason.contains("too short"), "{code}: {reason}");
    }
}
