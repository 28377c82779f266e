//! The numbers of an export: the table that is printed, and the README.

use super::Args;
use super::names::Names;
use super::plan::Exported;
use super::target::Instructions;
use crate::calls::traffic;
use crate::model::human_bytes;
use nunatak_nn::Program;
use nunatak_nn::step::{call_flops, call_operation, each_call};
use std::fmt::Write;

/// What one batch of a program computes.
struct Work {
    multiply_adds: u64,
    instructions: Option<f64>,
}

fn work(exported: &Exported, program: &Program) -> Work {
    let (mut products, mut byte_products, mut bytes) = (0, 0, 0);
    each_call(program, |event| {
        let of_bytes = call_operation(program, event).starts_with("int8");
        *(if of_bytes { &mut byte_products } else { &mut products }) += call_flops(program, event) / 2;
        bytes += traffic(program, event);
    });
    let estimate =
        |each: Instructions| products as f64 * each.product + byte_products as f64 * each.byte_product + (bytes / 4) as f64 * each.number;
    Work { multiply_adds: products + byte_products, instructions: exported.target.instructions.map(estimate) }
}

fn million(n: f64) -> String {
    format!("{:.1} M", n / 1e6)
}

/// The table, as it is printed.
pub(super) fn table(exported: &Exported) -> String {
    let mut text = String::new();
    let regions = || exported.regions.iter().enumerate();
    let _ = writeln!(
        text,
        "{}, {} x {}, for a {}, level {}",
        exported.network.name(),
        exported.size,
        exported.size,
        exported.target.name,
        exported.target.level
    );
    let heads: String = regions().map(|(_, region)| format!(" {:>16}", format!("{} bytes", region.name))).collect();
    let _ =
        writeln!(text, "{:<24} {:>6}{heads} {:>14} {:>12} {:>20}", "program", "batch", "multiply-adds", "an image", "instructions (est.)");
    for (purpose, program) in exported.purposes.iter().zip(exported.programs()) {
        let work = work(exported, &program);
        let bytes: String = regions().map(|(i, _)| format!(" {:>16}", Exported::bytes_of(&program, i))).collect();
        let _ = writeln!(
            text,
            "{:<24} {:>6}{bytes} {:>14} {:>12} {:>20}",
            purpose.name,
            purpose.batch,
            million(work.multiply_adds as f64),
            million(work.multiply_adds as f64 / purpose.batch as f64),
            work.instructions.map_or("-".into(), million)
        );
    }
    for (i, region) in regions() {
        let (needed, lasting) = (exported.c_bytes(i), exported.lasting_bytes(i));
        let _ = writeln!(
            text,
            "{}: {needed} of {} bytes with C's trainer, of which {lasting} last from step to step",
            region.name, region.bytes
        );
    }
    let _ = writeln!(
        text,
        "flash: programs {} bytes, weights {} bytes, and the code of {} routines",
        exported.bundle.len(),
        exported.weights.bytes().len(),
        exported.routines().len()
    );
    text
}

/// The README of the folder.
pub(super) fn readme(exported: &Exported, names: &Names, args: &Args) -> String {
    let (name, upper) = (&names.lower, &names.upper);
    let mut text = format!(
        "# {}\n\nA network that runs and trains on a {}: made by nunatak {}. Do not edit these files: export them anew.\n\n```text\n{}```\n\n",
        exported.network.name(),
        exported.target.name,
        env!("CARGO_PKG_VERSION"),
        table(exported)
    );
    text.push_str(
        "Instructions are an estimate from the multiplications and the numbers that calls read and write; where there is none, nothing \
         was counted on that processor.\n\n",
    );
    let routines: Vec<String> = exported.routines().iter().map(|routine| format!("`{routine}`")).collect();
    let _ = write!(text, "Routines in use: {}.\n\n", routines.join(", "));
    if args.rust {
        let _ = write!(
            text,
            "## Use\n\nPut the three files `{name}.*` into the sources of a crate that depends on `nunatak-nn` (without default features), \
             and `mod {name};`. `{name}::trainer` makes a trainer, `{name}::switch` goes on with another program, `{name}::selftest` replays \
             {} steps of each program that trains, and says which call differs first.\n",
            super::golden::STEPS
        );
        return text;
    }
    let weights = match args.raw {
        true => format!(
            "The weights are in `{name}_weights.bin`. Put them into flash at a multiple of {}, and define `{name}_weights` there, for \
             instance in the linker script.\n\n",
            exported.target.align
        ),
        false => String::new(),
    };
    let _ = write!(
        text,
        "## Build\n\nAdd `{name}.c` (and `selftest.c`, `selftest.h` for the test) to the firmware, and link it with `libnunatak.a` for \
         `{}` and with `-Wl,--gc-sections`. Only the routines above are linked, as long as the firmware does not call \
         `nunatak_use_all_routines`, `nunatak_program_text` or `nunatak_trainer_call_name`.\n\n```sh\nCC {} -Os -ffunction-sections -c {name}.c \
         selftest.c\n```\n\n{weights}## Use\n\n```c\n#include \"{name}.h\"\n\n{}\nnunatak_trainer *trainer;\n{name}_open({upper}_PREDICT, \
         regions, &trainer);\n",
        exported.target.triple,
        exported.target.flags,
        memory(exported, names)
    );
    for purpose in exported.purposes.iter().filter(|purpose| purpose.trainable.is_some()) {
        let program = purpose.name.to_ascii_uppercase();
        let _ = writeln!(text, "{name}_switch(trainer, {upper}_{program}); /* batches of {upper}_{program}_BATCH images */");
    }
    let micro = match exported.micro_batches {
        1 => String::new(),
        n => format!(
            "\n\nA step has {n} micro-batches: for each of them set its images and labels and call `nunatak_trainer_accumulate(trainer, 1.0f / \
             {n}, &loss)`, then once `nunatak_trainer_update(trainer)`."
        ),
    };
    let _ = write!(
        text,
        "```{micro}\n\nThen as `nunatak.h` says: `nunatak_trainer_set_images_u8`, `nunatak_trainer_set_labels`, `nunatak_trainer_step`, \
         `nunatak_trainer_predict`. Every call returns a status.\n\n## Test\n\n`{name}_selftest` replays {} steps of each program that trains, \
         whose every call was computed on the desktop, and prints `selftest: pass`, or the first call that differs. {}\n\nMemory of the \
         library: {}. The images of the caller's are not counted, nor are a stack of 8 kB.\n",
        super::golden::STEPS,
        match exported.target.golden {
            (_, true) => "Every bit is compared.",
            (_, false) => "This processor rounds otherwise, so sums are compared.",
        },
        exported
            .regions
            .iter()
            .enumerate()
            .map(|(i, r)| format!("{} in {}", human_bytes(exported.c_bytes(i)), r.name))
            .collect::<Vec<_>>()
            .join(", ")
    );
    text
}

/// Arrays for the regions, in C.
fn memory(exported: &Exported, names: &Names) -> String {
    let (upper, align) = (&names.upper, exported.target.align);
    let (mut arrays, mut list) = (String::new(), Vec::new());
    for (i, (region, given)) in names.regions.iter().zip(&exported.regions).enumerate() {
        let array = given.name.to_ascii_lowercase();
        if exported.c_bytes(i) == 0 {
            list.push("{0, 0}".to_string()); // nothing of it is used
            continue;
        }
        let _ = writeln!(arrays, "static _Alignas({align}) unsigned char {array}[{upper}_{region}_BYTES];");
        list.push(format!("{{{array}, sizeof {array}}}"));
    }
    format!("{arrays}static const nunatak_region regions[] = {{{}}};\n", list.join(", "))
}
