//! Acts during the start of an instance, named by the config var GREEDY_START. Runs before any
//! export, as a constructor.

#[cfg(target_family = "wasm")]
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

#[cfg(target_family = "wasm")]
extern "C" fn start() {
    match isopod_sdk::config::get("GREEDY_START").as_deref() {
        Some("trap") => core::arch::wasm32::unreachable(),
        Some("spin") => crate::acts::spin(None),
        Some("allocate") => drop(crate::acts::allocate(usize::MAX)),
        _ => {}
    }
}
