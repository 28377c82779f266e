//! The shared library's name for the loader, and what it offers: `nunatak_*` alone.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    let number = |part: &str| var(format!("CARGO_PKG_VERSION_{part}")).unwrap_or_default();
    // While the major version is 0, a change of the minor one may need changes in programs.
    let version = if number("MAJOR") == "0" { format!("0.{}", number("MINOR")) } else { number("MAJOR") };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnunatak.so.{version}");
    // What comes from Rust's own libraries stays inside.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
}
