//! Tests the bound for the interfaces of a component, which the host keeps in memory.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

use isopod_engine::{Rejected, inspect, limits};

/// A component that offers an instance of one function under several names.
fn offering(parameter: &str, names: usize) -> Vec<u8> {
    let exports: String = (0..names).map(|index| format!("(export \"acme:math/i{index}\" (instance $i))")).collect();
    let text = format!(
        r#"(component
          (core module $m (func (export "f") (param i32)))
          (core instance $c (instantiate $m))
          (func $f (param "{parameter}" u32) (canon lift (core func $c "f")))
          (instance $i (export "f" (func $f)))
          {exports})"#
    );
    wat::parse_str(text).expect("the text is a component")
}

#[test]
fn a_small_component_of_large_interfaces_is_refused() {
    let component = offering(&"a".repeat(65_000), 900);
    assert!(component.len() < 128 * 1024, "{} bytes", component.len());
    let refused = inspect(&component).unwrap_err();
    let Rejected::TooLarge { actual, limit: limits::INTERFACES_BYTES_MAX, .. } = refused else { panic!("{refused}") };
    assert!(actual < 2 * limits::INTERFACES_BYTES_MAX, "it stops reading at the limit: {actual} bytes");
}

#[test]
fn a_component_may_have_many_small_interfaces() {
    let info = inspect(&offering("number", 500)).expect("it is accepted");
    assert_eq!(info.exported_interfaces.len(), 500);
    assert_eq!(info.exported_interfaces["acme:math/i7"].functions["f"], "func(number: u32)");
}
