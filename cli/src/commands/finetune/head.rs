//! Whether a run keeps the head of its weights, and in which order it numbers the classes.

use super::Args;
use crate::failure::Failure;
use crate::model::Model;
use crate::output::printable;
use nunatak_data::{ImageFolder, Sample};
use nunatak_nn::files::Head;

/// What becomes of the head.
#[derive(Debug)]
pub(super) struct Choice {
    /// Loaded from the file, or kept out of it to be drawn anew.
    pub(super) head: Head,
    /// Why, for people.
    pub(super) why: String,
}

/// Decides it. The file's head is kept where it has as many outputs as there are classes, and the same names if it
/// has any; options decide otherwise.
///
/// # Errors
/// [`Failure::Usage`] where `--keep-head` asks for a head of another number of classes.
pub(super) fn choose(args: &Args, model: &Model, classes: &[String], seed: u64) -> Result<Choice, Failure> {
    let (due, there) = (classes.len(), model.network.classes());
    let names = model.classes.as_deref();
    let kept = |why: String| Ok(Choice { head: Head::Load, why });
    let new = |what: String| Ok(Choice { head: Head::Keep, why: format!("new, {what}, drawn from seed {seed}") });
    if args.keep_head && due != there {
        return Err(Failure::usage(format_args!(
            "--keep-head: {} tells {there} classes apart, the folder has {due}; leave it out, and a new head is drawn",
            model.path.display()
        )));
    }
    match names {
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

/// Numbers the folder's classes as `names` are, where these are the same names in another order.
pub(super) fn number_as(folder: &mut ImageFolder, names: &[String]) {
    let place = |class: &String| names.iter().position(|name| name == class);
    let places: Option<Vec<usize>> = folder.classes.iter().map(place).collect();
    let Some(places) = places.filter(|_| names.len() == folder.classes.len()) else { return };
    let renumber = |samples: &mut Vec<Sample>| samples.iter_mut().for_each(|sample| sample.label = places[sample.label]);
    renumber(&mut folder.train);
    renumber(&mut folder.val);
    folder.classes = names.to_vec();
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
        let names = |list: [&str; 2]| list.map(String::from).to_vec();
        let mut folder =
            ImageFolder { classes: names(["a", "b"]), train: vec![sample(0), sample(1)], val: vec![sample(1)], ..ImageFolder::default() };
        number_as(&mut folder, &names(["b", "c"]));
        assert_eq!((folder.classes[0].as_str(), folder.val[0].label), ("a", 1), "other names change nothing");
        number_as(&mut folder, &names(["b", "a"]));
        assert_eq!((folder.classes[0].as_str(), folder.val[0].label), ("b", 0));
        assert_eq!(folder.train.iter().map(|s| s.label).collect::<Vec<_>>(), [1, 0]);
    }
}
