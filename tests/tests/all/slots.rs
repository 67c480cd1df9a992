//! Tests that an instance takes as many slots as its memories, tables and modules need, so that an
//! app of a few large instances leaves slots for other apps.

use isopod_tests::{Bundle, Host, Neighbour, guest};

/// Returns the example `hello` with this many further instances of a module, each with this many
/// memories of one page.
fn hello_with(instances: usize, memories: usize) -> Vec<u8> {
    let mut component = guest("hello");
    let module = wat::parse_str(format!("(module {})", "(memory 1)".repeat(memories))).expect("it is well-formed");
    let index = u8::try_from(core_modules(&component)).expect("a component has few modules");
    append(&mut component, 1, &module);
    // Core instances of this module without arguments.
    (0..instances).for_each(|_| append(&mut component, 2, &[1, 0, index, 0]));
    component
}

/// Returns the number of core modules at a component's outermost level.
fn core_modules(component: &[u8]) -> usize {
    let (mut at, mut count) = (8, 0);
    while at < component.len() {
        count += usize::from(component[at] == 1);
        let (length, bytes) = read_leb(&component[at + 1..]);
        at += 1 + bytes + length;
    }
    count
}

fn read_leb(bytes: &[u8]) -> (usize, usize) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a number has an end") + 1;
    let number = bytes[..length].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f));
    (number, length)
}

fn append(component: &mut Vec<u8>, section: u8, content: &[u8]) {
    component.push(section);
    let mut length = content.len();
    while length >= 0x80 {
        component.push(length as u8 & 0x7f | 0x80);
        length >>= 7;
    }
    component.push(length as u8);
    component.extend_from_slice(content);
}

fn bundle(component: &[u8], min: u32) -> Bundle {
    let manifest = format!(
        "name = \"wide\"\ntype = \"production\"\n[processes.web]\nentry = \"http\"\nmin = {min}\n\
         [limits]\ninstances_max = 100\n"
    );
    Bundle::archive(&manifest, component)
}

#[test]
fn the_minimum_of_an_app_is_counted_in_slots() {
    let host = Host::start_with("", "instances_max = 100\napp_instances_max = 60");
    host.create("wide", "production");
    // Together with the memory of `hello` there are 26 memories, two per slot.
    let wide = hello_with(25, 1);
    let refused = host.ended(&host.push("wide", &bundle(&wide, 5)));
    assert_eq!(refused.reason_code.as_deref(), Some("too-many-instances"), "{refused:?}");
    assert!(refused.reason.as_ref().is_some_and(|reason| reason.contains("13 slots")), "{refused:?}");
    host.deploy("wide", bundle(&wide, 4));
    // A usual component takes one slot per instance.
    let neighbour = Neighbour::beside(&host);
    host.create("usual", "production");
    host.deploy("usual", bundle(&guest("hello"), 30));
    assert_eq!(host.get("wide", "/").expect(200).text(), "Hello, world!");
    neighbour.finish();
}

/// Without weights this app would be admitted, and its second instance would find no memory slot.
#[test]
fn an_app_whose_instances_cannot_fit_is_rejected_by_name() {
    let host = Host::start_with("", "instances_max = 20");
    host.create("wide", "production");
    let refused = host.ended(&host.push("wide", &bundle(&hello_with(25, 1), 2)));
    assert_eq!(refused.reason_code.as_deref(), Some("too-many-instances"), "{refused:?}");
    assert!(refused.reason.as_ref().is_some_and(|reason| reason.contains("app_instances_max")), "{refused:?}");
}

/// Idle apps with wide instances are evicted for each other and for usual apps.
#[test]
fn idle_wide_instances_are_evicted_for_other_apps() {
    let host = Host::start_with("", "instances_max = 20");
    let wide = hello_with(1, 25);
    for app in ["one", "two", "three"] {
        host.deploy(app, Bundle::component(wide.clone()));
    }
    let neighbour = Neighbour::beside(&host);
    for app in ["one", "two", "three", "one"] {
        assert_eq!(host.get(app, "/").expect(200).text(), "Hello, world!", "{app}");
    }
    neighbour.finish();
}

#[test]
fn more_memories_than_an_instance_may_have_are_rejected() {
    let host = Host::start();
    for component in [hello_with(40, 1), hello_with(1, 40)] {
        let refused = host.upload("wide", &Bundle::component(component), "").problem(422, "component-too-large");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("memories is 41")), "{refused}");
    }
}
