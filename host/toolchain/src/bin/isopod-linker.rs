//! A program that contains only the shims of this crate, for `cargo xtask`, which builds guests
//! before the host exists. Never links under its own name.

fn main() {
    isopod_toolchain::run_as_linker_if_asked();
    eprintln!("the guest compiler starts isopod-linker under other names; it does nothing under its own");
    std::process::exit(2);
}
