//! Whether a run keeps the head of its weights, or adds classes to it, and in which order it numbers the classes.

use super::Args;
use crate::failure::Failure;
use crate::model::Model;
use crate::output::printable;
use nunatak_data::{ImageFolder, Sample};
use nunatak_nn::files::Head;
use nunatak_nn::{EntryKind, Select, Trainer};
use std::fmt::Display;

/// What becomes of the head.
#[derive(Debug)]
pub(super) struct Choice {
    /// Loaded from the file, or kept out of it to be drawn anew.
    pub(super) head: Head,
    /// Of a head that is drawn anew: so many of its rows, the first ones, are the file's.
    pub(super) known: usize,
    /// Why, for people.
    pub(super) why: String,
}

/// Decides it. The file's head is kept where it has as many outputs as there are classes, and the same names if it
/// has any; where its names are the first ones of more, the rows of others are added. Options decide otherwise.
///
/// # Errors
/// [`Failure::Usage`] where `--keep-head` asks for a head of another number of classes, not all of which are known.
pub(super) fn choose(args: &Args, model: &Model, classes: &[String], seed: u64) -> Result<Choice, Failure> {
    let (due, there) = (classes.len(), model.network.classes());
    let names = model.classes.as_deref();
    let kept = |why: String| Ok(Choice { head: Head::Load, known: 0, why });
    let new = |what: String| Ok(Choice { head: Head::Keep, known: 0, why: format!("new, {what}, drawn from seed {seed}") });
    let grows = names.is_some_and(|names| !names.is_empty() && due > there && classes.starts_with(names));
    if args.keep_head && due != there && !grows {
        return Err(Failure::usage(format_args!(
            "--keep-head: {} tells {there} classes apart, the folder has {due}, and classes can only be added to all of its own, by their \
             names; leave it out, and a new head is drawn",
            model.path.display()
        )));
    }
    match names {
        Some(names) if grows && !args.new_head => {
            let why = format!(
                "the file's rows for {}; added: {}, drawn from seed {seed} (--new-head draws all of them)",
                some(names),
                some(&classes[there..])
            );
            Ok(Choice { head: Head::Keep, known: there, why })
        }
        _ if due != there => new(format!("for {due} classes instead of {there}")),
        _ if args.new_head => new(format!("for {due} classes, as --new-head asks")),
        Some(names) if names == classes => kept("the file's, for the same classes".into()),
        Some(names) if args.keep_head => kept(format!("the file's, whose classes {} are now {}", some(names), some(classes))),
        Some(names) => new(format!("for {} instead of {} (--keep-head would keep the file's)", some(classes), some(names))),
        None => kept(format!(
            "the file's, which has {there} outputs without names: taken for {} in this order (--new-head draws a new one)",
            some(classes)
        )),
    }
}

/// Numbers the folder's classes as `names` are, where it has all of them; the folder's others come behind them.
pub(super) fn number_as(folder: &mut ImageFolder, names: &[String]) {
    if !names.iter().all(|name| folder.classes.contains(name)) {
        return;
    }
    let others = folder.classes.iter().filter(|class| !names.contains(class));
    let classes: Vec<String> = names.iter().chain(others).cloned().collect();
    let places: Vec<usize> = folder.classes.iter().filter_map(|class| classes.iter().position(|name| name == class)).collect();
    if places.len() != classes.len() {
        return; // a name that the file has twice
    }
    let renumber = |samples: &mut Vec<Sample>| samples.iter_mut().for_each(|sample| sample.label = places[sample.label]);
    renumber(&mut folder.train);
    renumber(&mut folder.val);
    folder.classes = classes;
}

/// Puts the rows of a file's head into a trainer's, which has more of them and was drawn. What of the head has the same
/// shape in both is the file's.
///
/// # Errors
/// [`Failure`] that names the file and the entry that is missing, has another shape, or numbers that are not finite.
pub(super) fn keep_rows(trainer: &mut Trainer, model: &Model, known: usize) -> Result<(), Failure> {
    let program = trainer.program();
    let mut rows = Vec::new();
    for id in program.entries().filter(|id| Select::Head.has(program.entry(*id).name(), program.head())) {
        let entry = program.entry(id);
        let (name, (shape, rank)) = (entry.name(), entry.shape());
        if entry.kind() != EntryKind::Parameter || entry.is_borrowed() {
            continue;
        }
        let fail = |why: &dyn Display| Failure::with(model.path.display(), format_args!("{name}: {why}"));
        let of_file = model.checkpoint.get(name).ok_or_else(|| fail(&"there is no such tensor; --new-head draws the whole head"))?;
        let mut numbers = Vec::new();
        of_file.read_f32(&mut numbers).map_err(|e| fail(&e))?;
        let same = |from: &[usize]| from.len() == rank && from[1..] == shape[1..rank] && (from[0] == shape[0] || from[0] == known);
        if rank == 0 || !same(of_file.shape()) {
            return Err(fail(&format_args!("has the shape {:?}; the first of {:?} were expected", of_file.shape(), &shape[..rank])));
        }
        if numbers.iter().any(|v| !v.is_finite()) {
            return Err(fail(&"has numbers that are NaN or infinite; the file is damaged, or its training had gone wrong"));
        }
        rows.push((id, numbers));
    }
    for (id, numbers) in rows {
        let mut all = vec![0.0; trainer.program().entry(id).numbers()];
        trainer.entry(id, &mut all)?;
        all[..numbers.len()].copy_from_slice(&numbers);
        trainer.set_entry(id, &all)?;
    }
    Ok(())
}

/// The first few names.
pub(super) fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(5).map(|name| printable(name)).collect();
    format!("{}{}", shown.join(", "), if names.len() > 5 { ", …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_as_the_file_numbers_them() {
        let sample = |label| Sample { path: "x".into(), label };
        let names = |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let mut folder =
            ImageFolder { classes: names(&["a", "b"]), train: vec![sample(0), sample(1)], val: vec![sample(1)], ..ImageFolder::default() };
        number_as(&mut folder, &names(&["b", "c"]));
        assert_eq!((folder.classes[0].as_str(), folder.val[0].label), ("a", 1), "other names change nothing");
        number_as(&mut folder, &names(&["b", "a"]));
        assert_eq!((folder.classes[0].as_str(), folder.val[0].label), ("b", 0));
        let labels = |folder: &ImageFolder| folder.train.iter().map(|s| s.label).collect::<Vec<_>>();
        assert_eq!(labels(&folder), [1, 0]);
        // Names that the file has come first, whatever else the folder has.
        let mut folder = ImageFolder {
            classes: names(&["a", "b", "c", "d"]),
            train: vec![sample(0), sample(1), sample(2), sample(3)],
            ..ImageFolder::default()
        };
        number_as(&mut folder, &names(&["d", "b"]));
        assert_eq!((folder.classes.clone(), labels(&folder)), (names(&["d", "b", "a", "c"]), vec![2, 1, 3, 0]));
        number_as(&mut folder, &names(&["d", "d"]));
        assert_eq!(folder.classes, names(&["d", "b", "a", "c"]), "a name that is there twice changes nothing");
    }
}
