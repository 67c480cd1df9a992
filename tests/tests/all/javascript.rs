//! Tests responses of a JavaScript component: complete responses of any size, and responses that
//! its handler never ends.

use isopod_tests::{Ask, Bundle, Host, guests::guest_if_built};

#[test]
fn a_javascript_response_is_complete_or_a_problem() {
    let Some(component) = guest_if_built("probe-js") else { return };
    let host = Host::start();
    host.deploy("probe-js", Bundle::component(component));
    for size in [1, 65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577, 4_000_000] {
        for path in ["/whole", "/stream"] {
            let answer = host.get("probe-js", &format!("{path}?n={size}")).expect(200);
            assert_eq!(answer.text(), "x".repeat(size), "{path} of {size} bytes");
        }
        if size <= 1_048_577 {
            let echoed = host.app("probe-js", Ask::post("/echo").body("text/plain", vec![b'x'; size])).expect(200);
            assert_eq!(echoed.text(), "x".repeat(size), "an echo of {size} bytes");
        }
    }
    // The engine sets a response and returns without ending its body.
    for path in ["/throw", "/never"] {
        let problem = host.get("probe-js", path).problem_of("probe-js", 502, "app-failed");
        assert!(problem["request_id"].is_string(), "{path}: {problem}");
    }
    // When it runs out of memory, the engine itself responds.
    assert!(host.get("probe-js", "/allocate").status >= 500);
    assert_eq!(host.get("probe-js", "/").expect(200).text(), "ok");
}
