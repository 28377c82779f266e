//! The export as C: a header with the numbers, and the bytes that the linker puts into flash.

use super::Region;
use super::names::Names;
use super::plan::Exported;
use std::fmt::Write;

/// Bytes of a trainer besides its block and a byte for each entry: `NUNATAK_TRAINER_BYTES` of the C library. What is
/// generated asserts that it is the same.
pub(super) const TRAINER_BYTES: usize = 1024;

/// The header.
pub(super) fn header(exported: &Exported, names: &Names) -> String {
    let (name, upper) = (&names.lower, &names.upper);
    let network = exported.network;
    let mut text = format!(
        "/*
 * {what}: what nunatak {version} exported for a {target}. Do not edit: export it anew.
 *
 * {name}_open makes a trainer in regions of memory, {name}_switch goes on with another program.
 */
#ifndef {upper}_H
#define {upper}_H

#include <nunatak.h>

#define {upper}_CHANNELS {channels}
#define {upper}_HEIGHT {size}
#define {upper}_WIDTH {size}
#define {upper}_CLASSES {classes}

/* Programs, by their names in the bundle, and the images that each computes at a time. */
",
        what = network.name(),
        version = env!("CARGO_PKG_VERSION"),
        target = exported.target.name,
        channels = network.in_channels(),
        size = exported.size,
        classes = network.classes(),
    );
    for purpose in &exported.purposes {
        let program = purpose.name.to_ascii_uppercase();
        let _ = writeln!(text, "#define {upper}_{program} \"{}\"", purpose.name);
        let _ = writeln!(text, "#define {upper}_{program}_BATCH {}", purpose.batch);
        if purpose.trainable.is_some() && exported.micro_batches > 1 {
            let _ = writeln!(text, "#define {upper}_{program}_MICRO_BATCHES {}", exported.micro_batches);
        }
    }
    regions(exported, names, &mut text);
    let _ = write!(
        text,
        "
/* Bytes in flash. */
#define {upper}_BUNDLE_BYTES {bundle}
#define {upper}_WEIGHTS_BYTES {weights}

#ifdef __cplusplus
extern \"C\" {{
#define {upper}_ASSERT(what, text) static_assert(what, text)
#else
#define {upper}_ASSERT(what, text) _Static_assert(what, text)
#endif
{upper}_ASSERT(NUNATAK_VERSION_MAJOR == {major} && NUNATAK_VERSION_MINOR == {minor}, \"exported for another version of nunatak\");
{upper}_ASSERT(NUNATAK_TRAINER_BYTES == {trainer}, \"exported for another version of nunatak\");
{rooms}
/* The programs, and the weights in the kernels' own order. */
extern const unsigned char {name}_bundle[{upper}_BUNDLE_BYTES];
extern const unsigned char {name}_weights[{upper}_WEIGHTS_BYTES];

/* Makes a trainer with a program of the bundle, the weights, and the routines in use, in {upper}_REGIONS regions of
 * memory, in the order above. Errors of nunatak_bundle_program and nunatak_trainer_init_program. */
nunatak_status {name}_open(const char *program, const nunatak_region *regions, nunatak_trainer **trainer);

/* Goes on with another program of the bundle. Weights, statistics and momenta stay where they are. Errors of
 * nunatak_bundle_program and nunatak_trainer_switch_program. */
nunatak_status {name}_switch(nunatak_trainer *trainer, const char *program);

#ifdef __cplusplus
}}
#endif

#endif
",
        rooms = rooms(exported, names),
        bundle = exported.bundle.len(),
        weights = exported.weights.bytes().len(),
        major = env!("CARGO_PKG_VERSION_MAJOR"),
        minor = env!("CARGO_PKG_VERSION_MINOR"),
        trainer = TRAINER_BYTES,
    );
    text
}

/// The numbers of each region.
fn regions(exported: &Exported, names: &Names, text: &mut String) {
    let upper = &names.upper;
    let _ = write!(
        text,
        "
/* Regions of memory, in the order in which they are handed over. Of each: the bytes that a trainer takes with any of the
 * programs, wherever the region begins; of these what lasts from step to step (parameters in memory, running statistics,
 * momentum); the bytes that it was said to have. */
#define {upper}_REGIONS {}
",
        names.regions.len()
    );
    for (i, region) in names.regions.iter().enumerate() {
        let (needed, lasting, room) = (exported.c_bytes(i), exported.lasting_bytes(i), exported.regions[i].bytes);
        let _ = writeln!(text, "#define {upper}_{region}_BYTES {needed}");
        let _ = writeln!(text, "#define {upper}_{region}_LASTING_BYTES {lasting}");
        let _ = writeln!(text, "#define {upper}_{region}_ROOM {room}");
    }
}

/// The assertions that each region is as large as it must be.
fn rooms(exported: &Exported, names: &Names) -> String {
    let upper = &names.upper;
    let assert = |(region, Region { name, .. }): (&String, &Region)| {
        format!("{upper}_ASSERT({upper}_{region}_BYTES <= {upper}_{region}_ROOM, \"the region {name} is too small\");\n")
    };
    names.regions.iter().zip(&exported.regions).map(assert).collect()
}

/// The source: arrays, the table of routines, and two functions. Of weights in a file beside it has the declaration.
pub(super) fn source(exported: &Exported, names: &Names, section: Option<&str>, raw: bool) -> String {
    let (name, upper) = (&names.lower, &names.upper);
    let mut text = format!(
        "/* What nunatak {} exported: see {name}.h. Do not edit: export it anew. */\n#include \"{name}.h\"\n\n",
        env!("CARGO_PKG_VERSION")
    );
    let section = section.map_or(String::new(), |section| format!("__attribute__((section(\"{section}\"))) "));
    let mut array = |what: &str, bytes: &[u8]| {
        let _ = write!(
            text,
            "{section}_Alignas({}) const unsigned char {name}_{what}[{upper}_{}_BYTES] = {{",
            exported.target.align,
            what.to_ascii_uppercase()
        );
        for (i, byte) in bytes.iter().enumerate() {
            let _ = write!(text, "{}{byte},", if i % 32 == 0 { "\n  " } else { "" });
        }
        text.push_str("\n};\n\n");
    };
    array("bundle", &exported.bundle);
    if raw {
        let _ = write!(text, "/* {name}_weights are in {name}_weights.bin: see README.md. */\n\n");
    } else {
        array("weights", exported.weights.bytes());
    }
    table(exported, name, &mut text);
    let _ = write!(
        text,
        "nunatak_status {name}_open(const char *program, const nunatak_region *regions, nunatak_trainer **trainer) {{
  const void *at = 0;
  size_t program_bytes = 0;
  nunatak_status status = {use_routines};
  if (status == NUNATAK_OK) status = nunatak_bundle_program({name}_bundle, {upper}_BUNDLE_BYTES, program, &at, &program_bytes);
  if (status != NUNATAK_OK) return status;
  return nunatak_trainer_init_program(at, program_bytes, {name}_weights, {upper}_WEIGHTS_BYTES, 1, 0, regions, {upper}_REGIONS, trainer);
}}

nunatak_status {name}_switch(nunatak_trainer *trainer, const char *program) {{
  const void *at = 0;
  size_t program_bytes = 0;
  nunatak_status status = nunatak_bundle_program({name}_bundle, {upper}_BUNDLE_BYTES, program, &at, &program_bytes);
  if (status != NUNATAK_OK) return status;
  return nunatak_trainer_switch_program(trainer, at, program_bytes);
}}
",
        use_routines = match exported.target.lists_routines {
            true => format!("nunatak_use_routines({name}_routines)"),
            false => "nunatak_use_all_routines()".into(),
        }
    );
    text
}

/// The table of routines, where the library's can be listed.
fn table(exported: &Exported, name: &str, text: &mut String) {
    if !exported.target.lists_routines {
        return;
    }
    let routines = exported.routines();
    for routine in &routines {
        let _ = writeln!(text, "extern const nunatak_routine nunatak_{routine};");
    }
    let _ = writeln!(text, "\nstatic const nunatak_routine *const {name}_routines[] = {{");
    for routine in &routines {
        let _ = writeln!(text, "  &nunatak_{routine},");
    }
    text.push_str("  0,\n};\n\n");
}
