//! Bundles of the example `probe-provider`, of the app `probe-caller` that uses it, and of small
//! components with an interface of any type.

use crate::{Bundle, guest};

/// The interface that `probe-provider` offers and `probe-caller` imports.
pub const PROBE: &str = "acme:probe/probe@1.0.0";

/// Another such interface, which has resources.
pub const COUNTERS: &str = "acme:probe/counters@1.0.0";

/// A provider named `probe` with this version. `manifest` has further tables.
pub fn probe_provider(version: &str, manifest: &str) -> Bundle {
    provider("probe", version, manifest, &guest("probe-provider"))
}

/// A component as a provider.
pub fn provider(name: &str, version: &str, manifest: &str, component: &[u8]) -> Bundle {
    let text = format!(
        "name = \"{name}\"\nkind = \"plugin\"\n[plugin]\nversion = \"{version}\"\ntime_limit = \"500ms\"\n{manifest}"
    );
    Bundle::archive(&text, component)
}

/// The app `probe-caller` under this name, with the interface of the provider in `reference`.
pub fn caller(name: &str, reference: &str) -> Bundle {
    Bundle::archive(&format!("name = \"{name}\"\n{}", granting(reference)), &guest("probe-caller"))
}

/// The grants of `probe-caller`, whose provider is `reference`.
pub fn granting(reference: &str) -> String {
    format!("[grants.interfaces]\n\"{PROBE}\" = \"{reference}\"\n\"{COUNTERS}\" = \"{reference}\"\n")
}

/// The text of a component that offers `acme:math/double` of this version, whose function takes and
/// returns a number of this type.
pub fn offering(version: &str, number: &str) -> String {
    let core = if number.ends_with("64") { "i64" } else { "i32" };
    format!(
        "(component
          (core module $m (func (export \"f\") (param {core}) (result {core}) local.get 0))
          (core instance $i (instantiate $m))
          (func $f (param \"n\" {number}) (result {number}) (canon lift (core func $i \"f\")))
          (instance $x (export \"double\" (func $f)))
          (export \"acme:math/double@{version}\" (instance $x)))"
    )
}

/// The text of a component that offers `acme:math/double` in two versions, with the same function.
pub fn offering_both(first: &str, second: &str) -> String {
    let one = offering(first, "u32");
    let end = one.rfind(')').unwrap_or(one.len());
    format!("{}(export \"acme:math/double@{second}\" (instance $x)))", &one[..end])
}

/// The text of a component that imports this interface, with this content, and exports an HTTP
/// handler by name only: enough for the checks before the build.
pub fn importing(interface: &str, content: &str) -> String {
    format!(
        "(component
          (import \"{interface}\" (instance {content}))
          (instance $none)
          (export \"isopod:app/http@0.1.0\" (instance $none)))"
    )
}
