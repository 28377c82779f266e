//! The first lines of a run: what is going to happen, and what was assumed.

use super::Args;
use super::features::Keep;
use super::job::Job;
use super::paths::last_path;
use super::recipe::Recipe;
use super::run::{ROLES, TRAIN};
use super::start::Aim;
use super::survey::{doubles, pairs_text};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::model::{Model, human_bytes};
use crate::output::{say, warn};
use crate::setup::parameter_numbers;

impl Job {
    /// Says what is going to happen, and what was assumed.
    ///
    /// # Errors
    /// [`Failure`] of a plan.
    pub(super) fn introduce(&self, args: &Args, aim: Aim, model: Option<&Model>, engine: &mut Engine, bytes: usize) -> Result<(), Failure> {
        let (settings, folder) = (&self.settings, &self.folder);
        let (train, val, classes) = (folder.train.len(), folder.val.len(), folder.classes.len());
        folder.notes.iter().for_each(say);
        if settings.recipe == Recipe::Auto {
            say(settings.recipe_text(train));
        }
        self.introduce_batches();
        say(format_args!("{train} images of {classes} classes to train on, {val} to validate with, {} a batch", settings.batch));
        if let Some(most) = settings.micro_batch {
            say(format_args!("{most} images are computed at a time, and gradients are added up: batchnorm sees these"));
        }
        if val == 0 {
            say("note: without images to validate with, the newest model counts as the best");
        }
        let doubles = if let Aim::Train = aim { doubles(folder) } else { Default::default() };
        for (what, pairs) in [("are both to train on and to validate with", &doubles.across), ("lie in two classes", &doubles.contrary)] {
            if !pairs.is_empty() {
                warn(format_args!("warning: {} images {what}: {}", pairs.len(), pairs_text(pairs, args.folder())));
            }
        }
        say(format_args!("{}: {}", engine.trainer.program().head(), self.head_why));
        let mut assumed: Vec<String> = model.and_then(|model| model.assumed.clone()).into_iter().collect();
        if args.choices.size.is_none() && !args.resume && model.is_none_or(|model| model.view.is_none()) {
            assumed.push(format!(
                "images are shown as {0} x {0}, cut out of a shorter side of {1} (--size, --resize)",
                settings.size, settings.resize
            ));
        }
        if !assumed.is_empty() {
            let of = model.map_or(String::new(), |model| format!(", for {} does not tell", model.path.display()));
            say(format_args!("assumed{of}: {}", assumed.join("; ")));
        }
        if args.resume && !args.in_place && args.weights.is_some() && engine.trainer.weights_file().is_none() {
            say(format_args!("note: with --resume the weights are those of {}; --weights is not read", last_path(&args.out).display()));
        }
        for (stage, phase) in self.phases.iter().enumerate() {
            let [all, trained] = parameter_numbers(&engine.plan(ROLES * stage + TRAIN, self.at_once())?.program);
            let from = if stage > 0 { format!("from epoch {} on ", phase.first + 1) } else { String::new() };
            let how = format!(", in {}; {}, {} threads", human_bytes(bytes), engine.trainer.level().name(), args.compute.thread_count());
            let how = if stage + 1 == self.phases.len() { how } else { String::new() };
            say(format_args!("{from}training {}: {trained} of {all} parameters{how}", phase.trainable));
        }
        for (stage, phase) in self.phases.iter().enumerate() {
            let plan = engine.plan(ROLES * stage + TRAIN, self.at_once())?;
            let features = self.features(stage, args, &plan);
            if features.is_none() && args.features == Keep::Once && self.numbers_below_head(stage, &plan).is_some() {
                let options = settings.mixing_options();
                say(format_args!("features below the head are not kept but computed at every step: mixed images are new ones ({options})"));
            }
            if let Some(bytes) = features.map(|features| features.bytes()).filter(|bytes| *bytes > 0) {
                let of = phase.views.map_or(String::new(), |views| format!(" of {views} random cuts of each image"));
                say(format_args!("features below the head{of} are computed once and kept, in {} (--features never)", human_bytes(bytes)));
            }
        }
        Ok(())
    }

    /// Says how images are drawn and mixed, where that is not the usual way.
    fn introduce_batches(&self) {
        let settings = &self.settings;
        if settings.balanced {
            say("every class is drawn as often as the others, images more than once in an epoch (--balanced)");
        }
        if settings.balanced && settings.class_weights == "balanced" {
            say("note: --balanced and --class-weights balanced both make up for rare classes: together they count too much");
        }
        let options = settings.mixing_options();
        if !options.is_empty() {
            say(format_args!("images to train on are mixed in pairs, and their labels with them ({options})"));
        }
    }
}
