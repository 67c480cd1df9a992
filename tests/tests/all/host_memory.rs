//! Tests guests that make the host hold memory for them. Each reaches a named limit, and the host's
//! own memory stays small meanwhile. Without these limits each request takes gigabytes.

use isopod_tests::{Bundle, Host, guest};

/// The memory that a request may cost the process: the guest's own memory, its code, the host
/// memory charged to the guest, and as much again for temporary buffers.
const COST_MIB_MAX: u64 = 160;

fn host() -> Host {
    let host = Host::start();
    let manifest =
        "name = \"hoarder\"\n[grants]\nkeyvalue = true\n[limits]\nmemory = \"48MiB\"\nrequest_timeout = \"1m\"\n";
    host.deploy("hoarder", Bundle::archive(manifest, &guest("hoarder")));
    host.get("hoarder", "/").expect(200);
    host
}

/// Sends a request that ends its guest, and returns the host's log line.
fn ended(host: &Host, path: &str) -> String {
    let before = host.peak_memory_mib();
    let problem = host.get("hoarder", path).problem_of("hoarder", 502, "app-failed");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("out-of-memory")), "{path}: {problem}");
    costs_little(host, path, before);
    let id = problem["request_id"].as_str().expect("it has an id").to_owned();
    let line = host.log_line("hoarder", "the exhausted budget", |line| {
        line["request_id"] == id.as_str() && line["message"].as_str().is_some_and(|text| text.contains("ran out of"))
    });
    line["message"].as_str().expect("it is text").to_owned()
}

/// Sends a request that makes its guest receive an error at the limit.
fn refused(host: &Host, path: &str) -> String {
    let before = host.peak_memory_mib();
    let said = host.get("hoarder", path).expect(200).text();
    costs_little(host, path, before);
    assert!(said.contains("refused"), "{path}: {said}");
    said
}

fn costs_little(host: &Host, path: &str, before_mib: u64) {
    let cost = host.peak_memory_mib() - before_mib;
    assert!(cost < COST_MIB_MAX, "{path} cost {cost} MiB");
    assert_eq!(host.get("hoarder", "/").expect(200).text(), "well", "after {path}");
}

#[test]
fn a_batch_of_values_is_bounded_in_count_and_bytes() {
    let host = host();
    let said = refused(&host, "/get-many?count=2000&bytes=1048576");
    assert!(said.contains("2000 keys") && said.contains("1000"), "{said}");
    let said = refused(&host, "/get-many?count=1000&bytes=1048576");
    assert!(said.contains("4 MiB"), "{said}");
    assert_eq!(host.get("hoarder", "/get-many?count=1000&bytes=1000").expect(200).text(), "1000 values");
}

#[test]
fn bucket_names_are_limited_in_length() {
    let host = host();
    let said = refused(&host, "/open?count=1000&bytes=4000000");
    assert!(said.starts_with("0 buckets") && said.contains("128"), "{said}");
    assert_eq!(host.get("hoarder", "/open?count=500&bytes=128").expect(200).text(), "500 buckets");
}

#[test]
fn header_fields_that_a_guest_keeps_are_charged() {
    let host = host();
    let said = ended(&host, "/fields?count=9000&bytes=100000");
    assert!(said.contains("host memory") && said.contains("16 MiB"), "{said}");
    let said = ended(&host, "/fields?count=1&bytes=200000");
    assert!(said.contains("one set of header fields") && said.contains("128 KiB"), "{said}");
    assert_eq!(host.get("hoarder", "/fields?count=100&bytes=100000").expect(200).text(), "100 fields");
}

#[test]
fn bodies_that_are_never_sent_are_charged() {
    let host = host();
    let said = ended(&host, "/bodies?count=1000");
    assert!(said.contains("host memory") && said.contains("16 MiB"), "{said}");
    assert_eq!(host.get("hoarder", "/bodies?count=20").expect(200).text(), "20 bodies");
}

#[test]
fn long_targets_of_requests_are_charged() {
    let host = host();
    let said = ended(&host, "/targets?count=1000&bytes=60000");
    assert!(said.contains("host memory"), "{said}");
}

#[test]
fn arguments_of_a_host_call_are_limited() {
    let host = host();
    let said = ended(&host, "/write?bytes=5000000");
    assert!(said.contains("arguments of one host call") && said.contains("4 MiB"), "{said}");
    host.get("hoarder", "/write?bytes=100000").problem_of("hoarder", 502, "app-failed");
    assert_eq!(host.get("hoarder", "/write?bytes=4096").expect(200).text(), "written");
}

#[test]
fn an_instance_that_leaks_handles_is_replaced_before_it_fails() {
    let host = host();
    // Four times the limit of one instance in total.
    for _ in 0..40 {
        host.get("hoarder", "/leak?count=100").expect(200);
    }
    let said = ended(&host, "/leak?count=5000");
    assert!(said.contains("handles") && said.contains("1024"), "{said}");
}

#[test]
fn an_instance_that_leaks_memory_is_replaced_before_it_fails() {
    let host = host();
    // More than four times the app's memory in total; each request alone fits.
    for _ in 0..100 {
        host.get("hoarder", "/keep?bytes=2000000").expect(200);
    }
    assert_eq!(host.metric("isopod_faults_total{app=\"hoarder\",fault=\"out-of-memory\"}"), 0.0);
}

/// Host memory that is held for guests is charged to the same budget as the guests' own memory.
#[test]
fn host_memory_counts_against_the_budget_of_the_host() {
    let host = Host::start_with("", "memory_max = \"64MiB\"");
    let manifest = "name = \"hoarder\"\n[limits]\nmemory = \"56MiB\"\n";
    host.deploy("hoarder", Bundle::archive(manifest, &guest("hoarder")));
    host.get("hoarder", "/fields?count=140&bytes=100000").expect(200);
    // The guest's own 44 MiB and these fields are within the app's memory, but together they exceed
    // nine tenths of 64 MiB, the limit of an app of this type. One call holds both, since an
    // instance that holds much memory is replaced after its call.
    let said = ended(&host, "/keep-with-fields?keep=46000000&count=140&bytes=100000");
    assert!(said.contains("57 MiB") && said.contains("memory_max"), "{said}");
}
