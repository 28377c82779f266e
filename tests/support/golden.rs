//! Scenarios that PyTorch ran in float64, and this library's run of the same.

use crate::{Setup, distance, gradient, numbers, plan};
use nunatak_nn::files::Checkpoint;
use nunatak_nn::{
    Algorithm, CrossEntropyOptions, EntryKind, Level, Loss, Mode, NormPolicy, Optimizer, Recipe, Sgd, Stem, Threads, Trainer, Update,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a run gives, by the names of the program `nunatak step`.
pub type Result = BTreeMap<String, Vec<f32>>;

/// The folder with the goldens.
pub fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// A scenario with PyTorch's answers.
#[derive(Debug)]
pub struct Golden {
    /// The file's name.
    pub name: String,
    scenario: Value,
    first: f64,
    rest: f64,
    tensors: BTreeMap<String, Vec<f64>>,
    labels: Vec<i64>,
    shape: [usize; 4],
    bytes: Vec<u8>,
}

impl Golden {
    /// Every scenario there is.
    pub fn all() -> Vec<Golden> {
        let mut paths: Vec<_> =
            std::fs::read_dir(golden_folder().join("steps")).expect("goldens").map(|e| e.expect("entry").path()).collect();
        paths.sort();
        assert!(paths.len() >= 16, "goldens are missing: run tests/golden/make.py");
        paths.into_iter().map(|path| Golden::load(&path)).collect()
    }

    fn load(path: &std::path::Path) -> Golden {
        let bytes = std::fs::read(path).expect("a golden");
        let file = Checkpoint::parse_all(&bytes).expect("a golden parses");
        let meta = |key: &str| file.metadata().get(key).unwrap_or_else(|| panic!("{key}")).clone();
        let scenario: Value = serde_json::from_str(&meta("scenario")).expect("a scenario");
        let mut tensors = BTreeMap::new();
        let mut room = Vec::new();
        for entry in file.entries().iter().filter(|e| !e.name().starts_with("initial.")) {
            entry.read_f32(&mut room).expect("numbers");
            tensors.insert(entry.name().to_string(), room.iter().map(|v| f64::from(*v)).collect());
        }
        let labels = file.get("labels").expect("labels").read_i64().unwrap_or_default();
        let shape = file.get("input").expect("input").shape().try_into().expect("n x c x h x w");
        let [first, rest] = ["first", "rest"].map(|k| meta(k).parse().expect("a yardstick"));
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        Golden { name, scenario, first, rest, tensors, labels, shape, bytes }
    }

    fn number(&self, key: &str) -> f32 {
        self.scenario[key].as_f64().unwrap_or_else(|| panic!("{key}")) as f32
    }

    /// The network.
    pub fn recipe(&self) -> Recipe {
        let r = &self.scenario["recipe"];
        let int = |v: &Value| v.as_u64().expect("a number") as usize;
        let list = |v: &Value| v.as_array().expect("a list").iter().map(int).collect::<Vec<_>>();
        let stem = &r["stem"];
        let pool = stem["pool"].as_bool().expect("pool");
        let stem = Stem { kernel: int(&stem["kernel"]), stride: int(&stem["stride"]), pad: int(&stem["pad"]), pool };
        Recipe::new(&list(&r["layers"]), &list(&r["widths"]), stem, int(&r["in_channels"]), int(&r["classes"])).expect("a recipe")
    }

    /// The optimizer.
    pub fn optimizer(&self) -> Optimizer<'static> {
        let flag = |key: &str| self.scenario[key].as_bool().expect("a flag");
        Optimizer::new(Sgd {
            lr: self.number("lr"),
            momentum: self.number("momentum"),
            dampening: self.number("dampening"),
            weight_decay: self.number("weight_decay"),
            nesterov: flag("nesterov"),
            maximize: flag("maximize"),
        })
        .expect("settings")
    }

    /// What is trained: names and prefixes with commas between.
    fn trainable(&self) -> String {
        let names = self.scenario["trainable"].as_array().expect("names").iter().map(|v| v.as_str().expect("a name"));
        let all = names.collect::<Vec<_>>().join(",");
        if all.is_empty() { "none".to_string() } else { all }
    }

    /// The step, as it is planned.
    fn setup<'a>(&self, trainable: &'a str, update: Update, threads: usize, algorithm: Option<Algorithm>) -> Setup<'a> {
        let [batch, _, height, width] = self.shape;
        Setup {
            mode: if self.scenario["mode"] == "train" { Mode::Train } else { Mode::Eval },
            norm_policy: NormPolicy::Updating,
            trainable,
            loss: match self.scenario["loss"].as_str() {
                Some("sum") => Loss::Sum,
                Some("mse") => Loss::MeanSquaredError,
                Some("cross-entropy") => Loss::CrossEntropy(CrossEntropyOptions::default()),
                Some("probabilities") => Loss::CrossEntropyProbabilities(CrossEntropyOptions::default()),
                other => panic!("no loss {other:?}"),
            },
            threads,
            update,
            momentum: self.number("momentum") != 0.0,
            algorithms: [algorithm; 3],
            ..Setup::inference(self.recipe(), batch, height, width)
        }
    }

    /// This library's answers. Where the update is during the walk there are no gradients among them.
    pub fn run(&self, level: Level, threads: Threads, update: Update, algorithm: Option<Algorithm>) -> Result {
        let trainable = self.trainable();
        let setup = self.setup(&trainable, update, threads.count(), algorithm);
        let (program, values) = plan(&setup);
        let mut memory = vec![0x5a; Trainer::bytes(&program)];
        let mut trainer = Trainer::new(program, &mut memory, level, threads).expect("memory");
        self.start(&mut trainer);
        let f32s = |name: &str| self.tensors[name].iter().map(|v| *v as f32).collect::<Vec<_>>();
        let (data, labels) = (f32s("input"), f32s("labels"));
        let optimizer = self.optimizer();
        let mut out = Result::new();
        for step in 0..self.tensors["loss"].len() {
            trainer.set_input(values.data, &data).expect("input");
            let place = values.labels.expect("labels");
            match setup.loss {
                Loss::CrossEntropy(_) => trainer.set_labels(place, &self.labels).expect("labels"),
                _ => trainer.set_input(place, &labels).expect("labels"),
            }
            trainer.forward().expect("forward");
            out.entry("loss".into()).or_default().push(trainer.scalar(values.loss.expect("loss")).expect("loss"));
            if step == 0 {
                let mut y = vec![f32::NAN; setup.batch * setup.recipe.classes];
                trainer.value(values.prediction, &mut y).expect("prediction");
                out.insert("prediction".into(), y);
            }
            if !trainer.trains() {
                continue;
            }
            if update == Update::After {
                trainer.zero_grad();
                trainer.backward().expect("backward");
                for id in trainer.gradients().filter(|_| step == 0) {
                    out.insert(format!("grad.{}", trainer.program().entry(id).name()), gradient(&trainer, id));
                }
                trainer.step(optimizer).expect("step");
            } else {
                trainer.backward_and_step(optimizer).expect("step");
            }
        }
        let program = trainer.program();
        for id in program.entries() {
            let entry = program.entry(id);
            let mut room = match entry.kind() {
                EntryKind::Count => vec![trainer.count(id) as f32],
                _ => numbers(&trainer, id),
            };
            out.insert(format!("state.{}", entry.name()), room.clone());
            if trainer.has_momentum(id) {
                trainer.momentum(id, &mut room).expect("momentum");
                out.insert(format!("momentum.{}", entry.name()), room);
            }
        }
        out
    }

    /// Sets the initial state.
    fn start(&self, trainer: &mut Trainer) {
        let file = Checkpoint::parse_all(&self.bytes).expect("parses");
        let mut room = Vec::new();
        for id in trainer.program().entries() {
            let tensor = file.get(&format!("initial.{}", trainer.program().entry(id).name())).expect("an initial tensor");
            match trainer.program().entry(id).kind() {
                EntryKind::Count => trainer.set_count(id, tensor.read_i64().expect("a count")[0]),
                _ => {
                    tensor.read_f32(&mut room).expect("numbers");
                    trainer.set_entry(id, &room).expect("an entry");
                }
            }
        }
    }

    /// Panics where `got` is further from PyTorch's float64 than the semantics allow; returns the two
    /// largest d, of the first prediction and loss, and of everything else.
    pub fn check(&self, what: &str, got: &Result) -> (f64, f64) {
        let with_gradients = got.keys().any(|k| k.starts_with("grad."));
        let (mut first, mut rest) = ((0.0_f64, String::new()), (0.0_f64, String::new()));
        let see = |worst: &mut (f64, String), name: &str, got: &[f32], truth: &[f64]| {
            let d = distance(got, truth);
            if d.is_nan() || d >= worst.0 {
                *worst = (d, name.to_string());
            }
        };
        let known = |k: &&String| !matches!(k.as_str(), "input" | "labels") && (with_gradients || !k.starts_with("grad."));
        let due: Vec<_> = self.tensors.keys().filter(known).collect();
        assert_eq!(due, got.keys().collect::<Vec<_>>(), "{} {what}: other tensors than PyTorch's", self.name);
        for name in due {
            let (got, truth) = (&got[name], &self.tensors[name]);
            match name.as_str() {
                "prediction" => see(&mut first, name, got, truth),
                "loss" => {
                    see(&mut first, name, &got[..1], &truth[..1]);
                    (1..truth.len()).for_each(|i| see(&mut rest, &format!("loss[{i}]"), &got[i..=i], &truth[i..=i]));
                }
                _ => see(&mut rest, name, got, truth),
            }
        }
        for ((d, name), yardstick) in [(&first, self.first), (&rest, self.rest)] {
            let tolerance = (4.0 * yardstick).max(5e-5);
            assert!(*d <= tolerance, "{} {what}: {name} is off by {d:.1e}, {tolerance:.1e} is allowed", self.name);
        }
        (first.0, rest.0)
    }
}
