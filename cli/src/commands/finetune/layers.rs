//! Rates by depth: lower ones for lower layers.
//!
//! How deep a parameter lies is told by the recording alone: layers come in the order in which they were recorded, and a
//! layer's parameters share the name before their last part. No network's names are known here.

use super::recipe::{Layers, Phase};
use super::settings::Settings;
use crate::failure::Failure;
use nunatak_core::program::{EntryKind, Program};
use nunatak_nn::{Optimizer, Select, Sgd};

/// Steps of the rate between the first layer and the head, at most: an entry's group is a byte.
const STEPS: usize = 200;

/// The settings of SGD of every parameter.
#[derive(Debug)]
pub(super) struct Rates {
    all: Sgd,
    /// The group of each entry, counted from 1; 0 is `all`.
    of_entry: Vec<u8>,
    groups: Vec<Sgd>,
}

impl Rates {
    /// Those of a part of a run, whose program trains what is trained in it.
    pub(super) fn of(settings: &Settings, phase: &Phase, program: &Program) -> Rates {
        let all = settings.sgd(phase.lr);
        let Some(Layers { head, spread }) = phase.layers else { return Rates::same(all) };
        let depths = depths(program);
        let layers =
            depths.iter().filter_map(|depth| if let Depth::Layer(number) = depth { Some(number + 1) } else { None }).max().unwrap_or(1);
        let steps = layers.min(STEPS);
        // The last layer below the head has the highest rate.
        let height = |step: usize| if steps > 1 { step as f64 / (steps - 1) as f64 } else { 1.0 };
        let factor = |step: usize| f64::from(spread).powf(height(step) - 1.0) as f32;
        let groups = (0..steps).map(|step| settings.sgd(phase.lr * factor(step))).chain([settings.sgd(head)]).collect();
        let group = |depth: &Depth| match depth {
            Depth::Layer(number) => (number * steps / layers) as u8 + 1,
            Depth::Head => steps as u8 + 1,
            Depth::Nothing => 0,
        };
        Rates { all, of_entry: depths.iter().map(group).collect(), groups }
    }

    /// The same rate for everything.
    pub(super) fn same(sgd: Sgd) -> Rates {
        Rates { all: sgd, of_entry: Vec::new(), groups: Vec::new() }
    }

    /// The optimiser, with `factor` times the rates.
    ///
    /// # Errors
    /// [`Failure::Usage`] where a number makes no sense.
    pub(super) fn optimizer(&self, factor: f32) -> Result<Optimizer<'_>, Failure> {
        let optimizer = Optimizer::new(self.all).and_then(|plain| plain.numbered_groups(&self.of_entry, &self.groups));
        optimizer.map_err(Failure::usage)?.scaled(factor).map_err(Failure::from)
    }
}

/// Where an entry belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// To the layer with this number, from the first that is recorded.
    Layer(usize),
    Head,
    /// It is no parameter.
    Nothing,
}

/// Where each entry belongs.
fn depths(program: &Program) -> Vec<Depth> {
    let (mut layers, mut depths): (Vec<&str>, _) = (Vec::new(), Vec::new());
    for id in program.entries() {
        let entry = program.entry(id);
        if entry.kind() != EntryKind::Parameter {
            depths.push(Depth::Nothing);
            continue;
        }
        if Select::Head.has(entry.name(), program.head()) {
            depths.push(Depth::Head);
            continue;
        }
        let layer = entry.name().rsplit_once('.').map_or("", |(layer, _)| layer);
        let number = layers.iter().position(|known| *known == layer).unwrap_or_else(|| {
            layers.push(layer);
            layers.len() - 1
        });
        depths.push(Depth::Layer(number));
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::super::settings::Choices;
    use super::*;
    use crate::args::{architectures, network};

    /// Of every network: from the first layer to the last rates never fall, the first is `spread` times lower than the last,
    /// and the head has its own.
    #[test]
    fn rates_rise_from_layer_to_layer() {
        let settings = Choices { lr: Some(0.5), ..Choices::default() }.settle(None, None).unwrap();
        let layers = Some(Layers { head: 2.0, spread: 100.0 });
        let phase = Phase { layers, ..settings.phases().unwrap().remove(0) };
        for name in architectures() {
            let program = network(name, Some(3)).unwrap().program().unwrap();
            let rates = Rates::of(&settings, &phase, &program);
            let optimizer = rates.optimizer(0.5).unwrap();
            let parameters = || program.entries().filter(|id| program.entry(*id).kind() == EntryKind::Parameter);
            let lr = |id| optimizer.of_entry(id, program.entry(id).name()).lr;
            let of_head = |id: &nunatak_nn::EntryId| Select::Head.has(program.entry(*id).name(), program.head());
            let below: Vec<f32> = parameters().filter(|id| !of_head(id)).map(lr).collect();
            assert!((below[0] - 0.0025).abs() < 1e-8 && below.is_sorted() && below[below.len() - 1] == 0.25, "{name}: {below:?}");
            assert!(parameters().any(|id| of_head(&id)) && parameters().filter(of_head).map(lr).all(|lr| lr == 1.0), "{name}");
        }
    }

    #[test]
    fn without_a_spread_there_are_no_groups() {
        let settings = Choices::default().settle(None, None).unwrap();
        let program = network("resnet8", Some(3)).unwrap().program().unwrap();
        let rates = Rates::of(&settings, &settings.phases().unwrap()[0], &program);
        assert!(rates.groups.is_empty() && rates.of_entry.is_empty());
    }
}
