//! The committed header is what cbindgen makes of the source, and tells this version.

use std::path::Path;

fn committed() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/nunatak.h")).expect("the header")
}

/// Enumerations have no tag in C before C23: a tag beside a type of the same name is no C++, and `-Wc++-compat` says
/// so. (cbindgen always writes both.)
fn without_tags(text: &str) -> String {
    const SIZED: &str = "#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L\n";
    const END: &str = "#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L\n";
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\nenum ") {
        let (before, from) = rest.split_at(at + 1);
        let (tag, behind) = from.split_once('\n').expect("a line");
        let sized = behind.strip_prefix(SIZED).and_then(|behind| behind.split_once(END));
        let (size, behind) = sized.unwrap_or_else(|| panic!("cbindgen writes {tag} otherwise than it did"));
        let behind = behind.strip_prefix(" {\n").expect("a brace");
        out += before;
        out += &format!("{SIZED}{tag} {} {{\n#else\nenum {{\n{END}", size.trim());
        rest = behind;
    }
    out + rest
}

/// `NUNATAK_WRITE_HEADER=1` writes it.
#[test]
fn the_header_is_what_the_source_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new().with_crate(root).with_config(config).generate().expect("a header");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = without_tags(&String::from_utf8(text).expect("text"));
    if std::env::var_os("NUNATAK_WRITE_HEADER").is_some() {
        std::fs::write(root.join("include/nunatak.h"), &text).expect("written");
    }
    assert!(text == committed(), "the header is old: NUNATAK_WRITE_HEADER=1 cargo test -p nunatak-capi --test header");
}

#[test]
fn the_header_tells_this_version() {
    let header = committed();
    for (name, value) in
        [("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")), ("MINOR", env!("CARGO_PKG_VERSION_MINOR")), ("PATCH", env!("CARGO_PKG_VERSION_PATCH"))]
    {
        assert!(header.contains(&format!("#define NUNATAK_VERSION_{name} {value}\n")), "{name}");
    }
}

/// Every exported function of the source is in the header: cbindgen can skip one in silence.
#[test]
fn every_function_is_in_the_header() {
    let header = committed();
    let mut count = 0;
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("sources") {
        let source = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        let parts = source.split("extern \"C\" fn nunatak_").skip(1);
        for name in parts.filter_map(|rest| rest.split('(').next()) {
            let there = [' ', '*'].iter().any(|before| header.contains(&format!("{before}nunatak_{name}(")));
            assert!(there, "nunatak_{name} is not in the header");
            count += 1;
        }
    }
    assert!(count > 40, "{count} functions");
}
