//! A program that is nothing but the shims of this crate, for `cargo xtask`, which builds guests before the host exists.
//! Never links anything by its own name.

fn main() {
    isopod_toolchain::run_as_linker_if_asked();
    eprintln!("isopod-linker is started by the guest compiler under other names; it does nothing by its own");
    std::process::exit(2);
}
