//! Tests the HTML pages that a browser gets where a program gets a problem document.

use isopod_tests::{Answer, Ask, Bundle, Host};

fn browse(host: &Host, app: &str, path: &str) -> Answer {
    host.app(app, Ask::get(path).header("accept", "text/html,application/xhtml+xml,*/*;q=0.8"))
}

/// The page contains the text of the problem, with markup escaped.
#[test]
fn a_browser_gets_a_page_and_programs_get_a_problem() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    host.deploy("still", Bundle::shape(&[]));
    host.stop_app("still");
    for (app, path, status, code) in [
        ("nobody", "/", 404, "unknown-app"),
        // The special characters that a host name may contain; others are rejected before a page is
        // rendered.
        ("&amp'i", "/", 404, "unknown-app"),
        ("<i>&{{hint}}", "/", 400, "bad-host"),
        ("v9--shop", "/", 404, "unknown-part"),
        ("shop", "/trap", 502, "app-failed"),
        ("still", "/", 503, "app-unavailable"),
    ] {
        let problem = host.get(app, path).problem(status, code);
        let page = browse(&host, app, path).expect(status);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{page}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{page}");
        assert_eq!(page.header("retry-after").is_some(), status == 503, "{page}");
        let text = page.text();
        for part in ["title", "detail"] {
            let words = problem[part].as_str().expect("a problem has it");
            let shown = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('{', "&#123;");
            assert!(text.contains(&shown), "{shown}: {page}");
        }
        assert!(page.header("x-request-id").is_some_and(|id| text.contains(id)), "{page}");
        assert!(!text.contains("<i>") && !text.contains("{{"), "{page}");
    }
    host.app("shop", Ask::post("/trap").header("accept", "text/html")).problem_of("shop", 502, "app-failed");
    assert_eq!(browse(&host, "shop", "/").expect(200).text(), "v1 ", "an app's own responses are unchanged");
}
